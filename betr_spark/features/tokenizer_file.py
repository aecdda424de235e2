"""The tokenizer file of `input.tokens`: its checks, its part of the key of `features`, and its way to the executors."""

import hashlib
import importlib.util
from collections.abc import Callable

from pyspark.sql import SparkSession

from betr_spark.config import TokensConfig
from betr_spark.errors import DataError
from betr_spark.features.token_counter import KEY, TokenCounter, counter_of, tokenizer_of
from betr_spark.storage import hadoop_files, shipping


def token_settings(spark: SparkSession, tokens: TokensConfig) -> dict[str, object]:
    """What the counts depend on, for keys: the name of the column, or the sha256 of the file; empty for words.

    Raises:
        DataError: there is no such file.
    """
    if tokens.tokenizer is None:
        return {} if tokens.column is None else {"column": tokens.column}
    settings: dict[str, object] = {"tokenizer": hashlib.sha256(_content(spark, tokens.tokenizer)).hexdigest()}
    return settings if tokens.estimate is None else {**settings, "estimate": tokens.estimate}


def check_tokenizer(spark: SparkSession, tokens: TokensConfig) -> None:
    """Check that the file exists, and that it is a tokenizer if `tokenizers` is installed here.

    Raises:
        DataError: it does not, or is not.
    """
    if tokens.tokenizer is not None:
        content = _content(spark, tokens.tokenizer)
        if importlib.util.find_spec("tokenizers") is not None:
            tokenizer_of(content, tokens.tokenizer)


def ship_counter(spark: SparkSession, tokens: TokensConfig) -> Callable[[], TokenCounter] | None:
    """Send the tokenizer to every executor once; the function returned gives a worker's counter. None without a tokenizer."""
    if tokens.tokenizer is None:
        return None
    content = _content(spark, tokens.tokenizer)
    file = shipping.shipping_folder(spark) / f"betr-spark-tokenizer-{hashlib.sha256(content).hexdigest()[:32]}.json"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.rename(file)
    fetched, name, one_in = shipping.ship(spark, file.name), tokens.tokenizer, tokens.estimate or 1
    return lambda: counter_of(fetched(), name, one_in)


def _content(spark: SparkSession, path: str) -> bytes:
    try:
        return hadoop_files.read_bytes(spark, path)
    except DataError as error:
        raise DataError(f"{KEY}: {error}") from None
