"""Vectors of the sample: made once, resumed after a crash, used again by another sample; the same for any partitioning."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from conftest import settings, write_parquet

from betr_spark.config import Config
from betr_spark.config.ranking import EncoderConfig
from betr_spark.errors import DataError, SetupError
from betr_spark.pipeline.run import plan, run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking import embeddings
from betr_spark.ranking import stage as ranking
from betr_spark.ranking.embeddings import embedded, embeddings_of, encoder_key, vectors_of
from betr_spark.ranking.encoder import embed
from betr_spark.storage import delta, runs


@pytest.fixture
def config(tmp_path: Path, encoder: Path, targets: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(embeddings, "_TEXTS_A_GROUP", 10)
    monkeypatch.setattr(embeddings, "_SECONDS_A_COMMIT", 0.0)  # a commit is one group a core
    return Config.model_validate(settings(tmp_path / "docs", tmp_path / "out", encoder, targets))


def sampled(spark: Any, corpus: list[dict[str, Any]], n: int, parts: int = 1) -> Any:
    return spark.createDataFrame(
        [(row["id"], row["text"]) for row in corpus[:n]], "doc_id string, text string"
    ).repartition(parts)


def vectors(frame: Any) -> dict[str, bytes]:
    return {row["doc_id"]: bytes(row["embedding"]) for row in frame.select("doc_id", "embedding").collect()}


def test_vectors_are_the_encoder_s_for_any_partitioning(
    spark: Any, corpus: list[dict[str, Any]], config: Config
) -> None:
    found = [vectors(embedded(sampled(spark, corpus, 60, parts), 60, config.encoder, prompt="")) for parts in (1, 5)]
    assert found[0] == found[1]
    own = embed([row["text"] for row in corpus[:60]], settings=config.encoder, prompt="")
    for row, vector in zip(corpus[:60], own, strict=True):
        np.testing.assert_allclose(np.frombuffer(found[0][row["id"]], np.float32), vector[0], atol=1e-6)


def test_a_killed_run_does_no_more_than_its_last_commit_again(
    spark: Any, corpus: list[dict[str, Any]], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, path = sampled(spark, corpus, 100), config.table("_embeddings")
    append, commits = delta.append, []

    def dies_at_the_third(rows: Any, path: str, **options: Any) -> None:
        if len(commits) == 2:
            raise KeyboardInterrupt
        commits.append(path)
        append(rows, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(delta, "append", dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            embeddings_of(documents, 100, config)
    before = vectors(delta.read(spark, path))
    assert 20 <= len(before) < 80
    found = vectors(embeddings_of(documents, 100, config))
    assert set(found) == {row["id"] for row in corpus[:100]}
    assert delta.read(spark, path).count() == 100  # none twice
    assert before.items() <= found.items()
    version = runs.input_version(spark, path)
    assert vectors(embeddings_of(documents.repartition(3), 100, config)) == found
    assert runs.input_version(spark, path) == version  # nothing left to do


def test_quick_commits_grow(
    spark: Any, corpus: list[dict[str, Any]], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "_SECONDS_A_COMMIT", 1e9)
    monkeypatch.setattr(embeddings, "_TEXTS_A_GROUP", 2)
    assert len(vectors(embeddings_of(sampled(spark, corpus, 120), 120, config))) == 120
    newest = delta.newest_commit(spark, config.table("_embeddings"))
    assert newest is not None
    twice = delta.read(spark, config.table("_embeddings"))  # as two runs at a time would add them
    delta.append(twice, config.table("_embeddings"), user_metadata="{}")
    assert embeddings_of(sampled(spark, corpus, 120), 120, config).count() == 120
    assert newest.version <= np.log2(60 / spark.sparkContext.defaultParallelism) + 1  # for 60 groups


def test_a_ranking_is_of_the_sample_that_is_there(
    spark: Any, corpus: list[dict[str, Any]], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(Path(config.input.path), corpus)
    first = config.model_copy(update={"sample": config.sample.model_copy(update={"documents": 40})})
    other = first.model_copy(update={"sample": first.sample.model_copy(update={"seed": 1})})

    def ids(table: str) -> set[str]:
        return {row["doc_id"] for row in delta.read(spark, config.table(table)).select("doc_id").collect()}

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run_all(spark, first, "rank")
    wanted = ids("ranked_sample")
    with monkeypatch.context() as patch:
        patch.setattr(ranking, "embeddings_of", dies)
        with pytest.raises(KeyboardInterrupt):
            run_all(spark, other, "rank")
    assert ids("_sample") != wanted
    for attempt in (first, other):
        with pytest.raises(DataError, match="another sample than `_sample` holds now; `betr-spark rank` makes it anew"):
            run_all(spark, attempt, "train")
        assert next(planned for planned in plan(RunContext(spark, attempt)) if planned.stage.name == "rank").work
    assert not any(done.skipped for done in run_all(spark, first, "rank"))
    assert ids("_sample") == ids("ranked_sample") == wanted
    assert all(done.skipped for done in run_all(spark, first, "rank"))


def test_another_text_under_the_same_id_gets_a_vector_of_its_own(
    spark: Any, corpus: list[dict[str, Any]], config: Config
) -> None:
    first = vectors(embeddings_of(sampled(spark, corpus, 30), 30, config))
    changed = [{**row, "text": corpus[-1 - i]["text"] + " tide"} for i, row in enumerate(corpus[:30])]
    found = vectors(embeddings_of(sampled(spark, changed, 30), 30, config))
    assert found.keys() == first.keys()
    for row in changed:
        own = embed([row["text"]], settings=config.encoder, prompt="")[0]
        np.testing.assert_allclose(np.frombuffer(found[row["id"]], np.float32), own[0], atol=1e-6)
    assert vectors(embeddings_of(sampled(spark, corpus, 30), 30, config)) == first


def test_the_best_chunk_of_a_long_document_counts(spark: Any, config: Config) -> None:
    parts = ["The tide turned and the harbour emptied. " * 4, "Stir the flour into the butter. " * 4]
    texts = [parts[0], parts[0] + parts[1], parts[0] * 9, ""]
    settings = EncoderConfig(max_tokens=40, long_documents="best_chunk", max_chunks=3)
    found = embed(texts, settings=settings, prompt="")
    assert [len(own) for own in found] == [1, 2, 3, 1]
    cut = EncoderConfig(max_tokens=40)
    np.testing.assert_allclose(found[0], embed(texts[:1], settings=cut, prompt="")[0], atol=1e-5)
    wanted = embed([parts[1]], settings=cut, prompt="")[0]
    assert (found[1] @ wanted.T).max() > 0.8 > (embed(texts[1:2], settings=cut, prompt="")[0] @ wanted.T)[0, 0]
    packed = pa.array([own.tobytes() for own in found])
    vectors, first = vectors_of(packed, wanted.shape[1])
    np.testing.assert_array_equal(vectors, np.concatenate(found))
    assert first.tolist() == [0, 1, 3, 6, 7]
    with pytest.raises(SetupError, match=r"encoder\.long_documents: best_chunk wants a model with a fast tokenizer"):
        embed(texts, settings=config.encoder.model_copy(update={"long_documents": "best_chunk"}), prompt="")


def test_another_encoder_has_vectors_of_its_own_and_a_larger_sample_uses_what_is_there(
    spark: Any, corpus: list[dict[str, Any]], config: Config
) -> None:
    first = vectors(embeddings_of(sampled(spark, corpus, 50), 50, config))
    larger = vectors(embeddings_of(sampled(spark, corpus, 80), 80, config))
    assert first.items() <= larger.items()
    assert len(larger) == 80
    prompted = config.model_copy(update={"encoder": config.encoder.model_copy(update={"document_prompt": "the tide "})})
    assert encoder_key(prompted.encoder) != encoder_key(config.encoder)
    other = vectors(embeddings_of(sampled(spark, corpus, 50), 50, prompted))
    assert len(other) == 50
    assert all(other[doc] != first[doc] for doc in other)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_backend_runs_on_one_thread_and_is_named_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, backend: Literal["onnx", "openvino"]
) -> None:
    asked: dict[str, Any] = {}

    def without(*_: Any, **options: Any) -> None:
        asked.update(options["model_kwargs"])
        raise Exception("Using this backend requires installing Optimum")  # noqa: TRY002 - as sentence-transformers does

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", without)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(SessionOptions=SimpleNamespace))
    with pytest.raises(SetupError, match=rf"encoder\.backend: {backend}: Using this backend requires"):
        embed(["a word"], settings=EncoderConfig(backend=backend), prompt="")
    session = asked.get("session_options", SimpleNamespace())
    assert "1" in (
        str(getattr(session, "intra_op_num_threads", "")),
        asked.get("ov_config", {}).get("INFERENCE_NUM_THREADS"),
    )


def test_without_onnx_runtime_its_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SetupError, match=r"encoder\.backend: onnx: .*onnxruntime"):
        embed(["a word"], settings=EncoderConfig(backend="onnx"), prompt="")
