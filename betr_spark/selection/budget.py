"""What a selection keeps: exact prefixes of the ranking for a budget of tokens or documents, or a least score."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, Self

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import KeepConfig
from betr_spark.config.selections import SelectionConfig
from betr_spark.errors import DataError
from betr_spark.ordering import (
    GROUP,
    ORDER_HASH,
    ORDER_KEY,
    WEIGHT,
    before,
    descending_key,
    ends_of_prefixes,
    in_prefixes,
    longest_prefix,
)
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS
from betr_spark.scoring.logit import score_of
from betr_spark.selection.keep_rate import keep_rate
from betr_spark.spark.small_frames import small_frame

_NUMBER, _NAME = "group_number", "group_name"
_SHORT = 0.99  # of a budget
_logger = logging.getLogger(__name__)


def with_order(scored: DataFrame) -> DataFrame:
    """Add the ranking order (order_key, order_hash) of `ordering`; rows without a logit are dropped.

    Args:
        scored: doc_id and logit (float or double), other columns are kept.
    """
    rows = scored.where(F.col(LOGIT).isNotNull()).withColumn(ORDER_HASH, F.xxhash64(DOC_ID))
    schema = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in rows.schema)
    return rows.mapInArrow(_add_key, f"{schema}, {ORDER_KEY} bigint")


def _add_key(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        keys = descending_key(batch.column(LOGIT).to_numpy(zero_copy_only=False))
        yield batch.append_column(ORDER_KEY, pa.array(keys, pa.int64()))


def fraction_of(tokens: int, fraction: float) -> int:
    """Whole tokens in a fraction of `tokens`, of the fraction as it is written: 0.1 of 70 is 7."""
    return int(Fraction(Decimal(str(fraction))) * tokens)


class Budget(NamedTuple):
    """What is kept of eligible documents: `amount` in units of `weight` (tokens or documents); `min_score` has no amount."""

    keep: KeepConfig
    amount: int
    weight: Column

    @classmethod
    def of(cls, keep: KeepConfig, *, n_tokens: int, reference_tokens: int = 0) -> Self:
        """Read a rule.

        Args:
            keep: exactly one rule.
            n_tokens: tokens of all eligible documents, which fractions are of.
            reference_tokens: tokens of the selection that `tokens_of` names.
        """
        if keep.tokens_of is not None:
            return cls(keep, reference_tokens, F.col(N_TOKENS))
        if keep.documents is not None:
            return cls(keep, keep.documents, F.lit(1))
        if keep.tokens is not None:
            return cls(keep, keep.tokens, F.col(N_TOKENS))
        fraction = keep_rate(keep.training).fraction if keep.training else keep.token_fraction or 0.0
        return cls(keep, fraction_of(n_tokens, fraction), F.col(N_TOKENS))


def short_of_budget(selection: SelectionConfig, *, documents: int, tokens: int, eligible: int, left: int) -> str | None:
    """One sentence if a selection has clearly less than its budget; None where it has that, or the budget is no amount.

    Args:
        selection: its rules.
        documents: that it has, each once.
        tokens: theirs, as often as they are repeated.
        eligible: tokens of all documents that it could have.
        left: number of these that it does not have.
    """
    if selection.phases or selection.keep.min_score is not None or selection.keep.tokens_of is not None:
        return None
    budget = Budget.of(selection.keep, n_tokens=eligible).amount
    got, unit = (tokens, "tokens") if selection.keep.documents is None else (documents, "documents")
    if got >= _SHORT * budget:
        return None
    line = f"the selection has {got:,} of the {budget:,} {unit} that were asked for"
    if not left or selection.quota or selection.max_fraction:
        return line
    return f"{line}; the next document is longer than what is left (a condition on `n_tokens` can leave out long documents)"


def within_budget(
    ordered: DataFrame, budget: Budget, *, n_rows: int | None = None, by_value: bool = False
) -> DataFrame:
    """Keep the longest prefix of the ranking that the budget allows.

    Two or three small aggregations over (order, weight); nothing is sorted. `ordered` is read for each, so persist it.

    Args:
        ordered: as `with_order` gives it, with n_tokens; one row a document.
        budget: as `Budget.of` gives it.
        n_rows: number of rows of `ordered`, if it is known.
        by_value: `min_score` is compared with the logit itself (a column of the input) rather than with the score.

    Returns:
        The kept rows of `ordered`, same columns, no order.
    """
    if budget.keep.min_score is not None:
        return ordered.where((F.col(LOGIT) if by_value else score_of(F.col(LOGIT))) >= F.lit(budget.keep.min_score))
    end = longest_prefix(ordered.withColumn(WEIGHT, budget.weight.cast("bigint")), budget=budget.amount, n_rows=n_rows)
    return ordered if end is None else ordered.where(before(end))


def with_group_numbers(rows: DataFrame, names: Iterable[str]) -> DataFrame:
    """Replace `group` by the position of its name in `names` (int), or by -1: numbers are compared faster than names."""
    schema = f"{_NUMBER} int, {_NAME} string"
    table = F.broadcast(small_frame(rows.sparkSession, list(enumerate(names)), schema))
    numbered = rows.join(table, on=F.col(GROUP) == F.col(_NAME), how="left")
    return numbered.withColumn(GROUP, F.coalesce(_NUMBER, F.lit(-1))).drop(_NUMBER, _NAME)


def within_shares(
    ordered: DataFrame, budget: Budget, shares: Mapping[str, float], *, n_rows: int, where: str
) -> DataFrame:
    """Keep of each group the longest prefix of its ranking that its share of the budget allows.

    Documents of groups without a share are ranked together and get what is left, also what a group with a share cannot use.

    Args:
        ordered: as `with_order` gives it, with n_tokens, and group as `with_group_numbers` gives it for the names of `shares`.
        budget: as `Budget.of` gives it.
        shares: by group; of the budget, or in its units where one is above 1.
        n_rows: number of rows of `ordered`.
        where: key of the configuration, for messages.

    Raises:
        DataError: the shares are more than the budget.
    """
    amounts = _amounts(budget, shares)
    if sum(amounts.values()) > budget.amount:
        raise DataError(f"{where}: {sum(amounts.values())} in all, but the whole budget is {budget.amount}")
    return within_amounts(ordered, budget, amounts, n_rows=n_rows, where=where)


def _amounts(budget: Budget, shares: Mapping[str, float]) -> dict[str, int]:
    """Shares in units of the budget."""
    absolute = any(share > 1 for share in shares.values())
    return {name: int(share) if absolute else fraction_of(budget.amount, share) for name, share in shares.items()}


def within_amounts(
    ordered: DataFrame, budget: Budget, amounts: Mapping[str, int], *, n_rows: int, where: str
) -> DataFrame:
    """As `within_shares`, with the amount of each group in units of the budget; at most the budget in all."""
    rows = ordered.withColumn(WEIGHT, budget.weight.cast("bigint"))

    def amount_of_group(totals: DataFrame) -> Column:
        available = {row[GROUP]: int(row[WEIGHT]) for row in totals.collect()}  # one row for each amount, and one
        used = list[int]()
        for number, (name, amount) in enumerate(amounts.items()):
            if (found := available.get(number, 0)) < amount:
                _logger.warning("%s: '%s' has only %d of %d; other documents fill the rest", where, name, found, amount)
            used.append(min(amount, found))
        of_group = F.from_json(F.lit(json.dumps([*used, budget.amount - sum(used)])), "array<bigint>")  # one constant
        return F.element_at(of_group, F.when(F.col(GROUP) < 0, F.lit(-1)).otherwise(F.col(GROUP) + 1))  # -1 is the last

    return in_prefixes(rows, ends_of_prefixes(rows, amount_of_group, n_rows=n_rows)).select(*ordered.columns)


def within_maximum(ordered: DataFrame, budget: Budget, maximum: float, *, n_rows: int) -> DataFrame:
    """Keep the longest prefix that the budget allows, of a ranking in which no group has more than a fraction of the budget.

    Of each group only the longest prefix of its own ranking counts that is within the fraction.

    Args:
        ordered: as `with_order` gives it, with group and n_tokens; one row a document.
        budget: as `Budget.of` gives it.
        maximum: of each group, a fraction of the budget.
        n_rows: number of rows of `ordered`.
    """
    most = F.lit(fraction_of(budget.amount, maximum)).cast("bigint")
    rows = ordered.withColumn(WEIGHT, budget.weight.cast("bigint"))
    allowed = in_prefixes(rows, ends_of_prefixes(rows, lambda _: most, n_rows=n_rows)).select(*ordered.columns)
    return within_budget(allowed, budget, n_rows=n_rows)
