"""Every kind of scorer from its settings to its column in `features` and its selection."""

import json
import random
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import settings
from scipy.stats import spearmanr

from betr_spark.config import Config
from betr_spark.config.scorers import FastTextScorer
from betr_spark.errors import ArtifactError, ConfigError, DataError, SchemaError
from betr_spark.kernels.text_preparation import as_buffers, prepare
from betr_spark.pipeline.run import run_all
from betr_spark.report.compare import compare
from betr_spark.training.fasttext import score_texts
from betr_spark.training.training_data import versions

LABEL = "__label__hq"


@pytest.fixture(scope="module")
def texts(corpus: list[dict[str, Any]]) -> dict[str, str]:
    return {row["id"]: row["text"] for row in corpus}


@pytest.fixture(scope="module")
def whole(
    spark: Any,
    texts: dict[str, str],
    corpus: list[dict[str, Any]],
    encoder: Path,
    targets: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    """Features of a corpus with a number in it, by a scorer of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "docs").mkdir()
    pick = random.Random(3)
    quality = [None if i % 11 == 0 else float("nan") if i % 13 == 0 else pick.random() for i in range(len(corpus))]
    table = pa.Table.from_pylist([{k: row[k] for k in ("id", "source", "text", "url")} for row in corpus])
    pq.write_table(table.append_column("quality", pa.array(quality)), folder / "docs/part.parquet")
    lengths = pa.table({"key": list(texts), "points": [len(text) for text in texts.values()]})
    (folder / "teacher").mkdir()
    pq.write_table(lengths, folder / "teacher/part.parquet")
    lines = folder / "lines.txt"
    prepared = [prepare(text) for text in texts.values() if prepare(text).strip()]
    named = [f"{LABEL if 'harbour' in t or 'tide' in t else '__label__cc'} {t}" for t in prepared]
    lines.write_text("\n".join(named) + "\n", encoding="utf-8", newline="\n")
    model = fasttext.train_supervised(
        input=str(lines), thread=1, verbose=0, epoch=10, lr=0.5, dim=16, wordNgrams=2, bucket=700_000
    )
    model.save_model(str(folder / "hq.bin"))
    small = {"dim": 16, "lr": 1.0, "epochs": 20}
    values = settings(folder / "docs", folder / "out", encoder, targets)
    values["scorers"] = {
        "betr": {**small, "per_benchmark": True},
        "order": {"per_benchmark": True},
        "dclm": {"kind": "classifier", **small},
        "distilled": {"kind": "teacher", "path": str(folder / "teacher"), "id": "key", "score": "points", **small},
        "ratio": {"kind": "dsir", "buckets": 1000},
        "ratio_mean": {"kind": "dsir", "buckets": 1000, "normalize": "mean", "noise": True},
        "hq": {"kind": "fasttext", "path": str(folder / "hq.bin"), "label": LABEL},
        "quality": {"kind": "expression", "column": "quality"},
        "dice": {"kind": "random", "seed": 4},
    }
    names = ("betr", "order", "betr_sailing", "dclm", "ratio", "ratio_mean", "quality", "dice")
    values["selections"] = {name: {"scorer": name, "keep": {"documents": 40}} for name in names}
    config = Config.model_validate(values)
    for command in ("rank", "train", "features"):
        run_all(spark, config, command)
    return config


def rows_of(spark: Any, config: Config, table: str) -> dict[str, Any]:
    return {row["doc_id"]: row for row in spark.read.format("delta").load(config.table(table)).collect()}


def about(config: Config, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(config.table(f"scorers/{name}/scorer.json")).read_text())
    return found


def test_every_scorer_has_a_column_and_columns_are_nulls_without_text_alone(spark: Any, whole: Config) -> None:
    found = rows_of(spark, whole, "features")
    names = [
        "betr",
        "betr_cooking",
        "betr_sailing",
        "order",
        "order_cooking",
        "order_sailing",
        "dclm",
        "distilled",
        "ratio",
        "ratio_mean",
        "hq",
        "quality",
    ]
    assert [c for c in next(iter(found.values())).asDict() if c.startswith("logit_")] == [f"logit_{n}" for n in names]
    for name in names[:-1]:
        assert all((row[f"logit_{name}"] is None) == (row["n_words"] == 0) for row in found.values())


def test_a_column_is_a_score_and_no_number_is_none(spark: Any, whole: Config) -> None:
    column = pq.read_table(whole.input.path, columns=["id", "quality"]).to_pylist()
    found = rows_of(spark, whole, "features")
    for row in column:
        own = found[row["id"]]
        number = (
            row["quality"]
            if own["n_words"] and row["quality"] is not None and row["quality"] == row["quality"]
            else None
        )
        assert own["logit_quality"] == (None if number is None else np.float32(number))


def test_a_user_s_model_scores_as_fasttext_does(spark: Any, whole: Config, texts: dict[str, str]) -> None:
    model = fasttext.load_model(whole.scorers["hq"].path)
    found = rows_of(spark, whole, "features")
    for doc, text in list(texts.items())[:200]:
        if found[doc]["logit_hq"] is not None:
            own = {label: p for p, label in model.f.predict(prepare(text) + "\n", 2, 0.0, "strict")}[LABEL]
            assert 1 / (1 + np.exp(-found[doc]["logit_hq"])) == pytest.approx(own, abs=1e-4)


def test_log_ratios_are_those_of_the_examples_against_the_sample(
    spark: Any, whole: Config, texts: dict[str, str], targets: Path
) -> None:
    from betr_spark.scoring.dsir import LogRatioTable, bucket_counts

    sampled = [row["text"] for row in spark.read.format("delta").load(whole.table("_sample")).collect()]
    lines = [json.loads(line) for name in ("cooking", "sailing") for line in (targets / f"{name}.jsonl").open()]
    counts = [
        bucket_counts(*as_buffers(part), n_buckets=1000)
        for part in ([f"{row['question']}\n{row['answer']}" for row in lines], sampled)
    ]
    found = rows_of(spark, whole, "features")
    for name, per_feature in (("ratio", False), ("ratio_mean", True)):
        table = LogRatioTable.fit(*counts, per_feature=per_feature)
        logits = score_texts(list(texts.values()), table)
        own = [found[doc][f"logit_{name}"] for doc in texts]
        np.testing.assert_array_equal([np.nan if v is None else np.float32(v) for v in own], logits)


def test_a_teacher_s_order_is_learnt_and_a_classifier_finds_the_targets(spark: Any, whole: Config) -> None:
    found = [row for row in rows_of(spark, whole, "features").values() if row["n_words"]]
    by_topic = {
        t: np.mean([r["logit_dclm"] for r in found if r["source"] == t]) for t in ("kitchen", "harbour", "orchard")
    }
    assert min(by_topic["kitchen"], by_topic["harbour"]) > by_topic["orchard"]
    assert about(whole, "distilled")["metrics"]["n_positive"] >= 20
    assert about(whole, "dclm")["settings"]["ws"] == 5
    assert about(whole, "betr")["settings"]["ws"] == 10


def test_scorer_json_has_the_evaluation_of_every_kind(whole: Config) -> None:
    for name in whole.trained_scorers():
        found = about(whole, name)
        assert {"spearman", "recall_at_1_percent", "recall_at_30_percent", "spearman_length"} <= set(found["metrics"])
        assert set(found["evaluation"]["recall_at_10_percent_by_benchmark"]) <= {"cooking", "sailing"}
        assert "kitchen" in found["evaluation"]["source_shares"]
    assert about(whole, "betr")["metrics"]["spearman"] > 0.3


def test_selections_take_the_best_and_noise_changes_them(spark: Any, whole: Config) -> None:
    run_all(spark, whole, "dedup")
    run_all(spark, whole, "select")
    found = rows_of(spark, whole, "features")
    removed = set(rows_of(spark, whole, "duplicates"))
    for name in ("betr", "order", "betr_sailing", "dclm", "ratio", "quality"):
        left = [r for r in found.values() if r["doc_id"] not in removed and r[f"logit_{name}"] is not None]
        wanted = sorted((row[f"logit_{name}"] for row in left), reverse=True)[:40]
        kept = spark.read.format("delta").load(whole.table(f"selected/{name}")).orderBy("rank").collect()
        assert [row["logit"] for row in kept] == wanted
    noisy = spark.read.format("delta").load(whole.table("selected/ratio_mean")).collect()
    noise = [row["logit"] - found[row["doc_id"]]["logit_ratio_mean"] for row in noisy]
    assert len(noisy) == 40
    assert np.std(noise) > 0.3


@pytest.mark.parametrize(("scorer", "made"), [("betr", ("loss", "ova")), ("order", ("model", "linear"))])
def test_a_head_a_benchmark_tells_which_benchmark_a_document_serves(
    spark: Any, whole: Config, scorer: str, made: tuple[str, str]
) -> None:
    ranked = rows_of(spark, whole, "ranked_sample")
    for row in ranked.values():
        assert set(row["by_benchmark"]) == {"cooking", "sailing"}
        assert row["by_benchmark"][row["best_benchmark"]]["score"] == row["target_score"] == 1 / row["best_rank"]
    features = rows_of(spark, whole, "features")
    for benchmark, source in (("cooking", "kitchen"), ("sailing", "harbour")):
        found = about(whole, f"{scorer}_{benchmark}")
        assert found["settings"]["benchmark"] == benchmark
        assert found["settings"][made[0]] == made[1]
        assert found["metrics"]["validation_auc"] > 0.7
        own = [(r["source"], r[f"logit_{scorer}_{benchmark}"]) for r in features.values() if r["n_words"]]
        means = {t: np.mean([logit for topic, logit in own if topic == t]) for t in ("kitchen", "harbour", "orchard")}
        assert max(means, key=lambda t: means[t]) == source
    run_all(spark, whole, "dedup")
    run_all(spark, whole, "select")
    kept = spark.read.format("delta").load(whole.table(f"selected/{scorer}")).collect()
    for row in kept:
        heads = {name: features[row["doc_id"]][f"logit_{scorer}_{name}"] for name in ("cooking", "sailing")}
        assert row["best_benchmark"] == max(heads, key=lambda name: heads[name])
    assert "best_benchmark" not in spark.read.format("delta").load(whole.table("selected/dclm")).columns


def test_heads_that_are_gone_or_another_scorer_s_are_made_again(spark: Any, whole: Config) -> None:
    before = about(whole, "betr_cooking")["sha256"]
    Path(whole.table("scorers/betr_cooking/scorer.json")).unlink()
    assert {done.stage for done in run_all(spark, whole, "train") if not done.skipped} == {"train/betr"}
    assert about(whole, "betr_cooking")["sha256"] == before
    foreign = {**whole.model_dump(), "scorers": {"betr_cooking": {"kind": "dsir"}}, "selections": {}}
    run_all(spark, Config.model_validate(foreign), "train")
    assert {done.stage for done in run_all(spark, whole, "train") if not done.skipped} == {"train/betr"}
    assert about(whole, "betr_cooking")["sha256"] == before


def test_compare_sets_every_two_scorers_side_by_side(spark: Any, whole: Config) -> None:
    pairs, count = compare(spark, whole, percent=10)
    found = rows_of(spark, whole, "features")
    assert count == len(found)
    assert len(pairs) == 8 * 7 / 2
    by_name = {(pair.one, pair.other): pair for pair in pairs}
    for one, other in (("betr", "dclm"), ("ratio", "quality")):
        both = [row for row in found.values() if None not in (row[f"logit_{one}"], row[f"logit_{other}"])]
        a, b = ([row[f"logit_{name}"] for row in both] for name in (one, other))
        assert by_name[one, other].spearman == pytest.approx(spearmanr(a, b).statistic)
        top = round(len(both) / 10)
        best = [set(np.argsort(-np.array(values), kind="stable")[:top].tolist()) for values in (a, b)]
        assert by_name[one, other].overlap == pytest.approx(
            len(best[0] & best[1]) / top, abs=2 / top
        )  # ties at the cut
    with pytest.raises(ConfigError, match="two to compare are wanted, found betr"):
        compare(
            spark, Config.model_validate({**whole.model_dump(), "scorers": {"betr": {}}, "selections": {}}), percent=10
        )


def test_scorers_that_cannot_be_made_are_named(spark: Any, whole: Config, tmp_path: Path) -> None:
    def made(scorer: dict[str, Any]) -> None:
        values = {**whole.model_dump(), "scorers": {"new": scorer}, "selections": {}}
        run_all(spark, Config.model_validate(values), "train")

    cut = tmp_path / "cut.bin"
    cut.write_bytes(Path(whole.scorers["hq"].path).read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"scorers\.new\.path: .*cut\.bin: cut short: 1000 bytes"):
        made({"kind": "fasttext", "path": str(cut), "label": LABEL})
    with pytest.raises(ArtifactError, match="no label '__label__x'; it has "):
        made({"kind": "fasttext", "path": whole.scorers["hq"].path, "label": "__label__x"})
    with pytest.raises(DataError, match="no such file"):
        made({"kind": "fasttext", "path": str(tmp_path / "none.bin"), "label": LABEL})
    teacher = whole.scorers["distilled"].path
    with pytest.raises(SchemaError, match=r"scorers\.new\.path: .*: no column 'score'; found key, points"):
        made({"kind": "teacher", "path": teacher, "id": "key"})
    with pytest.raises(DataError, match="no document of the sample has a score"):
        made({"kind": "teacher", "path": teacher, "id": "points", "score": "points"})


def test_a_changed_model_file_of_any_name_is_noticed(spark: Any, tmp_path: Path) -> None:
    file = tmp_path / "_hidden.bin"
    scorer = FastTextScorer(kind="fasttext", path=str(file), label=LABEL)
    file.write_bytes(b"one")
    before = versions(spark, scorer)
    file.write_bytes(b"another")
    assert versions(spark, scorer) != before
