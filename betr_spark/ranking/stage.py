"""Stage `rank`: sample, embed, best rank, labels; tables `_sample` (texts), `_embeddings` and `ranked_sample`."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.ranking import EncoderConfig
from betr_spark.pipeline.stage import Result, RunContext, Stage, problems_of
from betr_spark.ranking import best_rank
from betr_spark.ranking.embeddings import embedded, embeddings_of, vectors_of
from betr_spark.ranking.encoder import check_encoder
from betr_spark.ranking.estimate import time_to_embed
from betr_spark.ranking.labels import target_order, with_labels
from betr_spark.ranking.query_vectors import QueryVectors, query_vectors
from betr_spark.ranking.sample import Sample, sample_settings
from betr_spark.schemas import DOC_ID, EMBEDDING, SCORE, SOURCE, TEXT
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey
from betr_spark.storage.shipping import ship, shipping_folder
from betr_spark.targets.examples import Example
from betr_spark.targets.reading import examples_and_items, read_benchmark, read_targets, targets_of

_CELLS_A_TASK = 2**20  # of the lists, when they are merged; 8 MB
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RankMetrics(Metrics):
    """Examples, documents for each of them, and the length of the list of cosines kept for each."""

    n_examples: int | None
    documents_per_example: float | None
    depth: int | None


class Rank(Stage):
    """Ranks the sample by the targets' examples."""

    rebuilds = True

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("rank")

    def outputs(self, config: Config) -> Sequence[str]:
        """`ranked_sample`."""
        return [config.table(schemas.RANKED_SAMPLE_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The sample that `_sample` holds, the encoder, the targets and the labels."""
        return key(context)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with the encoder and the targets."""
        spark, config = context.spark, context.config
        yield from problems_of(lambda: check_encoder(config.encoder))
        for name, target in config.targets.items():
            yield from problems_of(lambda n=name, t=target: examples_and_items(n, t, read_benchmark(spark, t)))  # type: ignore[misc]

    def estimate(self, context: RunContext) -> str:
        """How long embedding takes; a few documents are embedded to measure it."""
        return str(time_to_embed(context.spark, context.config))

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Embed the sample and the examples, rank in two passes, label."""
        spark, config = context.spark, context.config
        (path,) = self.outputs(config)
        examples = targets_of(config.targets, read_targets(spark, config))
        check_encoder(config.encoder)
        sampled = delta.read(spark, config.table(schemas.SAMPLE_TABLE))
        n_documents = sampled.count()
        sampled = sampled.select(DOC_ID, SOURCE).join(
            embeddings_of(sampled, n_documents, config), on=DOC_ID, how="inner"
        )
        vectors = _embed_examples(spark, examples, config.encoder)
        ranking = query_vectors(
            [example.benchmark for example in examples], [example.row for example in examples], vectors,
            granularity=config.labels.granularity, clusters=config.labels.clusters,
        )  # fmt: skip
        fraction = config.labels.positive_fraction
        depth = best_rank.depth(n_documents=n_documents, n_examples=len(ranking.rows), positive_fraction=fraction)
        ratio = n_documents / len(examples)
        if ratio < 100:
            _logger.warning("rank: %.1f documents for each example, below 100: many ties in best rank", ratio)
        ranked = _ranked(sampled, ranking, depth, config.labels.aggregate)
        ranked = with_labels(ranked, target_order(), n_documents=n_documents, positive_fraction=fraction)
        ranked = ranked.select(*[F.col(column.name).cast(column.dataType).alias(column.name) for column in _columns()])
        yield Result(
            rows_in=n_documents,
            rows_out=n_documents,
            metrics=RankMetrics(n_examples=len(examples), documents_per_example=ratio, depth=depth),
            commit=lambda run: delta.overwrite(ranked, path, user_metadata=run.to_json()),
        )


def stages(config: Config) -> list[Stage]:
    """The sample and its ranking, where a scorer is made of them."""
    return [Sample(), Rank()] if config.ranks() else []


def key(context: RunContext) -> StageKey:
    """Key of `ranked_sample`, which names the sample that `_sample` holds."""
    spark, config = context.spark, context.config
    settings = sample_settings(context)
    targets = {name: target.model_dump(exclude={"test"}) for name, target in config.targets.items()}
    settings |= {"encoder": config.encoder.model_dump(exclude={"device"}), "targets": targets, "labels": config.labels}
    digests = {f"targets.{name}": content.digest() for name, content in read_targets(spark, config).items()}
    drawn = runs.input_version(spark, config.table(schemas.SAMPLE_TABLE))
    return StageKey.of("rank", settings, sample=drawn, **digests)


def _columns(count: int | None = None) -> StructType:
    """Columns of `ranked_sample`, or the first of them."""
    columns = StructType.fromDDL(schemas.RANKED_SAMPLE)
    assert isinstance(columns, StructType)
    return StructType(columns.fields[:count])


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
