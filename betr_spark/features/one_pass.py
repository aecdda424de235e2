"""The one pass over the text: an Arrow batch of documents in, a narrow batch of features out."""

import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from betr_spark.contamination.in_pass import ItemFinder
from betr_spark.features.token_counter import TokenCounter
from betr_spark.kernels.arrow_buffers import binary_column, string_buffers
from betr_spark.kernels.minhash import MinHasher, low_bytes
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.utf8 import valid_utf8
from betr_spark.schemas import (
    BANDS,
    CONTENT_HASH,
    DETAIL,
    DOC_ID,
    INPUT_FILE,
    INVALID_UTF8,
    N_BYTES,
    N_LM_TOKENS,
    N_TOKENS,
    N_WORDS,
    NOT_UTF8,
    REASON,
    ROW,
    ROW_BYTES,
    SIGNATURE,
    SOURCE,
    TEST_ITEMS,
    TEXT,
    logit_column,
)
from betr_spark.scoring.ngram_table import SharedTables
from betr_spark.scoring.score import score

Batches = Iterator[pa.RecordBatch]
_PASSED_ON = (DOC_ID, SOURCE, REASON, DETAIL, ROW, INPUT_FILE)


def one_pass(
    hasher: MinHasher,
    scorers: Sequence[str],
    shared_tables: Callable[[], SharedTables],
    *,
    numbers: Sequence[str] = (),
    token_counter: Callable[[], TokenCounter] | None = None,
    item_finder: Callable[[], ItemFinder] | None = None,
) -> Callable[[Batches], Batches]:
    """Build the function for mapInArrow.

    It takes doc_id, source, text, reason, detail, row, input_file, and gives the columns of `features` but `batch`, the
    last four, and with `item_finder` `test_items`.
    A row with a reason has null text; a text that is not UTF-8 is given its reason here. The features of such rows mean
    nothing, and the caller keeps them out of `features`.

    Args:
        hasher: the sketch.
        scorers: names, for the logit columns.
        shared_tables: gives, in a worker, what `ngram_table.stack` makes of the scorers' tables in the order of `scorers`.
        numbers: names of scorers whose logit column is in the batch already.
        token_counter: gives, in a worker, what counts `n_lm_tokens`; without it, the column is passed on if the batch has it.
        item_finder: gives, in a worker, what finds test items.
    """

    def run(batches: Batches) -> Batches:
        mapped = shared_tables()
        counter = None if token_counter is None else token_counter()
        finder = None if item_finder is None else item_finder()
        for batch in batches:
            yield features_of(
                batch, hasher=hasher, scorers=scorers, shared_tables=mapped, numbers=numbers, token_counter=counter,
                item_finder=finder,
            )  # fmt: skip

    return run


def features_of(
    batch: pa.RecordBatch,
    *,
    hasher: MinHasher,
    scorers: Sequence[str],
    shared_tables: SharedTables,
    numbers: Sequence[str] = (),
    token_counter: TokenCounter | None = None,
    item_finder: ItemFinder | None = None,
) -> pa.RecordBatch:
    """Compute the features of one batch; see `one_pass` for the columns. A document without a word has null logits.

    `signature` is null for a document of fewer tokens than a shingle: it takes part in exact deduplication only. `bands` is
    null: a band is `rows` bytes of the signature (`kernels.minhash.band_keys`).
    """
    text = batch.column(TEXT)
    if text.null_count:
        text = pc.fill_null(text, "")
    data, offsets = string_buffers(text)
    n_words, logits = score(data, offsets, shared_tables)
    sketch, items = (hasher(data, offsets), None) if item_finder is None else item_finder.sketch_and_find(text, hasher)
    valid = valid_utf8(data, offsets)
    has_shingles = (sketch.n_shingles > 0) & valid  # a text that ends within a character has no defined shingles
    words = pa.array(n_words, pa.int32())
    columns = {
        **{name: batch.column(name) for name in _PASSED_ON},
        **_quarantine(batch, data, offsets, valid),
        N_BYTES: pa.array(np.diff(offsets).astype(np.int32)),
        N_WORDS: words,
        N_TOKENS: words,
        CONTENT_HASH: binary_column(content_hashes(data, offsets)),
        BANDS: pa.nulls(len(words), pa.list_(pa.int64())),
        SIGNATURE: binary_column(low_bytes(sketch.signatures), has_shingles),
    }
    if token_counter is not None:
        columns[N_LM_TOKENS] = token_counter(text, batch.column(DOC_ID), valid)
    elif N_LM_TOKENS in batch.schema.names:
        columns[N_LM_TOKENS] = batch.column(N_LM_TOKENS)
    no_text = n_words == 0
    for index, name in enumerate(scorers):
        columns[logit_column(name)] = pa.array(logits[:, index], pa.float32(), mask=no_text)
    for name in map(logit_column, numbers):
        finite = pc.fill_null(pc.is_finite(batch.column(name)), False)
        columns[name] = pc.if_else(pc.and_(finite, pa.array(~no_text)), batch.column(name), None)
    names = output_columns([*scorers, *numbers], lm_tokens=N_LM_TOKENS in columns)
    if items is not None:
        columns[TEST_ITEMS] = items
        names.append(TEST_ITEMS)
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names)


def output_columns(scorers: Sequence[str], *, lm_tokens: bool = False) -> list[str]:
    """Names and order of what `features_of` gives."""
    fixed = [DOC_ID, SOURCE, N_BYTES, N_WORDS, N_TOKENS, CONTENT_HASH, BANDS, SIGNATURE]
    fixed += [N_LM_TOKENS] if lm_tokens else []
    return [*fixed, *(logit_column(name) for name in scorers), REASON, DETAIL, ROW, INPUT_FILE]


def _quarantine(
    batch: pa.RecordBatch, data: NDArray[np.uint8], offsets: NDArray[np.int64], valid: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Columns that change by what only the pass sees: which texts are not UTF-8."""
    if valid.all():
        return {}
    wrong = pa.array(~valid)
    rows: list[str | None] = [None] * len(valid)
    for i in np.flatnonzero(~valid):  # few
        start = data[offsets[i] : offsets[i + 1]][:ROW_BYTES].tobytes()
        row = {name: batch.column(name)[i].as_py() for name in (DOC_ID, SOURCE)}
        rows[i] = json.dumps({**row, TEXT: start.decode(errors="replace")}, ensure_ascii=False)[:ROW_BYTES]
    return {
        REASON: pc.if_else(wrong, INVALID_UTF8, batch.column(REASON)),
        DETAIL: pc.if_else(wrong, NOT_UTF8, batch.column(DETAIL)),
        ROW: pc.if_else(wrong, pa.array(rows, pa.string()), batch.column(ROW)),
    }
