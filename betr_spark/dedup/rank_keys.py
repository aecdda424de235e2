"""Rank keys: 20 bytes that name a document, and sort it by its score. Spark computes them in compiled code, without Python."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.ordering import unsigned
from betr_spark.schemas import DOC_ID
from betr_spark.storage.delta import session_conf

RANK_KEY, SURVIVOR_SCORE = "rank_key", "survivor_score"
MAX_BROADCAST = 1_000_000  # rows of a rank key and some other columns, of about 150 bytes in memory
_BITS = "bits"
# with it, a product of more than 64 bits is an error, and a number is not cast to bytes
_ANSI = "spark.sql.ansi.enabled"
_AS_STRING = "spark.sql.function.concatBinaryAsString"

# xxHash64 of 8 bytes (Spark's function has the seed 42)
_PRIME_1, _PRIME_2, _PRIME_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_PRIME_4, _PRIME_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_SEED, _N_BYTES = 42, 8


def with_rank_key(documents: DataFrame) -> DataFrame:
    """Replace `survivor_score` by `rank_key`; the best document has the smallest one.

    The bytes are: 1 whether the score is null, 8 of the score (those of `ordering.descending_key`, as an unsigned number), 8 of
    xxhash64(doc_id), 3 of another hash of the doc_id, so that rank keys are unique. A rank key depends on its row alone: it
    needs no sort of the corpus and is the same for any partitioning.

    Args:
        documents: doc_id; survivor_score, double (null comes last); other columns are kept.
    """
    spark = documents.sparkSession
    with session_conf(spark, _ANSI, "false"), session_conf(spark, _AS_STRING, "false"):
        rows = _with_bits(documents, F.coalesce(SURVIVOR_SCORE, F.lit(0.0)))
        bits = F.col(_BITS)
        descending = F.when(bits < 0, bits).otherwise(F.bitwise_not(unsigned(bits)))
        is_null, hash64, tie = F.col(SURVIVOR_SCORE).isNull(), F.xxhash64(DOC_ID), F.xxhash64(F.lit(1), DOC_ID)
        pieces = [piece.cast("binary") for piece in (is_null.cast("tinyint"), descending, unsigned(hash64), tie)]
        pieces[3] = F.substring(pieces[3], 1, 3)
        return rows.withColumn(RANK_KEY, F.concat(*pieces)).drop(SURVIVOR_SCORE, _BITS)


def with_key_in(rows: DataFrame, keys: DataFrame, *, n: int) -> DataFrame:
    """Keep the rows whose rank key is among others; few need no shuffle of the rows.

    Args:
        rows: rank_key; other columns are kept.
        keys: rank_key; may repeat.
        n: rows of `keys`, or an upper bound.
    """
    return rows.join(F.broadcast(keys) if n <= MAX_BROADCAST else keys, on=RANK_KEY, how="left_semi")


def _with_bits(rows: DataFrame, number: Column) -> DataFrame:
    """Add the bits of a double, those of 0.0 for -0.0, as bigint.

    Spark SQL has no function for them, but its xxhash64 of a number is a permutation of them, which is inverted here. Each step
    is a column of its own, or Spark would compute a step again for each of its uses.
    """

    def step(change: Column) -> None:
        nonlocal rows
        rows = rows.withColumn(_BITS, change)

    value = F.col(_BITS)
    step(F.xxhash64(number))
    step(value.bitwiseXOR(F.shiftrightunsigned(value, 32)) * _inverse(_PRIME_3))
    step(
        value.bitwiseXOR(F.shiftrightunsigned(value, 29)).bitwiseXOR(F.shiftrightunsigned(value, 58))
        * _inverse(_PRIME_2)
    )
    step((value.bitwiseXOR(F.shiftrightunsigned(value, 33)) - _signed(_PRIME_4)) * _inverse(_PRIME_1))
    step(_rotated_right(value, 27).bitwiseXOR(_signed(_SEED + _PRIME_5 + _N_BYTES)) * _inverse(_PRIME_1))
    step(_rotated_right(value, 31) * _inverse(_PRIME_2))
    return rows


def _rotated_right(value: Column, n: int) -> Column:
    return F.shiftrightunsigned(value, n).bitwiseOR(F.shiftleft(value, 64 - n))


def _inverse(odd: int) -> Column:
    return _signed(pow(odd, -1, 2**64))


def _signed(number: int) -> Column:
    """A number modulo 2^64 as bigint."""
    low = number % 2**64
    return F.lit(low - 2**64 if low >= 2**63 else low).cast("bigint")
