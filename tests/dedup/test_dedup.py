"""The steps of deduplication on small frames: rank_keys, copies, components against scipy and Spark, the rule, verification."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_array, csgraph

from betr_spark.dedup.candidates import Thresholds, candidate_pairs, linked_documents
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import copies_of, rank_keys, with_rank_key
from betr_spark.dedup.survivors import duplicates, removed_near, with_sizes


def materialise(frame: Any) -> Any:
    return frame.localCheckpoint(eager=True)


def rank_key(number: int) -> bytearray:
    return bytearray(number.to_bytes(16, "big"))


def number(place_: bytes) -> int:
    return int.from_bytes(place_, "big")


def test_places_sort_as_the_ranking_does() -> None:
    merits = [2.5, 2.5, -1.0, 0.0, None, float(np.float32(1e-45)), -3e38, 3e38, None]
    hashes = np.array([5, 4, 1, 1, 9, 1, 1, 1, 8], np.uint64)
    rows = rank_keys(pa.array(merits, pa.float32()), hashes, np.zeros(9, np.uint64))
    found = sorted(range(9), key=lambda i: rows[i].tobytes())
    assert found == sorted(range(9), key=lambda i: (merits[i] is None, -(merits[i] or 0.0), hashes[i]))
    sizes = rank_keys(pa.array([3, 2**31 - 1, 0], pa.int32()), np.zeros(3, np.uint64), np.zeros(3, np.uint64))
    assert sorted(range(3), key=lambda i: sizes[i].tobytes()) == [1, 0, 2]


def test_a_place_does_not_depend_on_other_rows(spark: Any) -> None:
    rows = [(f"d{i}", i / 7 if i % 5 else None, i) for i in range(50)]
    one = spark.createDataFrame(rows, "doc_id string, survivor_score float, kept int")
    other = spark.createDataFrame(rows[::-1], "doc_id string, survivor_score float, kept int").repartition(7)
    found = [sorted(tuple(row) for row in with_rank_key(frame).collect()) for frame in (one, other)]
    assert found[0] == found[1]
    assert with_rank_key(one).columns == ["doc_id", "kept", "rank_key"]
    assert len({bytes(row[2]) for row in found[0]}) == 50
    ranked = spark.createDataFrame(rows, "doc_id string, survivor_score float, kept int").selectExpr(
        "*", "xxhash64(doc_id) as h"
    )
    wanted = [row["doc_id"] for row in ranked.orderBy(ranked.survivor_score.desc_nulls_last(), "h").collect()]
    assert [row[0] for row in sorted(found[0], key=lambda row: bytes(row[2]))] == wanted


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
    rows = connected_components(frame, materialise=materialise, most_on_driver=most).collect()
    pairs = np.array(edges or [(0, 0)])
    _, label = csgraph.connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)
    linked = {node for a, b in edges if a != b for node in (a, b)}
    wanted = {i: min(j for j in range(n) if label[j] == label[i]) for i in linked}
    assert {number(row[NODE]): number(row[ROOT]) for row in rows} == wanted
    assert len(rows) == len(wanted)


def test_rounds_grow_with_the_logarithm_of_a_path(spark: Any) -> None:
    rounds = []
    for n in (16, 256):
        frame = spark.createDataFrame(
            [(rank_key(i), rank_key(i + 1)) for i in range(n)], "keeper binary, candidate binary"
        )
        seen = []
        rows = connected_components(
            frame, materialise=lambda frame, seen=seen: seen.append(1) or materialise(frame), most_on_driver=-1
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
    found = removed_near(frame.repartition(3), components).collect()
    assert all(row["similarity"] == pytest.approx(0.8) for row in found)
    return {number(row["rank_key"]): number(row["kept"]) for row in found}


def test_survivors_are_those_of_going_through_the_ranking(spark: Any) -> None:
    pick = random.Random(5)
    previously_kept = {i for i in range(80) if pick.random() < 0.2}
    order = sorted(range(80), key=lambda i: (i not in previously_kept, i))
    edges: set[Edge] = set()
    for _ in range(120):
        one, other = sorted(pick.sample(range(80), 2), key=order.index)
        if other not in previously_kept:
            edges.add((one, other, one in previously_kept))
    kept: list[int] = []
    wanted = {}
    for doc in order:
        keepers = [k for k in kept if (k, doc, k in previously_kept) in edges]
        if keepers:
            wanted[doc] = keepers[0]
        else:
            kept.append(doc)
    assert len(wanted) > 20
    assert decided(spark, sorted(edges)) == wanted


def test_a_chain_loses_every_other_document_and_no_more(spark: Any) -> None:
    assert decided(spark, [(i, i + 1, False) for i in range(6)]) == {1: 0, 3: 2, 5: 4}


def pairs_of(
    spark: Any, signatures: dict[int, list[int]], buckets: dict[int, list[int]], previously_kept: set[int]
) -> dict[tuple[int, int], int]:
    rows = [
        (str(i), -i, bytearray(str(i).ljust(16), "ascii"), i not in previously_kept, False, buckets[i])
        for i in signatures
    ]
    names = (
        "doc_id string, survivor_score float, content_hash binary, new boolean, removed boolean, bands array<bigint>"
    )
    documents = spark.createDataFrame([(row[0], float(row[1]), *row[2:]) for row in rows], names)
    named = {
        int(row["doc_id"]): row["rank_key"]
        for row in with_rank_key(documents.select("doc_id", "survivor_score")).collect()
    }
    number_of = {bytes(rank_key): i for i, rank_key in named.items()}
    packed = [(named[i], bytearray(np.array(s, np.uint32).tobytes())) for i, s in signatures.items()]
    signed = spark.createDataFrame(packed, "rank_key binary, signature binary")
    found = candidate_pairs(
        linked_documents(documents, n_parts=3),
        lambda rank_keys: signed.join(rank_keys, on="rank_key", how="left_semi"),
        Thresholds(16, 8, 12, 17),
        materialise=materialise,
    ).collect()
    assert len({(bytes(row["keeper"]), bytes(row["candidate"])) for row in found}) == len(found)
    return {(number_of[bytes(row["keeper"])], number_of[bytes(row["candidate"])]): row["equal"] for row in found}


def test_a_bucket_of_unlike_documents_still_finds_its_similar_pairs(spark: Any) -> None:
    """200 families of two in one bucket: more than any number of representatives, so that rounds follow."""
    pick = random.Random(1)
    signatures = {}
    for family in range(200):
        values = [pick.randrange(10**6) for _ in range(16)]
        signatures[2 * family] = values
        signatures[2 * family + 1] = [*values[:15], 7]
    found = pairs_of(spark, signatures, {document: [5] for document in signatures}, set())
    inside = {(2 * f, 2 * f + 1): 15 for f in range(200)}
    assert set(found.items()) <= set(inside.items())
    assert len(found) >= 195  # one whose last values are looked at may part


def test_published_documents_are_compared_with_new_ones_alone_and_come_first(spark: Any) -> None:
    signatures = {i: [1] * 16 for i in range(6)}
    buckets = {i: [3] for i in range(6)}
    found = pairs_of(spark, signatures, buckets, {2, 4})
    assert set(found) == {(2, i) for i in (0, 1, 3, 5)}
    assert pairs_of(spark, signatures, buckets, set(range(6))) == {}


def test_documents_without_a_band_have_no_pairs(spark: Any) -> None:
    assert pairs_of(spark, {0: [1] * 16, 1: [1] * 16}, {0: [], 1: []}, set()) == {}


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
    documents = spark.createDataFrame(
        [(d, f"site {d}", bytearray(c), rank_key(p), new, removed) for d, c, p, new, removed in rows],
        "doc_id string, source string, content_hash binary, rank_key binary, new boolean, removed boolean",
    )
    copies = copies_of(documents)
    found = {number(row["rank_key"]): (number(row["representative"]), row["copies"]) for row in copies.collect()}
    assert found == {5: (2, 2), 2: (2, 2), 9: (9, 2), 1: (9, 2), 7: (7, 3), 8: (7, 3), 4: (7, 3)}
    near = spark.createDataFrame(
        [(rank_key(3), rank_key(2), 0.8, "shingles"), (rank_key(7), rank_key(9), 0.95, "signature")],
        "rank_key binary, kept binary, similarity float, evidence string",
    )
    components = spark.createDataFrame(
        [(rank_key(n), rank_key(r)) for n, r in ((2, 2), (3, 2), (7, 7), (9, 7))], "node binary, root binary"
    )
    components = with_sizes(components, copies)
    rows_found = duplicates(documents, copies, near, components, materialise=materialise).collect()
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
