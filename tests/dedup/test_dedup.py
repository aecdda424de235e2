"""Components against scipy, survivors against the rule applied one by one, candidates in buckets of any size."""

import random
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array, csgraph

from betr_spark.dedup.candidates import candidate_pairs, with_similarity
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import ranking_order, with_representative
from betr_spark.dedup.survivors import duplicates, removed_near


def materialise(frame: Any) -> Any:
    return frame.localCheckpoint(eager=True)


@pytest.mark.parametrize("shape", ["random", "path", "star", "none"])
def test_components_equal_scipy(spark: Any, shape: str) -> None:
    pick = random.Random(3)
    n = 60
    edges = {
        "random": [(pick.randrange(n), pick.randrange(n)) for _ in range(45)],
        "path": list(zip(pick.sample(range(n), n), pick.sample(range(n), n), strict=True)),
        "star": [(7, i) for i in range(20)] + [(30, i) for i in range(31, 40)],
        "none": [],
    }[shape]
    frame = spark.createDataFrame([(f"n{a:02d}", f"n{b:02d}") for a, b in edges], "better string, worse string")
    found = {row[NODE]: row[ROOT] for row in connected_components(frame, materialise=materialise).collect()}
    pairs = np.array(edges or [(0, 0)])
    _, label = csgraph.connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)
    linked = {node for a, b in edges if a != b for node in (a, b)}
    assert found == {f"n{i:02d}": f"n{min(j for j in range(n) if label[j] == label[i]):02d}" for i in linked}


def test_survivors_are_those_of_going_through_the_ranking(spark: Any) -> None:
    pick = random.Random(5)
    logits = {f"d{i:02d}": pick.choice([-1.0, 0.0, 0.5, 2.0, None]) for i in range(50)}
    frame = spark.createDataFrame(list(logits.items()), "doc_id string, logit float")
    order = [row["doc_id"] for row in frame.orderBy(*ranking_order()).collect()]
    place = {doc: i for i, doc in enumerate(order)}
    pairs = {tuple(sorted(pick.sample(order, 2), key=place.__getitem__)) for _ in range(70)}
    edges = spark.createDataFrame([(a, b, 0.8) for a, b in pairs], "better string, worse string, similarity float")
    kept: list[str] = []
    wanted = {}
    for doc in order:
        keepers = [k for k in kept if (k, doc) in pairs]
        if keepers:
            wanted[doc] = keepers[0]
        else:
            kept.append(doc)
    found = removed_near(edges, frame, materialise=materialise)
    assert {row["doc_id"]: row["kept_doc_id"] for row in found.rows.collect()} == wanted
    assert found.rounds >= 2


def test_a_chain_loses_its_middle_alone(spark: Any) -> None:
    logits = spark.createDataFrame([("a", 3.0), ("b", 2.0), ("c", 1.0)], "doc_id string, logit float")
    edges = spark.createDataFrame([("a", "b", 0.8), ("b", "c", 0.9)], "better string, worse string, similarity float")
    found = removed_near(edges, logits, materialise=materialise).rows.collect()
    assert [(row["doc_id"], row["kept_doc_id"]) for row in found] == [("b", "a")]


def test_a_bucket_of_any_size_gives_linear_candidates_and_none_is_skipped(spark: Any) -> None:
    rows = [(f"d{i:04d}", [1], float(i % 10)) for i in range(3000)] + [("alone", [2], 1.0), ("none", [], 1.0)]
    pairs = candidate_pairs(spark.createDataFrame(rows, "doc_id string, bands array<bigint>, logit float")).collect()
    assert len(pairs) <= 2 * 2999
    assert {row["worse"] for row in pairs} | {row["better"] for row in pairs} == {f"d{i:04d}" for i in range(3000)}


def test_exact_copies_follow_their_best_copy(spark: Any) -> None:
    rows = [
        ("a", b"1", 0.5),
        ("b", b"1", 0.9),
        ("c", b"1", None),
        ("x", b"2", 0.7),
        ("e", b"3", None),
        ("f", b"3", None),
    ]
    documents = with_representative(spark.createDataFrame(rows, "doc_id string, content_hash binary, logit float"))
    near = spark.createDataFrame([("x", "b", 0.8)], "doc_id string, kept_doc_id string, similarity float")
    components = spark.createDataFrame([("b", "b"), ("x", "b")], "node string, root string")
    found = {row["doc_id"]: row for row in duplicates(documents, near, components).collect()}
    assert {k: r["kept_doc_id"] for k, r in found.items() if k in "acx"} == {"a": "b", "c": "b", "x": "b"}
    assert {k: r["kind"] for k, r in found.items() if k in "acx"} == {"a": "exact", "c": "exact", "x": "near"}
    assert {r["component_size"] for k, r in found.items() if k in "acx"} == {4}
    assert len({"e", "f"} & set(found)) == 1


def test_similarity_is_the_share_of_equal_positions(spark: Any) -> None:
    signatures = [
        ("a", np.arange(8, dtype=np.uint32).tobytes()),
        ("b", np.array([0, 1, 2, 3, 9, 9, 9, 7], np.uint32).tobytes()),
    ]
    frame = spark.createDataFrame([(n, bytearray(s)) for n, s in signatures], "doc_id string, signature binary")
    pairs = spark.createDataFrame([("a", "b"), ("b", "b")], "better string, worse string")
    found = with_similarity(pairs, frame, left="better", right="worse").collect()
    assert {(r["better"], r["worse"]): r["similarity"] for r in found} == {("a", "b"): 0.625, ("b", "b"): 1.0}
