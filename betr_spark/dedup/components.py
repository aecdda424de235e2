"""Connected components on Spark, by alternating large-star and small-star, each round materialised.

Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, "Connected Components in MapReduce and Beyond" (2014). Every round is
linear in the edges; rounds grow with the logarithm of the longest path.
"""

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

NODE, ROOT = "node", "root"
_MOST_ROUNDS = 100


def connected_components(edges: DataFrame, *, materialise: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """Label every node with the smallest name of its component.

    Args:
        edges: two columns of node names; direction, order and repetition mean nothing.
        materialise: computes a frame and cuts its lineage, for example a reliable checkpoint.

    Returns:
        node, root; one row a node that has an edge.

    Raises:
        RuntimeError: no end after 100 rounds, which paths of any real length do not need.
    """
    one, other = edges.columns
    current = materialise(edges.select(F.col(one).alias("u"), F.col(other).alias("v")).where("u <> v").distinct())
    for _ in range(_MOST_ROUNDS):
        following = materialise(_small_star(_large_star(current)))
        if _same(current, following):
            children = following.select(F.col("u").alias(NODE), F.col("v").alias(ROOT))
            return children.unionByName(children.select(F.col(ROOT).alias(NODE), ROOT)).distinct()
        current = following
    raise RuntimeError(f"components: not found in {_MOST_ROUNDS} rounds")


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
