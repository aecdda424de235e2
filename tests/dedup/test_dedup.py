"""The steps of deduplication on small frames: rank_keys, copies, components against scipy and Spark, the rule, verification."""

import itertools
import math
import random
import struct
import tempfile
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array, csgraph

from betr_spark.dedup.candidates import candidate_pairs
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import copies_of, with_copies
from betr_spark.dedup.greedy_removal import Edges, GreedyRemoval
from betr_spark.dedup.linking import LinkCounters, linked_documents
from betr_spark.dedup.rank_keys import with_rank_key
from betr_spark.dedup.survivors import duplicates, named_components, removed_near
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.storage import delta
from betr_spark.storage.delta import session_conf


def materialise(frame: Any) -> Any:
    return frame.localCheckpoint(eager=True)


def rank_key(number: int) -> bytearray:
    return bytearray(number.to_bytes(20, "big"))


def number(key: bytes) -> int:
    return int.from_bytes(key, "big")


ODD_SCORES = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    math.inf,
    -math.inf,
]


@pytest.mark.parametrize("compiled", [True, False])
def test_rank_keys_sort_by_score_descending_and_nulls_last(spark: Any, compiled: bool) -> None:
    pick = random.Random(5)
    scores = [None, *ODD_SCORES, *struct.unpack("<500d", pick.randbytes(4000)), *range(-50, 50)]
    scores += [1_700_000_000.0 + i for i in range(100)] + [
        0.9 + i * 1e-9 for i in range(100)
    ]  # equal in single precision
    rows = [(f"d{i}", score) for i, score in enumerate(scores) if score is None or not math.isnan(score)]
    frame = spark.createDataFrame(
        [(i, s if s is None else float(s)) for i, s in rows], "doc_id string, survivor_score double"
    )
    with session_conf(spark, "spark.sql.codegen.factoryMode", "FALLBACK" if compiled else "NO_CODEGEN"):
        keyed = {row["doc_id"]: bytes(row["rank_key"]) for row in with_rank_key(frame.repartition(2)).collect()}
    expected = {}
    for doc_id, score in rows:
        bits = struct.unpack(">Q", struct.pack(">d", (score or 0.0) + 0.0))[0]
        expected[doc_id] = bytes([score is None]) + (bits if bits >> 63 else bits ^ (2**63 - 1)).to_bytes(8, "big")
    assert {doc_id: key[:9] for doc_id, key in keyed.items()} == expected
    in_order = [score for _, score in sorted(rows, key=lambda row: keyed[row[0]])]
    assert in_order == [*sorted((score for _, score in rows if score is not None), reverse=True), None]
    assert {len(key) for key in keyed.values()} == {20}


def test_rank_keys_are_bytes_where_spark_concatenates_bytes_as_a_string(spark: Any) -> None:
    frame = spark.createDataFrame([("a", 1.0)], "doc_id string, survivor_score double")
    with delta.session_conf(spark, "spark.sql.function.concatBinaryAsString", "true"):
        assert dict(with_rank_key(frame).dtypes)["rank_key"] == "binary"


def test_a_rank_key_does_not_depend_on_other_rows(spark: Any) -> None:
    rows = [(f"d{i}", i / 7 if i % 5 else None, i) for i in range(50)]
    frame = spark.createDataFrame(rows, "doc_id string, survivor_score double, kept int")
    reordered = spark.createDataFrame(rows[::-1], "doc_id string, survivor_score double, kept int").repartition(7)
    keyed = [sorted(tuple(row) for row in with_rank_key(some).collect()) for some in (frame, reordered)]
    assert keyed[0] == keyed[1]
    assert with_rank_key(frame).columns == ["doc_id", "kept", "rank_key"]
    assert len({bytes(row[2]) for row in keyed[0]}) == 50
    ranked = spark.createDataFrame(rows, "doc_id string, survivor_score double, kept int").selectExpr(
        "*", "xxhash64(doc_id) as h"
    )
    in_order = [row["doc_id"] for row in ranked.orderBy(ranked.survivor_score.desc_nulls_last(), "h").collect()]
    assert [row[0] for row in sorted(keyed[0], key=lambda row: bytes(row[2]))] == in_order


@pytest.mark.parametrize("where", ["driver", "spark"])
@pytest.mark.parametrize("shape", ["random", "path", "star", "none"])
def test_components_equal_scipy(spark: Any, shape: str, where: str) -> None:
    pick = random.Random(3)
    n = 60
    edges = {
        "random": [(pick.randrange(n), pick.randrange(n)) for _ in range(45)],
        "path": list(zip(pick.sample(range(n), n), pick.sample(range(n), n), strict=True)),
        "star": [(7, i) for i in range(20)] + [(30, i) for i in range(31, 40)],
        "none": [],
    }[shape]
    frame = spark.createDataFrame([(rank_key(a), rank_key(b)) for a, b in edges], "keeper binary, candidate binary")
    most = 10**6 if where == "driver" else -1
    rows = connected_components(frame, materialise=materialise, max_on_driver=most).collect()
    pairs = np.array(edges or [(0, 0)])
    _, label = csgraph.connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)
    linked = {node for a, b in edges if a != b for node in (a, b)}
    expected = {i: min(j for j in range(n) if label[j] == label[i]) for i in linked}
    assert {number(row[NODE]): number(row[ROOT]) for row in rows} == expected
    assert len(rows) == len(expected)


def test_rounds_grow_with_the_logarithm_of_a_path(spark: Any) -> None:
    rounds = []
    for n in (16, 256):
        frame = spark.createDataFrame(
            [(rank_key(i), rank_key(i + 1)) for i in range(n)], "keeper binary, candidate binary"
        )
        seen = []
        rows = connected_components(
            frame, materialise=lambda frame, seen=seen: seen.append(1) or materialise(frame), max_on_driver=-1
        )
        assert {number(row[ROOT]) for row in rows.collect()} == {0}
        rounds.append(len(seen))
    assert rounds[1] <= rounds[0] + 8


Edge = tuple[int, int, bool]


def decided(spark: Any, edges: list[Edge]) -> dict[int, int]:
    rows = [(rank_key(a), stays, rank_key(b), 0.8, "shingles") for a, b, stays in edges]
    names = "keeper binary, keeper_previously_kept boolean, candidate binary, similarity float, evidence string"
    frame = spark.createDataFrame(rows, names)
    components = connected_components(frame.select("keeper", "candidate"), materialise=materialise)
    removed = removed_near(frame.repartition(3), components).collect()
    assert all(row["similarity"] == pytest.approx(0.8) for row in removed)
    return {number(row["rank_key"]): number(row["kept"]) for row in removed}


def test_survivors_equal_the_rule_applied_document_by_document(spark: Any) -> None:
    pick = random.Random(5)
    previously_kept = {i for i in range(80) if pick.random() < 0.2}
    order = sorted(range(80), key=lambda i: (i not in previously_kept, i))
    edges: set[Edge] = set()
    for _ in range(120):
        keeper, candidate = sorted(pick.sample(range(80), 2), key=order.index)
        if candidate not in previously_kept:
            edges.add((keeper, candidate, keeper in previously_kept))
    kept: list[int] = []
    expected = {}
    for doc in order:
        keepers = [k for k in kept if (k, doc, k in previously_kept) in edges]
        if keepers:
            expected[doc] = keepers[0]
        else:
            kept.append(doc)
    assert len(expected) > 20
    assert decided(spark, sorted(edges)) == expected


def test_a_chain_loses_every_second_document_and_no_more(spark: Any) -> None:
    assert decided(spark, [(i, i + 1, False) for i in range(6)]) == {1: 0, 3: 2, 5: 4}


def test_the_rule_holds_for_components_larger_than_a_task_keeps_in_memory() -> None:
    """The stream of `removed_near`, cut anywhere, with the removed documents in a mapped file."""
    pick = random.Random(6)
    for memory_bytes in (0, 100, 10**6):
        rows, expected = [], []
        for root in range(5):
            removed: set[int] = set()
            for candidate in range(1, 60):
                stays = {keeper for keeper in range(candidate) if pick.random() < 0.1 and pick.random() < 0.2}
                for keeper in sorted(
                    pick.sample(range(candidate), min(candidate, 3)), key=lambda k: (k not in stays, k)
                ):
                    if candidate not in removed and (keeper in stays or keeper not in removed):
                        removed.add(candidate)
                        expected.append(len(rows))
                    rows.append((root, keeper, keeper in stays, candidate))
        columns = [np.array([list(rank_key(row[i])) for row in rows], np.uint8) for i in (0, 1, 3)]
        previously_kept = np.array([row[2] for row in rows])
        removal = GreedyRemoval(tempfile.TemporaryFile, memory_bytes=memory_bytes)
        cuts = [0, *sorted(pick.sample(range(len(rows)), 20)), len(rows)]
        decided = []
        for start, end in itertools.pairwise(cuts):
            some = slice(start, end)
            edges = Edges(columns[0][some], columns[1][some], previously_kept[some], columns[2][some])
            decided += [start + int(i) for i in removal.decide(edges)]
        assert decided == expected


def pairs_of(
    spark: Any, signatures: dict[int, list[int]], buckets: dict[int, int | None], previously_kept: set[int]
) -> dict[tuple[int, int], int]:
    bands = {i: None if bucket is None else bytearray(bucket.to_bytes(8)) for i, bucket in buckets.items()}
    rows = [
        (str(i), float(-i), i not in previously_kept, bands[i], bytearray(values)) for i, values in signatures.items()
    ]
    names = "doc_id string, survivor_score double, new boolean, band binary, signature binary"
    documents = with_rank_key(spark.createDataFrame(rows, names)).localCheckpoint()
    number_of = {bytes(row["rank_key"]): int(row["doc_id"]) for row in documents.select("doc_id", "rank_key").collect()}
    one_band = documents.drop("signature").withColumnRenamed("band", "signature")
    links = linked_documents(one_band, bands=1, n_parts=3, counters=LinkCounters.of(spark))
    pairs, n, n_unsure = candidate_pairs(
        links,
        documents.select("rank_key", "signature"),
        Thresholds(16, 8, 12, 16),
        n_parts=3,
        materialise=materialise,
    )
    collected = pairs.collect()
    assert len({(bytes(row["keeper"]), bytes(row["candidate"])) for row in collected}) == len(collected) == n
    assert n_unsure == sum(row["equal"] < 16 for row in collected)
    return {(number_of[bytes(row["keeper"])], number_of[bytes(row["candidate"])]): row["equal"] for row in collected}


def test_a_bucket_of_dissimilar_documents_still_gives_its_similar_pairs(spark: Any) -> None:
    """200 families of two in one bucket: more than the maximum number of representatives, so several rounds are needed."""
    pick = random.Random(1)
    signatures = {}
    for family in range(200):
        values = [pick.randrange(8, 256) for _ in range(16)]
        signatures[2 * family] = values
        signatures[2 * family + 1] = [*values[:15], 7]
    pairs = pairs_of(spark, signatures, dict.fromkeys(signatures, 5), set())
    inside = {(2 * f, 2 * f + 1): 15 for f in range(200)}
    assert set(pairs.items()) <= set(inside.items())
    assert len(pairs) >= 195  # a pair may get different buckets


def test_previously_kept_documents_are_compared_with_new_documents_only_and_come_first(spark: Any) -> None:
    signatures = {i: [1] * 16 for i in range(6)}
    buckets: dict[int, int | None] = dict.fromkeys(range(6), 3)
    pairs = pairs_of(spark, signatures, buckets, {2, 4})
    assert set(pairs) == {(2, i) for i in (0, 1, 3, 5)}
    assert pairs_of(spark, signatures, buckets, set(range(6))) == {}


def test_documents_without_a_signature_have_no_pairs(spark: Any) -> None:
    assert pairs_of(spark, {0: [1] * 16, 1: [1] * 16}, {0: None, 1: None}, set()) == {}


def test_exact_copies_follow_their_representative(spark: Any) -> None:
    rows = [  # doc_id, content, rank_key, new, removed earlier
        ("a", b"1", 5, True, False),
        ("b", b"1", 2, True, False),
        ("x", b"2", 3, True, False),
        ("e", b"3", 9, False, False),  # previously_kept
        ("f", b"3", 1, True, False),  # keeper, but new
        ("g", b"4", 7, False, True),  # removed earlier, as its copy below
        ("h", b"4", 8, False, True),
        ("i", b"4", 4, True, False),
    ]
    rows += [("s", b"5", 6, True, False), ("t", b"6", 10, True, False)]  # the only ones of their content
    documents = with_copies(
        spark.createDataFrame(
            [
                (d, f"site {d}", bytearray(c), rank_key(p), new, removed, None if d == "t" else bytearray(8))
                for d, c, p, new, removed in rows
            ],
            "doc_id string, source string, content_hash binary, rank_key binary, new boolean, removed boolean, "
            "signature binary",
        )
    )
    copies = copies_of(documents)
    by_key = {number(row["rank_key"]): (number(row["representative"]), row["copies"]) for row in copies.collect()}
    assert by_key == {5: (2, 2), 2: (2, 2), 9: (9, 2), 1: (9, 2), 7: (7, 3), 8: (7, 3), 4: (7, 3)}
    in_buckets = documents.where("signature is not null").collect()
    assert sorted(row["doc_id"] for row in in_buckets) == ["b", "e", "s", "x"]  # g was removed
    near = spark.createDataFrame(
        [(rank_key(3), rank_key(2), 0.8, "shingles"), (rank_key(7), rank_key(9), 0.95, "signature")],
        "rank_key binary, kept binary, similarity float, evidence string",
    )
    components = spark.createDataFrame(
        [(rank_key(n), rank_key(r)) for n, r in ((2, 2), (3, 2), (7, 7), (9, 7))], "node binary, root binary"
    )
    named = named_components(components, documents)
    rows_found = duplicates(copies, near, named).collect()
    assert all(row["source"] == f"site {row['doc_id']}" for row in rows_found)
    by_id = {row["doc_id"]: tuple(row)[2:] for row in rows_found}
    near_b, near_e = pytest.approx(0.8), pytest.approx(0.95)
    assert by_id == {
        "a": ("b", "exact", 1.0, "content_hash", "b", 3),
        "x": ("b", "near", near_b, "shingles", "b", 3),
        "f": ("e", "exact", 1.0, "content_hash", "g", 5),
        "g": ("e", "near", near_e, "signature", "g", 5),
        "h": ("e", "near", near_e, "signature", "g", 5),
        "i": ("e", "near", near_e, "signature", "g", 5),
    }
