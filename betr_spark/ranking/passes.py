"""The two passes of the ranking on Spark: the highest cosines of each query vector, then the best rank of each document."""

import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from betr_spark.ranking import best_rank
from betr_spark.ranking.embeddings import vectors_of
from betr_spark.ranking.query_vectors import QueryVectors
from betr_spark.schemas import DOC_ID, EMBEDDING, SCORE, SOURCE
from betr_spark.storage.shipping import ship, shipping_folder

_CELLS_PER_TASK = 2**20  # of the lists while they are merged; 8 MB


def best_ranks_of(
    sampled: DataFrame, queries: QueryVectors, *, depth: int, aggregate: str, schema: StructType
) -> DataFrame:
    """Rank documents in two passes over their vectors.

    The first pass runs when this function is called. The second pass runs each time the result is evaluated, so store the
    result before you use it more than once. The workers of a machine share the lists of the first pass, [M, R] float64,
    through one memory-mapped file.

    Args:
        sampled: doc_id, source, embedding; one row for each document.
        queries: the M vectors that rank the documents.
        depth: R, the length of the list of each query vector.
        aggregate: as `best_rank.best_ranks` takes it.
        schema: names and types of the result: doc_id, source, best rank, best cosine, benchmark and example of the best
            query vector, score, and a map from benchmark to score and cosine.
    """
    shared, width = sampled.sparkSession.sparkContext.broadcast(queries.vectors), queries.vectors.shape[1]
    top_of_all = _shipped_lists(_highest_cosines(sampled, queries, depth=depth), len(queries.rows))
    benchmarks, rows, groups = pa.array(queries.benchmarks), pa.array(queries.rows, pa.int32()), queries.groups()

    def second_pass(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        top = top_of_all()
        for batch in batches:
            if batch.num_rows:
                vectors = vectors_of(batch.column(EMBEDDING), width)
                ranks = best_rank.best_ranks(
                    shared.value, *vectors, top=top, aggregate=aggregate, groups=list(groups.values())
                )
                query = pa.array(ranks.example)
                columns = [
                    batch.column(DOC_ID), batch.column(SOURCE), pa.array(ranks.rank), pa.array(ranks.cosine),
                    benchmarks.take(query), rows.take(query), pa.array(ranks.score), _by_benchmark(list(groups), ranks),
                ]  # fmt: skip
                yield pa.RecordBatch.from_arrays(columns, schema.names)

    return sampled.select(DOC_ID, SOURCE, EMBEDDING).mapInArrow(second_pass, schema)


def _highest_cosines(sampled: DataFrame, queries: QueryVectors, *, depth: int) -> DataFrame:
    """First pass: example (0 to M - 1), top (at most R float64, descending)."""
    context = sampled.sparkSession.sparkContext
    shared, width = context.broadcast(queries.vectors), queries.vectors.shape[1]

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
    n_tasks = max(context.defaultParallelism, len(queries.rows) * depth // _CELLS_PER_TASK)
    lists = sampled.select(EMBEDDING).mapInArrow(first_pass, lists_ddl).repartition(n_tasks, "example")
    return lists.groupBy("example").applyInArrow(merge, lists_ddl)


def _shipped_lists(lists: DataFrame, n_examples: int) -> Callable[[], NDArray[np.float64]]:
    """Write lists to a file and send it to the executors; the driver holds the lists of one task at a time.

    Args:
        lists: example (0 to M - 1), top (R float64); one row for each example.
        n_examples: M.

    Returns:
        A function that maps the lists into the memory of a worker, [M, R].
    """
    name = f"betr-spark-lists-{uuid.uuid4().hex}"
    with (shipping_folder(lists.sparkSession) / name).open("wb") as out:
        lists = lists.persist()  # toLocalIterator runs one job for each partition
        try:
            lists.count()
            for row in lists.toLocalIterator():
                out.seek(row["example"] * len(row["top"]))
                out.write(row["top"])
        finally:
            lists.unpersist()
    fetched = ship(lists.sparkSession, name)
    # "c": the kernels are compiled for writable arrays; they write nothing
    return lambda: np.asarray(np.memmap(fetched(), np.float64, mode="c")).reshape(n_examples, -1)


def _by_benchmark(names: list[str], ranks: best_rank.BestRanks) -> pa.Array:
    """One map for each document: score and cosine by benchmark."""
    n = len(ranks.rank)
    cosines = pa.array(ranks.group_cosines.reshape(-1), pa.float32())
    values = pa.StructArray.from_arrays([pa.array(ranks.group_scores.reshape(-1)), cosines], [SCORE, "cosine"])
    keys = pa.array(names).take(pa.array(np.tile(np.arange(len(names)), n)))
    return pa.MapArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * len(names)), keys, values)
