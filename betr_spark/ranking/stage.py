"""Stage `rank`: draws the sample and ranks it; tables `_sample` (texts), `_embeddings` and `ranked_sample`."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.documents import check_unique, input_fingerprint, read_documents, read_ids
from betr_spark.corpus.input_schema import input_schema
from betr_spark.corpus.sampling import sample
from betr_spark.errors import DataError
from betr_spark.ranking.encoder import check_encoder, encoder_problems
from betr_spark.ranking.target_ranking import target_ranking
from betr_spark.schemas import DOC_ID, REASON, SOURCE, TEXT
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun, StageTimer
from betr_spark.storage.scratch import scratch
from betr_spark.targets.reading import Benchmark, read_targets, target_problems, targets_of

_SCRATCH_FOLDER = "_scratch/ranks"


def keys(spark: SparkSession, config: Config, contents: Mapping[str, Benchmark]) -> tuple[StageKey, StageKey]:
    """Keys of `_sample` and of `ranked_sample`; the second has the version of the sample, or none if it has another key.

    Neither has the version of the input, because a grown input is not sampled again. In direct mode, where all documents are
    ranked, both have it.
    """
    settings = _sample_settings(spark, config)
    sample_key, path = StageKey.of("sample", settings), config.table(schemas.SAMPLE_TABLE)
    targets = {name: target.model_dump(exclude={"test"}) for name, target in config.targets.items()}
    settings |= {"encoder": config.encoder.model_dump(exclude={"device"}), "targets": targets, "labels": config.labels}
    if config.direct():
        settings["direct"] = config.direct()
    digests = {f"targets.{name}": content.digest() for name, content in contents.items()}
    version = runs.input_version(spark, path) if _drawn(spark, path, sample_key) else "none"
    return sample_key, StageKey.of("rank", settings, sample=version, **digests)


def _sample_settings(spark: SparkSession, config: Config) -> dict[str, Any]:
    """What the sample depends on."""
    mapping = config.input.model_dump(include={"path", "format", "id", "text", "source", "max_text_bytes"})
    if config.direct():
        return {"input": mapping, "sample": {"all of": input_fingerprint(spark, config.input)}}
    return {"input": mapping, "sample": config.sample}


def _drawn(spark: SparkSession, path: str, key: StageKey) -> StageRun | None:
    """The run that drew the current sample, if it has this key."""
    drawn = runs.made_by(spark, path)
    return drawn if drawn and drawn.key == key.key else None


def key(spark: SparkSession, config: Config) -> StageKey:
    """Key of `ranked_sample`, or of `_sample` if no scorer uses the target ranking."""
    if not config.needs_target_ranking():
        return StageKey.of("sample", _sample_settings(spark, config))
    return keys(spark, config, read_targets(spark, config))[1]


def problems(spark: SparkSession | None, config: Config) -> list[str]:
    """Everything that is wrong with the targets and the encoder, one line each; without a session no file is read."""
    encoder = encoder_problems(config.encoder) if config.needs_target_ranking() else []
    return [*encoder, *target_problems(spark, config.targets)]


def run(spark: SparkSession, config: Config, *, again: bool = False) -> list[StageRun]:
    """Draw the sample and rank it, unless both are up to date; with `again`, draw and rank it in any case.

    Without a scorer that is fitted to documents, nothing is drawn. If no scorer uses the target ranking, the sample is drawn
    but neither embedded nor ranked.
    """
    if not config.needs_sample():
        return []
    if not config.needs_target_ranking():
        done = _sample(spark, config, key(spark, config), again=again)
        runs.record(spark, config.output, done)
        return [done]
    contents = read_targets(spark, config)
    sample_key, rank_key = keys(spark, config, contents)
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    finished = None if again else runs.finished(spark, config.output, path, rank_key)
    if finished:
        return [finished]
    timer = StageTimer(rank_key)
    examples = targets_of(config.targets, contents)
    check_encoder(config.encoder)
    drawn = _sample(spark, config, sample_key, again=again)
    timer.key = keys(spark, config, contents)[1]
    sampled = delta.read(spark, config.table(schemas.SAMPLE_TABLE))
    with scratch(spark, config.table(_SCRATCH_FOLDER)) as materialise:
        ranking = target_ranking(sampled, examples, config, n_documents=drawn.rows_out, materialise=materialise)
        done = timer.done(
            rows_in=drawn.rows_in, rows_out=drawn.rows_out, dropped=drawn.dropped, metrics=ranking.metrics.to_mapping()
        )
        delta.overwrite(ranking.documents, path, user_metadata=done.to_json())
    runs.record(spark, config.output, done)
    return [done]


def _sample(spark: SparkSession, config: Config, key: StageKey, *, again: bool) -> StageRun:
    """Draw the sample, unless the current sample has the same key."""
    drawn = None if again else _drawn(spark, config.table(schemas.SAMPLE_TABLE), key)
    return drawn or _draw_sample(spark, config, key)


def _draw_sample(spark: SparkSession, config: Config, key: StageKey) -> StageRun:
    timer = StageTimer(key)
    input_schema(spark, config.input)
    ids = read_ids(spark, config.input)
    ids = (ids.distinct() if config.input.id is None else ids).persist()  # read by the check and by each cut
    try:
        if config.input.id is not None:
            check_unique(ids, f"input.path: {config.input.path}")
        documents = read_documents(spark, config.input).where(F.col(REASON).isNull()).select(DOC_ID, SOURCE, TEXT)
        n_corpus = ids.count()
        n_documents = n_corpus if config.direct() else config.sample.documents
        drawn = sample(documents, ids, n_documents=n_documents, seed=config.sample.seed)
        usable = drawn.documents.where(F.col(TEXT).rlike(r"(?U)[^\s\x00\x1c-\x1f]"))
        if config.input.id is None:
            usable = usable.groupBy(DOC_ID).agg(F.min(SOURCE).alias(SOURCE), F.first(TEXT).alias(TEXT))
        usable = usable.persist()  # counted, then written
        try:
            n_usable = usable.count()
            if n_usable == 0:
                raise DataError(f"input.path: {config.input.path}: no document with text in a sample of {drawn.n_ids}")
            done = timer.done(rows_in=n_corpus, rows_out=n_usable, dropped={"without_text": drawn.n_ids - n_usable})
            delta.overwrite(usable, config.table(schemas.SAMPLE_TABLE), user_metadata=done.to_json())
        finally:
            usable.unpersist()
    finally:
        ids.unpersist()
    return done
