"""`targets.NAME.split` and `targets.NAME.balance`: who takes part, where the test items go, and which stages run again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import settings

from betr_spark.config import Config, TargetConfig, load_config
from betr_spark.config.scorers import ClassifierScorer
from betr_spark.contamination.test_files import items_key, read_items
from betr_spark.errors import ConfigError, DataError
from betr_spark.evaluate import stage as evaluation
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.stage import rank_key
from betr_spark.targets.choice import parts_of
from betr_spark.targets.examples import Example, examples_of
from betr_spark.targets.reading import Benchmark, targets_of
from betr_spark.training.kinds import kind_of
from betr_spark.training.training_data import target_versions


def target(**more: Any) -> TargetConfig:
    return TargetConfig(path="t.jsonl", template="{q}", **more)


def content(*texts: str) -> bytes:
    return "".join(json.dumps({"q": text}) + "\n" for text in texts).encode()


def test_a_split_has_the_share_and_depends_on_the_text_alone() -> None:
    examples = [Example("b", row, f"text {row}") for row in range(3000)]
    train, test = parts_of("b", target(split={"test": 0.67}), examples)
    assert abs(len(test) / 3000 - 0.67) < 0.03  # 3 and a half standard errors
    assert {example.row for example in train} | {example.row for example in test} == set(range(3000))
    turned = [Example("b", row, f"  TEXT\n{2999 - row}") for row in range(3000)]
    _, again = parts_of("b", target(split={"test": 0.67}), turned)
    assert {2999 - example.row for example in again} == {example.row for example in test}
    _, fewer = parts_of("b", target(split={"test": 0.3}), examples)
    assert {example.row for example in fewer} < {example.row for example in test}


def test_a_split_that_leaves_nothing_is_named() -> None:
    same = [Example("b", row, "same") for row in range(9)]
    for share, lacking in ((0.999999, "training example"), (0.000001, "test item")):
        with pytest.raises(
            DataError, match=rf"^t\.jsonl: targets\.b\.split leaves no {lacking} of 9 rows; change test"
        ):
            parts_of("b", target(split={"test": share}), same)


def test_split_and_test_are_not_both_possible() -> None:
    base = {"input": {"path": "d"}, "output": "o"}
    both = {"path": "t", "template": "{q}", "test": "u", "split": {"test": 0.5}}
    with pytest.raises(ConfigError, match=r"^config\.targets\.t: test and split cannot both be given"):
        load_config({**base, "targets": {"t": both}})
    with pytest.raises(ConfigError, match=r"^config\.targets\.t\.split\.tst: unknown key; did you mean 'test'"):
        load_config({**base, "targets": {"t": {"path": "t", "template": "{q}", "split": {"test": 0.5, "tst": 1}}}})
    with pytest.raises(ConfigError, match=r"^config\.targets\.t\.split\.test: .*less than 1, found 1"):
        load_config({**base, "targets": {"t": {"path": "t", "template": "{q}", "split": {"test": 1}}}})


def test_test_items_of_a_split_are_no_targets_and_balance_counts_what_is_left() -> None:
    rows = {"a": 90, "b": 40, "c": 20}
    configs = {"a": target(balance="none"), "b": target(split={"test": 0.5}), "c": target(examples=15)}
    files = {name: Benchmark(content(*[f"{name} {row}" for row in range(count)]), None) for name, count in rows.items()}
    counts = Counter(example.benchmark for example in targets_of(configs, files))
    n_train = len(parts_of("b", configs["b"], examples_of("b", configs["b"], files["b"].train)).train)
    assert 10 < n_train < 30
    assert counts == {"a": 90, "b": min(15, n_train), "c": min(15, n_train)}
    capped = {**configs, "a": target(balance="none", examples=50)}
    assert Counter(example.benchmark for example in targets_of(capped, files))["a"] == 50
    alone = {name: target(balance="none") for name in rows}
    assert Counter(example.benchmark for example in targets_of(alone, files)) == rows


def test_settings_of_before_have_the_same_dump() -> None:
    dump = {"path": "t.jsonl", "template": "{q}", "jinja": None, "format": None, "examples": None, "test": None}
    assert target().model_dump() == target(balance="equal").model_dump() == dump
    assert set(target(balance="none", split={"test": 0.1}).model_dump()) == {*dump, "balance", "split"}
    scorer = ClassifierScorer(kind="classifier", positives=target())
    assert scorer.model_dump() == {
        "kind": "classifier", "positives": dump, "dim": 100, "lr": "auto", "epochs": "auto", "threads": 1, "seed": 0,
    }  # fmt: skip
    assert ClassifierScorer(kind="classifier", recipe="paper").model_dump()["recipe"] == "paper"


@pytest.fixture
def values(tmp_path: Path, encoder: Path, targets: Path) -> dict[str, Any]:
    chosen = settings(tmp_path / "docs", tmp_path / "out", encoder, targets)
    return {**chosen, "scorers": {"q": {"kind": "expression", "column": "url"}, "betr": {}, "d": {"kind": "dsir"}}}


def changed(values: dict[str, Any], **more: Any) -> Config:
    cooking = {**values["targets"]["cooking"], **more}
    return Config.model_validate({**values, "decontaminate": {}, "targets": {**values["targets"], "cooking": cooking}})


def test_the_items_of_a_split_are_looked_for_and_evaluated(spark: Any, values: dict[str, Any]) -> None:
    config = changed(values, split={"test": 0.5})
    cooking = config.targets["cooking"]
    rows = examples_of("cooking", cooking, Path(cooking.path).read_bytes())
    train, test = parts_of("cooking", cooking, rows)
    assert [(item.benchmark, item.row, item.text) for item in read_items(spark, config)] == test
    evaluation.check(config.model_copy(update={"selections": {"b": config.selections["best-50"]}}))
    assert evaluation._items(spark, config) == [("cooking", "target", [item.text for item in test])]
    assert "no `split`: sailing" in evaluation.caveats(config)[-1]
    assert {item.text for item in test}.isdisjoint(item.text for item in train)


def test_a_split_divides_positives_and_off_target_files(spark: Any, values: dict[str, Any]) -> None:
    config = changed(values, split={"test": 0.5})
    cooking = config.targets["cooking"]
    scorers = {"c": ClassifierScorer(kind="classifier", positives=cooking)}
    off_target = config.evaluate.model_copy(update={"off_target": {"o": cooking}})
    config = config.model_copy(update={"scorers": scorers, "evaluate": off_target})
    parts = parts_of("cooking", cooking, examples_of("cooking", cooking, Path(cooking.path).read_bytes()))
    train, test = ([row.text for row in part] for part in parts)
    assert [example.text for example in kind_of(config, "c")._positives(spark)] == train
    assert evaluation._items(spark, config) == [("cooking", "target", test), ("o", "off_target", test)]


def test_a_change_of_split_or_balance_runs_the_stages_that_it_changes(spark: Any, values: dict[str, Any]) -> None:
    def keys(config: Config) -> dict[str, str]:
        context = RunContext(spark, config)
        return {
            "rank": rank_key(context).key,
            "train": target_versions(context)["targets.cooking"],
            "items": json.dumps(items_key(spark, config)["files"], sort_keys=True),
            "evaluate": evaluation.Evaluate().key(context).key,
        }

    test = {"test": str(values["targets"]["sailing"]["path"])}
    base, half, third = (
        keys(changed(values, **more)) for more in (test, {"split": {"test": 0.5}}, {"split": {"test": 0.3}})
    )
    assert all(len({base[name], half[name], third[name]}) == 3 for name in base)
    unbalanced = keys(changed(values, **test, balance="none"))
    assert {name for name in base if base[name] != unbalanced[name]} == {"rank", "train", "evaluate"}
    assert keys(changed(values, **test, balance="equal")) == base


@pytest.mark.parametrize(
    ("more", "is_refused"),
    [
        ({"targets": {"c": {"path": "t.jsonl", "template": "{q} {a}", "split": {"test": 0.5}}}}, True),
        ({"targets": {"c": {"path": "t.jsonl", "template": "{q}"}}}, True),
        ({"scorers": {"s": {"kind": "classifier", "positives": {"path": "t.jsonl", "template": "{q}"}}}}, True),
        ({"evaluate": {"off_target": {"o": {"path": "t.jsonl", "template": "{q}"}}}}, True),
        ({"targets": {"c": {"path": "t.jsonl", "template": "{q}", "split": {"test": 0.5}}}}, False),
        ({"targets": {"c": {"path": "u.jsonl", "template": "{q}"}}}, False),
    ],
)
def test_a_file_is_divided_in_one_way(more: dict[str, Any], is_refused: bool) -> None:
    """Otherwise the test items of one use are examples of another."""
    b = {"path": "t.jsonl", "template": "{q}", "split": {"test": 0.5}}
    values = {"input": {"path": "docs"}, "output": "out", "selections": {}, **more}
    values["targets"] = {"b": b, **more.get("targets", {})}
    if is_refused:
        with pytest.raises(ConfigError, match=r"targets\.b\.split makes test items of a part of the rows of t\.jsonl"):
            load_config(values)
    else:
        load_config(values)
