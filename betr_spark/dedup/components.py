"""Connected components: by scipy where the edges are few, on Spark by alternating large-star and small-star elsewhere.

Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected Components in MapReduce and Beyond" (2014). Every round is
linear in the edges; rounds grow with the logarithm of the longest path.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import coo_array, csgraph

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.arrow_buffers import binary_column, binary_rows

NODE, ROOT = "node", "root"
MOST_EDGES_ON_DRIVER = 2_000_000  # 64 MB of names


def connected_components(
    edges: DataFrame, *, materialise: Callable[[DataFrame], DataFrame], most_on_driver: int = MOST_EDGES_ON_DRIVER
) -> DataFrame:
    """Label every node with the smallest name of its component.

    Args:
        edges: two columns of node names, 16 bytes each; direction, order and repetition mean nothing. Read more than once.
        materialise: computes a frame and cuts its lineage.
        most_on_driver: edges that are gathered there; with more of them nothing is.

    Returns:
        node, root; one row a node that has an edge to another.
    """
    one, other = edges.columns
    edges = edges.select(F.col(one).alias("u"), F.col(other).alias("v")).where("u <> v")
    few = edges.limit(most_on_driver + 1).toArrow()
    if few.num_rows <= most_on_driver:
        return edges.sparkSession.createDataFrame(_components(few.combine_chunks()), f"{NODE} binary, {ROOT} binary")
    current = materialise(edges.distinct())
    for _ in itertools.count():
        following = materialise(_small_star(_large_star(current)))
        if _same(current, following):
            break
        current = following
    children = following.select(F.col("u").alias(NODE), F.col("v").alias(ROOT))
    return children.unionByName(children.select(F.col(ROOT).alias(NODE), ROOT)).distinct()


def _components(edges: pa.Table) -> pa.Table:
    names = [pa.concat_arrays(edges.column(side).chunks or [pa.array([], pa.binary())]) for side in ("u", "v")]
    ends = (
        np.concatenate([binary_rows(array, RANK_KEY_BYTES) for array in names]).view(f"V{RANK_KEY_BYTES}").reshape(-1)
    )
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
    """Link each node's larger neighbours to the smallest node among it and its neighbours."""
    both = edges.unionByName(edges.select(F.col("v").alias("u"), F.col("u").alias("v")))
    least = both.groupBy("u").agg(F.least(F.min("v"), F.col("u")).alias("least"))
    linked = both.where("v > u").join(least, on="u", how="inner")
    return linked.select(F.col("v").alias("u"), F.col("least").alias("v")).where("u <> v").distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Link each node and its smaller neighbours to the smallest of those."""
    down = edges.select(F.greatest("u", "v").alias("u"), F.least("u", "v").alias("v"))
    least = down.groupBy("u").agg(F.min("v").alias("least"))
    linked = down.join(least, on="u", how="inner")
    neighbours = linked.select(F.col("v").alias("u"), F.col("least").alias("v"))
    itself = least.select("u", F.col("least").alias("v"))
    return neighbours.unionByName(itself).where("u <> v").distinct()


def _same(one: DataFrame, other: DataFrame) -> bool:
    """Tell whether two sets of edges are equal."""
    if one.count() != other.count():
        return False
    return not one.join(other, on=["u", "v"], how="left_anti").take(1)
