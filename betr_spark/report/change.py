"""What changed in a selection since the version before: documents in and out, and the stability of score, length and source."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.report.figures import NO_SOURCE
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, PHASE, SOURCE
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun

OTHERS = "(others)"
_DECILES = [tenth / 10 for tenth in range(1, 10)]
_ACCURACY = 10_000  # edges are within 1/10,000 of the documents of the true deciles
_MAX_SOURCES = 50
_SMALLEST_SHARE = 1e-4  # an empty bin has this share, or the index would be infinite
_IS_NEW, _BEFORE, _AFTER, _COUNT = "is_new", "before", "after", "count"


class Bin(NamedTuple):
    """Documents with a value above `low`, up to `high`, in the version before and now; the outer bounds are infinite."""

    low: float
    high: float
    before: int
    after: int


class SourceCount(NamedTuple):
    """Documents of a source in the version before and now; `(others)` are all that are not listed."""

    source: str
    before: int
    after: int


class Stability(NamedTuple):
    """Population stability index of a number, with its bins: the deciles of the version before; equal deciles are one.

    The index is the sum of (after - before) * ln(after / before) over the shares of the bins: below 0.1 the distribution
    is stable, above 0.25 it has changed much. NaN if a version is empty.
    """

    psi: float
    bins: list[Bin]


class SourceStability(NamedTuple):
    """Population stability index of the source, with the documents of the 50 largest sources."""

    psi: float
    sources: list[SourceCount]


class Change(NamedTuple):
    """A selection beside its version before the newest commit that changed rows. A document counts once, whatever its phases.

    Attributes:
        name: of the selection.
        version: of the Delta table.
        previous_version: the version that it is compared with.
        previous_at_ms: when that was written, milliseconds since the epoch.
        why: which settings or inputs changed, in words; empty if nothing of them did, or the run is not recorded.
        n_before: documents of the previous version.
        n_after: documents now.
        n_in: documents that were not in the previous version.
        n_out: documents that are not there any more.
        tokens_in: their tokens.
        tokens_out: their tokens.
        score: stability of the logit.
        length: stability of the number of tokens.
        source: stability of the source.
    """

    name: str
    version: int
    previous_version: int
    previous_at_ms: int
    why: str
    n_before: int
    n_after: int
    n_in: int
    n_out: int
    tokens_in: int
    tokens_out: int
    score: Stability
    length: Stability
    source: SourceStability


def change(spark: SparkSession, config: Config, name: str) -> Change | None:
    """Compare a selection with its version before; reads no text. Four aggregations of the two versions.

    Args:
        spark: the session.
        config: for the output.
        name: of a selection that is written.

    Returns:
        None if there is no version before, or its files were deleted, as `betr-spark maintain` does.
    """
    path = config.table(f"selected/{name}")
    earlier = delta.previous(spark, path)
    if earlier is None:
        return None
    previous_version, before = earlier
    after = delta.read(spark, path)
    commits = [
        delta.commit_at(spark, path, str(version)) for version in (previous_version, delta.newest_version(spark, path))
    ]
    rows = _both(before, after)
    n_in, n_out, n_both, tokens_in, tokens_out = documents_in_and_out(rows)
    n_before, n_after = n_both + n_out, n_both + n_in
    score, length = stabilities(rows)
    return Change(
        name=name, version=commits[1].version, previous_version=commits[0].version,
        previous_at_ms=commits[0].timestamp_ms, why=_why(*[commit.user_metadata for commit in commits]),
        n_before=n_before, n_after=n_after, n_in=n_in, n_out=n_out, tokens_in=tokens_in, tokens_out=tokens_out,
        score=score, length=length, source=source_stability(rows, n_before=n_before, n_after=n_after),
    )  # fmt: skip


def _both(before: DataFrame, after: DataFrame) -> DataFrame:
    """doc_id, logit, n_tokens, source, is_new; one row for each document and version."""
    versions = []
    for is_new, rows in enumerate((before, after)):
        narrow = rows.select(DOC_ID, F.col(LOGIT).cast("double"), N_TOKENS, SOURCE)
        narrow = narrow.dropDuplicates([DOC_ID]) if PHASE in rows.columns else narrow
        versions.append(narrow.withColumn(_IS_NEW, F.lit(bool(is_new))))
    return versions[0].unionByName(versions[1])


def documents_in_and_out(rows: DataFrame) -> tuple[int, int, int, int, int]:
    """Count documents in, out and in both, tokens in, tokens out.

    Args:
        rows: doc_id, n_tokens, is_new; one row for each document and version.
    """
    documents = rows.groupBy(DOC_ID).agg(
        F.bool_or(_IS_NEW).alias(_AFTER), F.bool_or(~F.col(_IS_NEW)).alias(_BEFORE), F.max(N_TOKENS).alias(N_TOKENS)
    )
    is_in, is_out = ~F.col(_BEFORE), ~F.col(_AFTER)
    tokens = [F.coalesce(F.sum(F.when(moved, F.col(N_TOKENS))), F.lit(0)) for moved in (is_in, is_out)]
    values = documents.agg(F.count_if(is_in), F.count_if(is_out), F.count_if(~is_in & ~is_out), *tokens).head()
    n_in, n_out, n_both, tokens_in, tokens_out = map(int, values or (0, 0, 0, 0, 0))
    return n_in, n_out, n_both, tokens_in, tokens_out


def stabilities(rows: DataFrame) -> tuple[Stability, Stability]:
    """Compare the logits and the numbers of tokens of two versions.

    Args:
        rows: logit, n_tokens, is_new; one row for each document and version.
    """
    names = (LOGIT, N_TOKENS)
    deciles = (
        rows.where(~F.col(_IS_NEW)).agg(*[F.percentile_approx(name, _DECILES, _ACCURACY) for name in names]).head()
    )
    edges = [sorted({float(edge) for edge in (values or ())}) for values in deciles or ((), ())]
    numbers = [_bin_number(name, of).alias(f"bin_{name}") for name, of in zip(names, edges, strict=True)]
    counted = rows.groupBy(_IS_NEW, *numbers).agg(F.count("*").alias(_COUNT)).collect()  # at most 200 rows
    compared = []
    for name, of in zip(names, edges, strict=True):
        counts = [[0, 0] for _ in range(len(of) + 1)]
        for row in counted:
            counts[row[f"bin_{name}"]][row[_IS_NEW]] += row[_COUNT]
        bounds = [-math.inf, *of, math.inf]
        bins = [Bin(bounds[i], bounds[i + 1], before, after) for i, (before, after) in enumerate(counts)]
        compared.append(Stability(stability_index([(each.before, each.after) for each in bins]), bins))
    return compared[0], compared[1]


def _bin_number(name: str, edges: Sequence[float]) -> Column:
    number = F.lit(0)
    for edge in edges:
        number += (F.col(name) > F.lit(edge)).cast("int")
    return number


def source_stability(rows: DataFrame, *, n_before: int, n_after: int) -> SourceStability:
    """Compare the sources of two versions; the 50 with the most documents in either version, and the others together.

    Args:
        rows: source, is_new; one row for each document and version.
        n_before: documents of the previous version.
        n_after: documents now.
    """
    source = F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(SOURCE)
    counts = [F.count_if(~F.col(_IS_NEW)).alias(_BEFORE), F.count_if(_IS_NEW).alias(_AFTER)]
    by_source = rows.groupBy(source).agg(*counts).orderBy(F.desc(F.greatest(_BEFORE, _AFTER)), SOURCE)
    sources = [SourceCount(*row) for row in by_source.limit(_MAX_SOURCES).collect()]
    rest = n_before - sum(of.before for of in sources), n_after - sum(of.after for of in sources)
    sources += [SourceCount(OTHERS, *rest)] if any(rest) else []
    return SourceStability(stability_index([(of.before, of.after) for of in sources]), sources)


def stability_index(counts: Sequence[tuple[int, int]]) -> float:
    """Population stability index of counts (before, after) by bin; a share of less than 0.0001 counts as that."""
    totals = [sum(count[version] for count in counts) for version in (0, 1)]
    if not all(totals):
        return math.nan
    index = 0.0
    for count in counts:
        before, after = (max(_SMALLEST_SHARE, n / total) for n, total in zip(count, totals, strict=True))
        index += (after - before) * math.log(after / before)
    return index


def _why(before: str, after: str) -> str:
    """What differs between the runs that two commits record."""
    old, new = StageRun.from_json(before), StageRun.from_json(after)
    if old is None or new is None:
        return ""
    if old.run_id == new.run_id:
        return "documents were deleted, as `betr-spark forget` does"
    return runs.changes(old, StageKey(stage=new.stage, config=new.config, input_versions=new.input_versions))
