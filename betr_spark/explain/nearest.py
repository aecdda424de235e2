"""The examples and the kept documents that are nearest to a text, by the cosine of the run's encoder.

Documents are those of the table `_embeddings`: of the sample, or in direct mode of the whole corpus. Each task searches its
part of the table with a flat index of faiss, so the result is exact, and no machine holds all vectors. An approximate index
would have to read and train on all vectors first, which takes longer than the search for a few texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.explain.lookups import rows_of, table
from betr_spark.extras import require
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.embeddings import stored_embeddings, vectors_of
from betr_spark.ranking.encoder import check_encoder, embed
from betr_spark.ranking.target_ranking import embed_examples
from betr_spark.schemas import DOC_ID, EMBEDDING, TEXT
from betr_spark.targets.reading import read_targets, targets_of

_START = 200  # characters of a text that are shown
_QUERY, _COSINE, _SELECTIONS = "query", "cosine", "selections"
Vectors = NDArray[np.float32]


class NearExample(NamedTuple):
    """An example: its row in the file of its benchmark, and the start of its text."""

    cosine: float
    benchmark: str
    row: int
    text_start: str


class NearDocument(NamedTuple):
    """A kept document: the selections that have it, and the start of its text."""

    cosine: float
    doc_id: str
    selections: Sequence[str]
    text_start: str


class Nearest(NamedTuple):
    """The nearest examples and kept documents of a text, the nearest first; and the number that were compared."""

    examples: Sequence[NearExample]
    documents: Sequence[NearDocument]
    n_examples: int
    n_documents: int


def check_nearest(config: Config) -> None:
    """Find out whether packages and model exist, and whether the run has embedded documents.

    Raises:
        SetupError: a package or the model is missing.
        DataError: no scorer uses the embedding.
    """
    require("faiss", extra="nearest", subject="nearest")
    check_encoder(config.encoder)
    if not config.needs_target_ranking():
        raise DataError("nearest: no scorer of the configuration uses the embedding; a scorer of kind betr is required")


def nearest_of(context: RunContext, texts: Mapping[str, str], n: int) -> dict[str, Nearest]:
    """Find the nearest examples and kept documents of a few texts.

    The texts are embedded on the driver and the examples on the executors, as `rank` does.

    Args:
        context: of the command.
        texts: by id; the document with this id is left out.
        n: number of examples and of documents.

    Raises:
        DataError, SetupError: as `check_nearest`; or the sample is not embedded.
    """
    check_nearest(context.config)
    if not texts:
        return {}
    encoder = context.config.encoder
    queries = embed(list(texts.values()), settings=encoder, prompt=encoder.document_prompt)
    examples = targets_of(context.config.targets, read_targets(context.spark, context.config))
    vectors = embed_examples(context.spark, examples, encoder)
    first = np.arange(len(vectors) + 1)
    documents, n_documents = _near_documents(context, queries, list(texts), n)
    return {
        doc_id: Nearest(
            [
                NearExample(cosine, examples[i].benchmark, examples[i].row, examples[i].text[:_START])
                for cosine, i in highest_cosines(queries[query], vectors, first, n)
            ],
            documents[query], len(examples), n_documents,
        )
        for query, doc_id in enumerate(texts)
    }  # fmt: skip


def highest_cosines(query: Vectors, vectors: Vectors, first: NDArray[np.int64], n: int) -> list[tuple[float, int]]:
    """The documents with the highest cosine to a text, the highest first; equal ones in their order.

    Args:
        query: vectors of the text, one or one for each chunk, [c, d] float32.
        vectors: of documents, [v, d] float32, v >= 1.
        first: index of the first vector of each of the documents, and v, int64 [documents + 1].
        n: number of documents to find.

    Returns:
        Cosine and index of at most n documents. The cosine of a document is that of its best pair of chunks.
    """
    import faiss  # noqa: PLC0415 - of the extra `nearest`

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    most = min(len(vectors), n * int(np.diff(first).max()))  # the vectors of n documents
    cosines, rows = index.search(np.ascontiguousarray(query), most)
    best: dict[int, float] = {}
    owners = np.searchsorted(first, rows.ravel(), side="right") - 1
    for cosine, owner in zip(cosines.ravel().tolist(), owners.tolist(), strict=True):
        best[owner] = max(cosine, best.get(owner, cosine))
    return sorted(((cosine, owner) for owner, cosine in best.items()), key=lambda pair: (-pair[0], pair[1]))[:n]


def _near_documents(
    context: RunContext, queries: Sequence[Vectors], ids: Sequence[str], n: int
) -> tuple[list[list[NearDocument]], int]:
    """The nearest kept documents of each query, and the number that were compared."""
    kept, sample = _kept(context), table(context, schemas.SAMPLE_TABLE)
    stored = None if kept is None or sample is None else stored_embeddings(sample, context.config)
    if kept is None or stored is None:
        return [[] for _ in queries], 0
    vectors = stored.join(kept, on=DOC_ID, how="inner").persist()  # counted, and searched
    try:
        n_documents = vectors.count()
        shared = context.spark.sparkContext.broadcast(list(queries))
        found = vectors.select(DOC_ID, EMBEDDING).mapInArrow(
            _search(shared, ids, n), f"{_QUERY} int, {_COSINE} double, {DOC_ID} string"
        )
        rows = [row.asDict() for row in found.collect()]  # at most n for each query and task
        selections = {row[DOC_ID]: row[_SELECTIONS] for row in rows_of(vectors, {row[DOC_ID] for row in rows})}
    finally:
        vectors.unpersist()
    starts = sample.select(DOC_ID, F.substring(TEXT, 1, _START).alias(TEXT)) if sample is not None else None
    texts = {row[DOC_ID]: row[TEXT] for row in rows_of(starts, set(selections))}
    rows.sort(key=lambda row: (-row[_COSINE], row[DOC_ID]))
    return [
        [
            NearDocument(row[_COSINE], row[DOC_ID], selections[row[DOC_ID]], texts[row[DOC_ID]])
            for row in rows if row[_QUERY] == query
        ][:n]
        for query in range(len(queries))
    ], n_documents  # fmt: skip


def _search(shared: Any, ids: Sequence[str], n: int) -> Any:
    """The function of a task: at most n + 1 documents of each batch for each query, then the best n of the task."""

    def search(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        queries = shared.value
        width, best = queries[0].shape[1], [list[tuple[float, str]]() for _ in queries]
        for batch in batches:
            if not batch.num_rows:
                continue
            vectors, first = vectors_of(batch.column(EMBEDDING), width)
            names = batch.column(DOC_ID).to_pylist()
            for query, chunks in enumerate(queries):
                near = highest_cosines(chunks, vectors, first, n + 1)
                others = [(cosine, names[i]) for cosine, i in near if names[i] != ids[query]]
                best[query] = sorted([*best[query], *others], key=lambda pair: (-pair[0], pair[1]))[:n]
        rows = [(query, cosine, name) for query, pairs in enumerate(best) for cosine, name in pairs]
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[], [], []]
        types = (pa.int32(), pa.float64(), pa.string())
        yield pa.RecordBatch.from_arrays(
            [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], [_QUERY, _COSINE, DOC_ID]
        )

    return search


def _kept(context: RunContext) -> DataFrame | None:
    """Ids of the documents that any selection has, with the names of these selections; None without a selection."""
    tables = {name: table(context, f"selected/{name}") for name in context.config.selections}
    frames = [rows.select(DOC_ID, F.lit(name).alias(_SELECTIONS)) for name, rows in tables.items() if rows is not None]
    if not frames:
        return None
    names = F.array_sort(F.collect_set(_SELECTIONS)).alias(_SELECTIONS)
    return reduce(DataFrame.unionByName, frames).groupBy(DOC_ID).agg(names)
