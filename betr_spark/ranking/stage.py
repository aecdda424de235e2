"""Stage `rank`: sample, embed, best rank, labels; tables `_sample` (texts), `_embeddings` and `ranked_sample`."""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.ranking import EncoderConfig
from betr_spark.corpus.documents import check_unique
from betr_spark.corpus.sampling import sample
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.ranking import best_rank
from betr_spark.ranking.embeddings import embedded, embeddings_of, vectors_of
from betr_spark.ranking.encoder import check_encoder
from betr_spark.ranking.labels import target_order, with_labels
from betr_spark.ranking.query_vectors import QueryVectors, query_vectors
from betr_spark.schemas import DOC_ID, EMBEDDING, REASON, SCORE, SOURCE, TEXT
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun, StageTimer
from betr_spark.storage.shipping import ship, shipping_folder
from betr_spark.targets.examples import Example
from betr_spark.targets.reading import Benchmark, read_targets, targets_of

_CELLS_A_TASK = 2**20  # of the lists, when they are merged; 8 MB
_logger = logging.getLogger(__name__)


def keys(spark: SparkSession, config: Config, contents: Mapping[str, Benchmark]) -> tuple[StageKey, StageKey]:
    """Keys of `_sample` and of `ranked_sample`, which names the sample that is there, or none where another is to be drawn.

    Neither holds the input's version, since a grown input does not resample; but in direct mode, where all is ranked, both do.
    """
    mapping = config.input.model_dump(include={"path", "format", "id", "text", "source", "max_text_bytes"})
    settings: dict[str, Any] = {"input": mapping, "sample": config.sample}
    if config.encoder.mode == "direct":
        settings["sample"] = {"all of": InputSnapshot.current(spark, config).version}
    targets = {name: target.model_dump(exclude={"test"}) for name, target in config.targets.items()}
    digests = {f"targets.{name}": content.digest() for name, content in contents.items()}
    settings_of_rank = {**settings, "encoder": config.encoder.model_dump(exclude={"device"})}
    settings_of_rank |= {"targets": targets, "labels": config.labels}
    sample, path = StageKey.of("sample", settings), config.table(schemas.SAMPLE_TABLE)
    version = runs.input_version(spark, path) if _drawn(spark, path, sample) else "none"
    return sample, StageKey.of("rank", settings_of_rank, sample=version, **digests)


def _drawn(spark: SparkSession, path: str, key: StageKey) -> StageRun | None:
    """Return the run that drew the sample that is there, if its key is this one."""
    drawn = runs.made_by(spark, path)
    return drawn if drawn and drawn.key == key.key else None


def key(spark: SparkSession, config: Config) -> StageKey:
    """Key of `ranked_sample`."""
    return keys(spark, config, read_targets(spark, config))[1]


def run(spark: SparkSession, config: Config, *, again: bool = False) -> list[StageRun]:
    """Rank the sample, unless the same ranking is there; `again` draws and ranks a new sample all the same.

    Without a scorer that is made of it, there is nothing to rank.
    """
    if not config.ranks():
        return []
    contents = read_targets(spark, config)
    sample_key, rank_key = keys(spark, config, contents)
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    sample_path = config.table(schemas.SAMPLE_TABLE)
    done = None if again else runs.finished(spark, config.output, path, rank_key)
    if done:
        return [done]
    clock = StageTimer(rank_key)
    examples = targets_of(config.targets, contents)
    check_encoder(config.encoder)
    drawn = None if again else _drawn(spark, sample_path, sample_key)
    if drawn is None:
        drawn = _draw_sample(spark, config, sample_key)
        clock.key = keys(spark, config, contents)[1]
    sampled = delta.read(spark, sample_path)
    sampled = sampled.select(DOC_ID, SOURCE).join(
        embeddings_of(sampled, drawn.rows_out, config), on=DOC_ID, how="inner"
    )
    vectors = _embed_examples(spark, examples, config.encoder)
    ranking = query_vectors(
        [example.benchmark for example in examples], [example.row for example in examples], vectors,
        granularity=config.labels.granularity, clusters=config.labels.clusters,
    )  # fmt: skip
    depth = best_rank.depth(
        n_documents=drawn.rows_out, n_examples=len(ranking.rows), positive_fraction=config.labels.positive_fraction
    )
    ratio = drawn.rows_out / len(examples)
    if ratio < 100:
        _logger.warning("rank: %.1f documents for each example, below 100: many ties in best rank", ratio)
    ranked = _ranked(sampled, ranking, depth, config.labels.aggregate)
    ranked = with_labels(
        ranked, target_order(), n_documents=drawn.rows_out, positive_fraction=config.labels.positive_fraction
    )
    done = clock.done(
        rows_in=drawn.rows_in,
        rows_out=drawn.rows_out,
        dropped=drawn.dropped,
        metrics={"n_examples": len(examples), "documents_per_example": ratio, "depth": depth},
    )
    ranked = ranked.select(*[F.col(column.name).cast(column.dataType).alias(column.name) for column in _columns()])
    delta.overwrite(ranked, path, user_metadata=done.to_json())
    runs.record(spark, config.output, done)
    return [done]


def _columns(count: int | None = None) -> StructType:
    """Columns of `ranked_sample`, or the first of them."""
    columns = StructType.fromDDL(schemas.RANKED_SAMPLE)
    assert isinstance(columns, StructType)
    return StructType(columns.fields[:count])


def _draw_sample(spark: SparkSession, config: Config, key: StageKey) -> StageRun:
    clock = StageTimer(key)
    snapshot = InputSnapshot.current(spark, config)
    ids = snapshot.ids()
    ids = (ids.distinct() if config.input.id is None else ids).persist()  # read by the check and by each cut
    try:
        if config.input.id is not None:
            check_unique(ids, f"input.path: {config.input.path}")
        documents = snapshot.documents().where(F.col(REASON).isNull()).select(DOC_ID, SOURCE, TEXT)
        n_corpus = ids.count()
        n_documents = n_corpus if config.encoder.mode == "direct" else config.sample.documents
        drawn = sample(documents, ids, n_documents=n_documents, seed=config.sample.seed)
        usable = drawn.documents.where(F.col(TEXT).rlike(r"(?U)[^\s\x00\x1c-\x1f]"))
        if config.input.id is None:
            usable = usable.groupBy(DOC_ID).agg(F.min(SOURCE).alias(SOURCE), F.first(TEXT).alias(TEXT))
        usable = usable.persist()  # counted, then written
        try:
            n_usable = usable.count()
            if n_usable == 0:
                raise DataError(f"input.path: {config.input.path}: no document with text in a sample of {drawn.n_ids}")
            done = clock.done(rows_in=n_corpus, rows_out=n_usable, dropped={"without_text": drawn.n_ids - n_usable})
            delta.overwrite(usable, config.table(schemas.SAMPLE_TABLE), user_metadata=done.to_json())
        finally:
            usable.unpersist()
    finally:
        ids.unpersist()
    return done


def _embed_examples(spark: SparkSession, examples: list[Example], encoder: EncoderConfig) -> NDArray[np.float32]:
    rows = [(f"{index:09d}", example.text) for index, example in enumerate(examples)]
    frame = spark.createDataFrame(rows, f"{DOC_ID} string, {TEXT} string")
    whole = encoder.model_copy(update={"long_documents": "truncate"})
    found = embedded(frame, len(rows), whole, prompt=encoder.example_prompt).collect()  # one row an example
    return np.stack([np.frombuffer(row[EMBEDDING], np.float32) for row in sorted(found)])


def _ranked(sampled: DataFrame, ranking: QueryVectors, depth: int, aggregate: str) -> DataFrame:
    """Rank the sample in two passes over its vectors; the workers of a machine share the lists, [M, R] float64, of a file."""
    context = sampled.sparkSession.sparkContext
    shared, width = context.broadcast(ranking.vectors), ranking.vectors.shape[1]

    def first_pass(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        highest = best_rank.TopCosines(shared.value, depth=depth)
        for batch in batches:
            if batch.num_rows:
                highest.add(*vectors_of(batch.column(EMBEDDING), width))
        top = highest.lists()
        if top.shape[1]:
            packed = pa.array([row.tobytes() for row in top], pa.binary())
            yield pa.RecordBatch.from_arrays(
                [pa.array(np.arange(len(top), dtype=np.int32)), packed], ["example", "top"]
            )

    def merge(group: pa.Table) -> pa.Table:
        parts = [np.frombuffer(row, np.float64)[None, :] for row in group.column("top").to_pylist()]
        merged = best_rank.merge_top(parts, depth=depth)
        return pa.table({"example": group.column("example").slice(0, 1), "top": [merged.tobytes()]})

    lists_ddl = "example int, top binary"
    lists = sampled.select(EMBEDDING).mapInArrow(first_pass, lists_ddl)
    n_tasks = max(context.defaultParallelism, len(ranking.rows) * depth // _CELLS_A_TASK)
    lists = lists.repartition(n_tasks, "example").groupBy("example").applyInArrow(merge, lists_ddl)
    top_of_all = _shipped_lists(lists, len(ranking.rows))
    benchmarks, places, groups = pa.array(ranking.benchmarks), pa.array(ranking.rows, pa.int32()), ranking.groups()

    def second_pass(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        top = top_of_all()
        for batch in batches:
            if batch.num_rows:
                vectors = vectors_of(batch.column(EMBEDDING), width)
                found = best_rank.best_ranks(
                    shared.value, *vectors, top=top, aggregate=aggregate, groups=list(groups.values())
                )
                taken = [benchmarks.take(pa.array(found.example)), places.take(pa.array(found.example))]
                ranks = [pa.array(found.rank), pa.array(found.cosine), *taken, pa.array(found.score)]
                columns = [batch.column(DOC_ID), batch.column(SOURCE), *ranks, _by_benchmark(list(groups), found)]
                yield pa.RecordBatch.from_arrays(columns, schema.names)

    schema = _columns(8)  # the others are the labels'
    return sampled.select(DOC_ID, SOURCE, EMBEDDING).mapInArrow(second_pass, schema)


def _shipped_lists(lists: DataFrame, n_examples: int) -> Callable[[], NDArray[np.float64]]:
    """Write lists to a file, so that the driver holds those of one task at a time, and send it to the executors.

    Args:
        lists: example (0 to M - 1), top (R float64); one row an example.
        n_examples: M.

    Returns:
        What maps them into a worker's memory, [M, R].
    """
    name = f"betr-spark-lists-{uuid.uuid4().hex}"
    with (shipping_folder(lists.sparkSession) / name).open("wb") as out:
        lists = lists.persist()  # an iterator makes one partition after the other
        try:
            lists.count()
            for row in lists.toLocalIterator():
                out.seek(row["example"] * len(row["top"]))
                out.write(row["top"])
        finally:
            lists.unpersist()
    fetched = ship(lists.sparkSession, name)
    # "c": kernels are compiled for arrays that can be written to; nothing is
    return lambda: np.asarray(np.memmap(fetched(), np.float64, mode="c")).reshape(n_examples, -1)


def _by_benchmark(names: list[str], found: best_rank.BestRanks) -> pa.Array:
    """One map a document: score and cosine by benchmark."""
    n = len(found.rank)
    cosines = pa.array(found.group_cosines.reshape(-1), pa.float32())
    values = pa.StructArray.from_arrays([pa.array(found.group_scores.reshape(-1)), cosines], [SCORE, "cosine"])
    keys = pa.array(names).take(pa.array(np.tile(np.arange(len(names)), n)))
    return pa.MapArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * len(names)), keys, values)
