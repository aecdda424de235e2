"""Verification by shingles: pairs in a stream of batches, and texts that are not UTF-8."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from betr_spark.dedup.columns import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.dedup.shingle_batches import shingled, with_jaccard
from betr_spark.kernels.arrow_buffers import binary_column
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.schemas import CONTENT_HASH, SHINGLES, SIMILARITY, TEXT

SETS = {b"a": [1, 2, 3, 4], b"b": [2, 3, 4, 5], b"c": [9], b"d": [], b"e": [1, 2, 3, 4]}
PAIRS = [(b"a", b"b", 0.6), (b"a", b"c", 0.0), (b"a", b"e", 1.0), (b"b", b"e", 0.6), (b"c", b"d", 0.0)]

ROW = {KEEPER_PREVIOUSLY_KEPT: False}


def shingles(name: bytes) -> bytes:
    return np.array(SETS[name], "<u8").tobytes()


@pytest.mark.parametrize("least", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("rows_in_batch", [1, 2, 3, 5, 100])
def test_pairs_are_compared_wherever_a_batch_ends(rows_in_batch: int, least: float) -> None:
    rows = [
        {**ROW, KEEPER: pair[0], CANDIDATE: pair[1], "is_candidate": bool(n), SHINGLES: shingles(pair[n])}
        for pair, n in itertools.product(PAIRS, range(2))
    ]
    batches = pa.Table.from_pylist(rows).to_batches(max_chunksize=rows_in_batch)
    found = [row for batch in with_jaccard(iter(batches), least=least) for row in batch.to_pylist()]
    assert [(row[KEEPER], row[CANDIDATE], round(row[SIMILARITY], 6)) for row in found] == [
        pair for pair in PAIRS if pair[2] >= least
    ]


def test_a_document_without_its_partner_is_in_no_pair_and_one_that_is_twice_is_no_partner_of_itself() -> None:
    row = {**ROW, CANDIDATE: b"z", SHINGLES: shingles(b"a"), "is_candidate": False}
    rows = [{**row, KEEPER: name} for name in (b"a", b"b", b"c", b"c")]
    batches = pa.Table.from_pylist(rows).to_batches(max_chunksize=2)
    assert [len(batch) for batch in with_jaccard(iter(batches), least=0.0)] == [0, 0]
    batches = pa.Table.from_pylist([*rows, {**rows[-1], "is_candidate": True}]).to_batches(max_chunksize=4)
    assert sum(len(batch) for batch in with_jaccard(iter(batches), least=0.0)) == 1


def test_a_row_that_is_not_utf8_is_left_out() -> None:
    """Such a row may have the id of a document."""
    texts = pa.array([b"one two three four five six", b"\xff one", b"changed"], pa.binary())
    wanted = content_hashes(np.frombuffer(b"one two three four five six", np.uint8), np.array([0, 27], np.int64))
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([b"k", b"k", b"c"]),
            binary_column(np.repeat(wanted, 3, axis=0)),
            texts.cast(pa.string(), safe=False),
        ],
        [RANK_KEY, CONTENT_HASH, TEXT],
    )
    (rows,) = shingled(iter([batch]), ngram=5, seed=1)
    assert rows.column(RANK_KEY).to_pylist() == [b"k", b"c"]
    assert rows.column("changed").to_pylist() == [False, True]
    assert len(rows.column(SHINGLES)[0].as_py()) == 2 * 8
