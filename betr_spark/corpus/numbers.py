"""Numeric columns of the input: of expression scorers, in the exact order of the values, and of numbers of tokens."""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.corpus.columns import UsedColumn

MAX_COUNT = 2**31 - 1
_EXACT_DIGITS = 15  # any decimal number of so many digits comes back from a double


def as_double(value: Column, kind: T.DataType, column: UsedColumn) -> Column:
    """Cast a column to double; null where it is not a number.

    A query stops with one line if an integer or a decimal has more digits than a double keeps, so that values that differ could
    become equal. Integers that are written as strings count as integers.

    Args:
        value: of any type that can be cast to double.
        kind: its type.
        column: for the message.
    """
    double = value.try_cast("double")
    if isinstance(kind, T.LongType):
        exact = _equals(double, value)
    elif isinstance(kind, T.DecimalType):
        exact = F.coalesce(double.try_cast(kind) == value, F.lit(False))
        if kind.scale == 0:
            exact |= _equals(double, value.try_cast("bigint"))
    elif isinstance(kind, T.StringType):
        short = F.length(F.trim(value)) <= _EXACT_DIGITS
        is_integer = F.trim(value).rlike(r"^[+-]?[0-9]+$")
        exact = short | ~is_integer | _equals(double, value.try_cast("bigint"))
    else:
        return double
    message = F.concat(
        F.lit(f"{column.key}: the value "), F.substring(value.cast("string"), 1, 80),
        F.lit(f" of column '{column.name}' has more digits than a double keeps, so documents could not be told apart; "
              "scale or round the column"),
    )  # fmt: skip
    return F.when(value.isNull() | F.coalesce(exact, F.lit(False)), double).otherwise(
        F.raise_error(message).cast("double")
    )


def as_count(value: Column) -> Column:
    """Cast a column to int; null where it is not a whole number from 0 to 2147483647.

    Args:
        value: of any type that can be cast to double.
    """
    double = value.try_cast("double")
    is_count = (double >= 0) & (double <= MAX_COUNT) & (double == F.floor(double))  # in Spark, NaN is above all numbers
    return F.when(is_count, double.cast("int"))


def _equals(double: Column, integer: Column) -> Column:
    """Whether a double is exactly an integer of 64 bits."""
    return F.coalesce((double.try_cast("bigint") == integer) & (F.abs(double) < 2.0**63), F.lit(False))
