"""How far a document is from the cut of a selection that leaves it out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import Row as SparkRow
from pyspark.sql import functions as F

from betr_spark.config import Config, SelectionConfig
from betr_spark.errors import quoted
from betr_spark.explain.lookups import ORDER_HASH, Row, ranks_before
from betr_spark.explain.scores import score_of_logit
from betr_spark.ordering import GROUP
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS

IS_KEPT, _NEGATIVE = "is_kept", "negative_logit"


class Missed(NamedTuple):
    """How far a document is from the last one that is kept.

    Attributes:
        position, n_eligible: of the document in the order of the eligible documents, and their number.
        group: the value for which the budget has a share or a maximum, if this decided; of a quota its number, -1 for the rest.
        last_kept, last_logit: the last kept document, of the group if there is one, and its logit; None if none is kept.
        logit: of the document; with `balance` or DSIR's noise another one than in `features`.
        by_logit: last_logit - logit.
        by_documents, by_tokens: eligible documents between the two, and their tokens.
    """

    position: int
    n_eligible: int
    group: str | int | None
    logit: float
    last_kept: str | None
    last_logit: float | None
    by_logit: float | None
    by_documents: int
    by_tokens: int

    def why(self, selection: SelectionConfig, config: Config) -> str:
        """In a sentence."""
        unit, by_value = config.input.tokens.unit, selection.scorer in config.expressions()
        where = f"position {self.position:,} of {self.n_eligible:,} eligible documents"
        if self.last_kept is None or self.last_logit is None or self.by_logit is None:
            return f"outranked: {where}; no document is kept{'' if self.group is None else ' of its group'}"
        of_group = "" if self.group is None else " of its group"
        end = f"the last kept document{of_group}, {quoted(self.last_kept)}, has logit {self.last_logit:.4g}"
        if self.by_logit < 0:
            return f"not drawn: {where}, before the last kept document; repeats are drawn by a hash of the id"
        least = selection.keep.min_score
        score = self.logit if by_value else score_of_logit(self.logit)
        rule = "" if least is None else f"score {score:.4g}, keep.min_score is {least:g}; "
        between = f"with {self.by_documents:,} documents, {self.by_tokens:,} tokens ({unit}) between"
        if not self.by_documents:
            has_one_prefix = self.group is None and selection.sample is None and not selection.phases
            by_tokens = least is None and selection.keep.documents is None
            is_longer = "; it is longer than what is left of the budget" if has_one_prefix and by_tokens else ""
            between = f"and it is the next one in the order{is_longer}"
        return f"outranked: {where}; {rule}{end}, it has {self.logit:.4g}: {self.by_logit:.4g} less, {between}"


def distances(
    order: DataFrame, eligible: Mapping[str, Row], features: Mapping[str, Row], selection: SelectionConfig
) -> dict[str, Missed]:
    """Positions and distances to the cut, with two aggregations of the eligible documents.

    Args:
        order: the eligible documents: doc_id, n_tokens, logit, group, and IS_KEPT, null where the selection leaves one out.
        eligible: the rows of the documents to look at, which are not kept, by id.
        features: their rows of `features`, as `features_rows` gives them.
        selection: its settings.
    """
    groups: list[Any] = list(dict.fromkeys(row[GROUP] for row in eligible.values()))
    here = F.struct((-F.col(LOGIT).cast("double")).alias(_NEGATIVE), F.xxhash64(DOC_ID).alias(ORDER_HASH), DOC_ID)
    is_kept = F.col(IS_KEPT).isNotNull()
    ends = [F.max(F.when(is_kept & _in_group(group), here)) for group in groups]
    sums = [F.count("*"), F.max(F.when(is_kept, here)), *ends]
    n_eligible, end_of_all, *ends_of_groups = order.agg(*sums).head() or (0, None)
    of_group: dict[Any, SparkRow | None] = dict(zip(groups, ends_of_groups, strict=True))
    cuts: dict[str, tuple[Any, SparkRow | None]] = {}  # the group that decided, or None for all; the last kept there
    columns = []
    for doc_id, row in eligible.items():
        tied = {**features[doc_id], LOGIT: row[LOGIT]}
        before, group = ranks_before(F.col(LOGIT), tied, row[LOGIT]), row[GROUP]
        competes = bool(selection.quota or selection.stratified)
        if selection.max_fraction:
            competes = end_of_all is not None and _place(tied) < tuple(end_of_all)
        cuts[doc_id] = (group, of_group[group]) if competes else (None, end_of_all)
        end = cuts[doc_id][1]
        between = before & (_in_group(group) if competes else F.lit(True))
        if end is not None:
            between &= here > _literal(end)
        columns += [F.count_if(before), F.count_if(between), F.sum(F.when(between, F.col(N_TOKENS)))]
    counts = [int(value or 0) for value in order.agg(*columns).head() or ()]
    missed = {}
    for (doc_id, row), better, documents, tokens in zip(
        eligible.items(), counts[::3], counts[1::3], counts[2::3], strict=True
    ):
        group, end = cuts[doc_id]
        last = None if end is None else -float(end[0])
        missed[doc_id] = Missed(
            position=better + 1, n_eligible=int(n_eligible), group=group, logit=row[LOGIT],
            last_kept=None if end is None else end[2], last_logit=last,
            by_logit=None if last is None else last - row[LOGIT], by_documents=documents, by_tokens=tokens,
        )  # fmt: skip
    return missed


def _in_group(group: str | int | None) -> Column:
    return F.col(GROUP).eqNullSafe(F.lit(group))


def _literal(end: SparkRow) -> Column:
    negative, order_hash, doc_id = end
    return F.struct(
        F.lit(negative).alias(_NEGATIVE),
        F.lit(order_hash).cast("bigint").alias(ORDER_HASH),
        F.lit(doc_id).alias(DOC_ID),
    )


def _place(row: Row) -> tuple[float, int, str]:
    """Place of a document in the order, as the aggregations have it."""
    return -float(row[LOGIT]), row[ORDER_HASH], row[DOC_ID]
