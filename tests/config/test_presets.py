"""`preset: paper`: below the user's keys, in the keys of stages, and as docs/scorers.md lists it."""

import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import REPOSITORY, rows_of, section

from betr_spark.config import Config, load_config, presets
from betr_spark.errors import ConfigError

MINIMAL = {"input": {"path": "docs"}, "output": "out", "targets": {"t": {"path": "t.jsonl", "template": "{q}"}}}
SCORERS = {
    "betr": {},
    "classifier": {"kind": "classifier"},
    "teacher": {"kind": "teacher", "path": "p"},
    "d": {"kind": "dsir"},
}


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from flat(value, f"{prefix}{name}.")
    else:
        yield prefix.removesuffix("."), values


def differences() -> dict[str, tuple[Any, Any]]:
    """What the preset changes, by key: its value and the default."""
    paper, default = (
        dict(flat(load_config({**MINIMAL, "scorers": SCORERS, **more}).model_dump()))
        for more in ({"preset": "paper"}, {})
    )
    keys = dict.fromkeys([*paper, *default])
    return {
        key: (paper.get(key), default.get(key))
        for key in keys
        if paper.get(key) != default.get(key) and key != "preset"
    }


def test_the_table_of_differences_is_complete_and_right() -> None:
    documented: dict[str, tuple[str, str]] = {}
    for key, paper, default in rows_of(section(REPOSITORY / "docs/scorers.md", "## The preset paper"))[1:]:
        name, _, kinds = key.partition(" ")
        for kind in kinds.strip("()").split(", "):
            documented[name.strip("`").replace("NAME", kind)] = paper.strip("`"), default.strip("`")
    differing = {key: (str(paper), str(default)) for key, (paper, default) in differences().items()}
    default_recipe = differing["scorers.classifier.recipe"][1]  # not in a dump
    assert default_recipe == "None"
    differing["scorers.classifier.recipe"] = ("paper", "dclm")
    assert documented == differing


def test_the_values_are_the_published_ones() -> None:
    config = load_config({**MINIMAL, "preset": "paper"})
    betr: Any = config.scorers["betr"]
    assert (betr.model, betr.lr, betr.epochs, betr.dim) == ("fasttext", 0.03, 5, 128)
    assert (config.sample.documents, config.encoder.max_tokens, config.labels.positive_fraction) == (
        10_000_000,
        8192,
        0.1,
    )
    assert config.encoder.model == "Snowflake/snowflake-arctic-embed-l-v2.0"
    assert config.targets["t"].balance == "equal"
    assert config.selections["betr-10"].keep.token_fraction == 0.1


def test_keys_of_the_user_and_overrides_are_above_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(
        "preset: paper\ninput: {path: d}\noutput: o\nencoder: {max_tokens: 512}\n"
        "targets: {t: {path: t.jsonl, template: '{q}', balance: none}}\nscorers: {a: {lr: auto}, l: {model: linear}}\n",
        encoding="utf-8",
    )
    config = load_config(path, ("sample.documents=7", "encoder.model=minilm"))
    first, linear = config.scorers["a"], config.scorers["l"]
    assert (config.sample.documents, config.encoder.max_tokens, config.encoder.model) == (7, 512, "minilm")
    assert (first.lr, first.epochs, first.model) == ("auto", 5, "fasttext")  # type: ignore[union-attr]
    assert (linear.model, linear.lr) == ("linear", "auto")  # type: ignore[union-attr]
    assert config.targets["t"].balance == "none"
    assert Config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "papr"}, r"^config\.preset: unknown preset 'papr'; did you mean 'paper'\?$"),
        ({"preset": ["x"]}, r"^config\.preset: unknown preset '\['x'\]'; known presets are paper$"),
        ({"preset": "paper", "scorers": [1]}, r"^config\.scorers: "),
        ({"preset": "paper", "sample": 3}, r"^config\.sample: "),
        ({"preset": "paper", "targets": {"t": 3}}, r"^config\.targets\.t: "),
    ],
)
def test_what_is_wrong_is_named_by_its_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({**MINIMAL, **values})


def test_the_docstrings_run() -> None:
    assert doctest.testmod(presets).failed == 0
