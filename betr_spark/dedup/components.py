"""Connected components: with scipy on the driver for few edges, on Spark by alternating large-star and small-star for more.

Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected Components in MapReduce and Beyond" (2014). The work of a round
is linear in the edges; the number of rounds grows with the logarithm of the longest path.
"""

import itertools

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import coo_array, csgraph

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.rank_keys import MAX_BROADCAST
from betr_spark.kernels.arrow_buffers import binary_column, binary_rows
from betr_spark.spark.small_frames import frame_of
from betr_spark.storage.scratch import Materialise, counted

NODE, ROOT = "node", "root"
_EDGES = "edges"
_SHUFFLE_HASH = "shuffle_hash"
MAX_EDGES_ON_DRIVER = 2_000_000  # 80 MB of rank keys


def connected_components(
    edges: DataFrame, *, materialise: Materialise, max_on_driver: int = MAX_EDGES_ON_DRIVER
) -> DataFrame:
    """Label every node with the smallest node of its component.

    Args:
        edges: two columns of nodes, 20 bytes each; direction, order and repetition do not matter. Read more than once.
        materialise: computes a frame and cuts its lineage.
        max_on_driver: up to this number of edges are collected on the driver; with more edges, Spark does the work.

    Returns:
        node, root; one row for each node that has an edge to a different node. It has a hint that tells Spark how to join
        it with all documents.
    """
    left, right = edges.columns
    edges = edges.select(F.col(left).alias("u"), F.col(right).alias("v")).where("u <> v")
    few = edges.limit(max_on_driver + 1).toArrow()
    if few.num_rows <= max_on_driver:
        components = _components(few.combine_chunks())
        rows = frame_of(edges.sparkSession, components, f"{NODE} binary, {ROOT} binary")
        return F.broadcast(rows) if components.num_rows <= MAX_BROADCAST else rows.hint(_SHUFFLE_HASH)
    count = {_EDGES: F.count("*")}
    current, n = counted(materialise, edges.distinct(), count)
    for _ in itertools.count():
        following, n_following = counted(materialise, _small_star(_large_star(current)), count)
        if n == n_following and not current.join(following, on=["u", "v"], how="left_anti").take(1):
            break
        current, n = following, n_following
    children = following.select(F.col("u").alias(NODE), F.col("v").alias(ROOT))
    return children.unionByName(children.select(F.col(ROOT).alias(NODE), ROOT)).distinct().hint(_SHUFFLE_HASH)


def _components(edges: pa.Table) -> pa.Table:
    sides = [pa.concat_arrays(edges.column(side).chunks or [pa.array([], pa.binary())]) for side in ("u", "v")]
    ends = np.concatenate([binary_rows(side, RANK_KEY_BYTES) for side in sides])
    ends = ends.view(f"V{RANK_KEY_BYTES}").reshape(-1)
    nodes, number = np.unique(ends, return_inverse=True)
    pairs = number.reshape(2, -1)
    graph = coo_array((np.ones(pairs.shape[1], np.int8), pairs), shape=(len(nodes), len(nodes)))
    n, label = csgraph.connected_components(graph, directed=False)
    least = np.full(n, len(nodes), np.int64)
    np.minimum.at(least, label, np.arange(len(nodes)))
    roots = nodes[least[label]]
    columns = [binary_column(array.view(np.uint8).reshape(-1, RANK_KEY_BYTES)) for array in (nodes, roots)]
    return pa.Table.from_arrays(columns, [NODE, ROOT])


def _large_star(edges: DataFrame) -> DataFrame:
    """Link the larger neighbours of each node to the smallest of the node and its neighbours."""
    both = edges.unionByName(edges.select(F.col("v").alias("u"), F.col("u").alias("v")))
    least = both.groupBy("u").agg(F.least(F.min("v"), F.col("u")).alias("least"))
    linked = both.where("v > u").join(least, on="u", how="inner")
    return linked.select(F.col("v").alias("u"), F.col("least").alias("v")).where("u <> v").distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Link each node and its smaller neighbours to the smallest of these neighbours."""
    down = edges.select(F.greatest("u", "v").alias("u"), F.least("u", "v").alias("v"))
    least = down.groupBy("u").agg(F.min("v").alias("least"))
    linked = down.join(least, on="u", how="inner")
    neighbours = linked.select(F.col("v").alias("u"), F.col("least").alias("v"))
    nodes = least.select("u", F.col("least").alias("v"))
    return neighbours.unionByName(nodes).where("u <> v").distinct()
