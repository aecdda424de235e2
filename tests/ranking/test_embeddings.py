"""Vectors of the sample: computed once, resumed after a crash, reused by another sample, the same for any partitioning."""

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
from betr_spark.ranking import embeddings, target_ranking
from betr_spark.ranking.embeddings import embedded, embeddings_of, encoder_key, vectors_of
from betr_spark.ranking.encoder import check_encoder, embed
from betr_spark.storage import delta, runs


def stored(frame: Any) -> Any:
    return frame.localCheckpoint()


@pytest.fixture
def config(tmp_path: Path, encoder: Path, targets: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(embeddings, "_TEXTS_PER_GROUP", 10)
    monkeypatch.setattr(embeddings, "_SECONDS_PER_COMMIT", 0.0)  # a commit has one group per core
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
    by_parts = [vectors(embedded(sampled(spark, corpus, 60, n), 60, config.encoder, prompt="")) for n in (1, 5)]
    assert by_parts[0] == by_parts[1]
    expected = embed([row["text"] for row in corpus[:60]], settings=config.encoder, prompt="")
    for row, vector in zip(corpus[:60], expected, strict=True):
        np.testing.assert_allclose(np.frombuffer(by_parts[0][row["id"]], np.float32), vector[0], atol=1e-6)


def test_a_killed_run_repeats_at_most_its_last_commit(
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
            embeddings_of(documents, 100, config, materialise=stored)
    before = vectors(delta.read(spark, path))
    assert 20 <= len(before) < 80
    after = vectors(embeddings_of(documents, 100, config, materialise=stored))
    assert set(after) == {row["id"] for row in corpus[:100]}
    assert delta.read(spark, path).count() == 100  # none twice
    assert before.items() <= after.items()
    version = runs.input_version(spark, path)
    assert vectors(embeddings_of(documents.repartition(3), 100, config, materialise=stored)) == after
    assert runs.input_version(spark, path) == version  # nothing left to do


def test_quick_commits_grow(
    spark: Any, corpus: list[dict[str, Any]], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "_SECONDS_PER_COMMIT", 1e9)
    monkeypatch.setattr(embeddings, "_TEXTS_PER_GROUP", 2)
    assert len(vectors(embeddings_of(sampled(spark, corpus, 120), 120, config, materialise=stored))) == 120
    newest = delta.newest_commit(spark, config.table("_embeddings"))
    assert newest is not None
    twice = delta.read(spark, config.table("_embeddings"))  # as two runs at a time would add them
    delta.append(twice, config.table("_embeddings"), user_metadata="{}")
    assert embeddings_of(sampled(spark, corpus, 120), 120, config, materialise=stored).count() == 120
    assert newest.version <= np.log2(60 / spark.sparkContext.defaultParallelism) + 1  # for 60 groups


def test_a_ranking_belongs_to_the_current_sample(
    spark: Any, corpus: list[dict[str, Any]], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(Path(config.input.path), corpus)
    first = config.model_copy(update={"sample": config.sample.model_copy(update={"documents": 40})})
    second = first.model_copy(update={"sample": first.sample.model_copy(update={"seed": 1})})

    def ids(table: str) -> set[str]:
        return {row["doc_id"] for row in delta.read(spark, config.table(table)).select("doc_id").collect()}

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run_all(spark, first, "rank")
    ranked = ids("ranked_sample")
    with monkeypatch.context() as patch:
        patch.setattr(target_ranking, "embeddings_of", dies)
        with pytest.raises(KeyboardInterrupt):
            run_all(spark, second, "rank")
    assert ids("_sample") != ranked
    for attempt in (first, second):
        with pytest.raises(DataError, match="a different sample than `_sample`; rank again with `betr-spark rank`"):
            run_all(spark, attempt, "train")
        assert next(planned for planned in plan(RunContext(spark, attempt)) if planned.stage.name == "rank").work
    assert not any(done.skipped for done in run_all(spark, first, "rank"))
    assert ids("_sample") == ids("ranked_sample") == ranked
    assert all(done.skipped for done in run_all(spark, first, "rank"))


def test_a_changed_text_with_the_same_id_gets_a_new_vector(
    spark: Any, corpus: list[dict[str, Any]], config: Config
) -> None:
    first = vectors(embeddings_of(sampled(spark, corpus, 30), 30, config, materialise=stored))
    changed = [{**row, "text": corpus[-1 - i]["text"] + " tide"} for i, row in enumerate(corpus[:30])]
    second = vectors(embeddings_of(sampled(spark, changed, 30), 30, config, materialise=stored))
    assert second.keys() == first.keys()
    for row in changed:
        expected = embed([row["text"]], settings=config.encoder, prompt="")[0]
        np.testing.assert_allclose(np.frombuffer(second[row["id"]], np.float32), expected[0], atol=1e-6)
    assert vectors(embeddings_of(sampled(spark, corpus, 30), 30, config, materialise=stored)) == first


def test_the_best_chunk_of_a_long_document_counts(spark: Any, config: Config) -> None:
    parts = ["The tide turned and the harbour emptied. " * 4, "Stir the flour into the butter. " * 4]
    texts = [parts[0], parts[0] + parts[1], parts[0] * 9, ""]
    settings = EncoderConfig(max_tokens=40, long_documents="best_chunk", max_chunks=3)
    chunked = embed(texts, settings=settings, prompt="")
    assert [len(chunks) for chunks in chunked] == [1, 2, 3, 1]
    cut = EncoderConfig(max_tokens=40)
    np.testing.assert_allclose(chunked[0], embed(texts[:1], settings=cut, prompt="")[0], atol=1e-5)
    query = embed([parts[1]], settings=cut, prompt="")[0]
    assert (chunked[1] @ query.T).max() > 0.8 > (embed(texts[1:2], settings=cut, prompt="")[0] @ query.T)[0, 0]
    packed = pa.array([chunks.tobytes() for chunks in chunked])
    vectors, first = vectors_of(packed, query.shape[1])
    np.testing.assert_array_equal(vectors, np.concatenate(chunked))
    assert first.tolist() == [0, 1, 3, 6, 7]
    with pytest.raises(SetupError, match=r"encoder\.long_documents: best_chunk requires a model with a fast tokenizer"):
        embed(texts, settings=config.encoder.model_copy(update={"long_documents": "best_chunk"}), prompt="")


def test_each_encoder_has_its_vectors_and_a_larger_sample_reuses_existing_ones(
    spark: Any, corpus: list[dict[str, Any]], config: Config
) -> None:
    first = vectors(embeddings_of(sampled(spark, corpus, 50), 50, config, materialise=stored))
    larger = vectors(embeddings_of(sampled(spark, corpus, 80), 80, config, materialise=stored))
    assert first.items() <= larger.items()
    assert len(larger) == 80
    prompted = config.model_copy(update={"encoder": config.encoder.model_copy(update={"document_prompt": "the tide "})})
    assert encoder_key(prompted.encoder) != encoder_key(config.encoder)
    with_prompt = vectors(embeddings_of(sampled(spark, corpus, 50), 50, prompted, materialise=stored))
    assert len(with_prompt) == 50
    assert all(with_prompt[doc] != first[doc] for doc in with_prompt)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_backend_runs_on_one_thread_and_is_named_if_it_is_not_installed(
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


def test_a_model_path_below_the_home_folder_works_on_driver_and_workers(
    spark: Any, corpus: list[dict[str, Any]], config: Config, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = vectors(embedded(sampled(spark, corpus, 20), 20, config.encoder, prompt=""))
    monkeypatch.setenv(
        "HOME", str(encoder.parent)
    )  # of this process; the workers keep the home that Spark started with
    settings = config.encoder.model_copy(update={"model": f"~/{encoder.name}"})
    check_encoder(settings)
    np.testing.assert_allclose(
        embed([corpus[0]["text"]], settings=settings, prompt="")[0],
        embed([corpus[0]["text"]], settings=config.encoder, prompt="")[0],
    )
    assert vectors(embedded(sampled(spark, corpus, 20), 20, settings, prompt="")) == expected
    with pytest.raises(SetupError, match=r"encoder\.model: ~/nowhere: folder not found"):
        check_encoder(settings.model_copy(update={"model": "~/nowhere"}))
