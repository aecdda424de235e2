"""Documents in: Parquet, Delta and JSON Lines, one shape for all, with a reason on every row that cannot be used."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import errors
from betr_spark.config import InputConfig
from betr_spark.config.column_path import quoted
from betr_spark.corpus import json_lines
from betr_spark.corpus.columns import Located, Origin, Path, UsedColumns
from betr_spark.corpus.folders import folder_value
from betr_spark.corpus.listing import ROW_FILE
from betr_spark.corpus.numbers import MAX_COUNT, as_count, as_double
from betr_spark.corpus.parquet_texts import TEXT_ROW
from betr_spark.errors import DataError
from betr_spark.schemas import (
    DETAIL,
    DOC_ID,
    INPUT_FILE,
    INVALID_TOKENS,
    INVALID_UTF8,
    N_LM_TOKENS,
    NOT_UTF8,
    REASON,
    ROW,
    ROW_BYTES,
    SOURCE,
    TEXT,
    logit_column,
)

__all__ = ["Shape", "check_unique", "documents_of", "quoted"]

_REASON = "betr_spark_reason"  # next to columns of the input, of any name


class Shape(NamedTuple):
    """What `documents_of` gives.

    Attributes:
        leave_utf8: the pass over the text finds texts that are not UTF-8; then `input_file` is in every row.
        carried: add the carried columns.
        numbers: add `logit_NAME`, double, of each expression scorer, and `n_lm_tokens`, int, of `input.tokens.column`; a row
            without a valid number of tokens gets its reason only then.
        by_row: the number of the row in its file in place of the text, for `parquet_texts.TextColumn`, which finds what is
            wrong with the text; detail and row are null.
    """

    leave_utf8: bool = False
    carried: bool = False
    numbers: bool = False
    by_row: bool = False


def documents_of(
    rows: DataFrame, source: InputConfig, used: UsedColumns, columns: Mapping[Path, Located], shape: Shape
) -> DataFrame:
    """Give rows of the input the shape that every stage reads.

    Args:
        rows: the used columns, or `value` for JSON; and ROW_FILE.
        source: the input.
        used: the columns that the configuration names.
        columns: where their values come from.
        shape: what to give.

    Returns:
        doc_id, source, text, carried columns, logits, n_lm_tokens, reason, detail, row, input_file. With `by_row`, TEXT_ROW
        is there in place of text, and detail and row are not.
    """
    read = _reader(columns, json=source.format == "json")
    text = F.lit(None).cast("string") if shape.by_row else read(used.text.path)
    doc_id = F.md5(text) if used.id is None else read(used.id.path).cast("string")
    origin = F.lit(None).cast("string") if used.source is None else read(used.source.path).cast("string")
    invalid, as_json = [], F.lit(None).cast("string")
    if source.format == "json":
        of_the_pass = {column.path for column in used.of_the_pass()}
        carried = {column.path for column in used.carried.values()} if shape.carried else set()
        rows = json_lines.parsed(rows, [columns[path] for path in columns if path in of_the_pass | carried])
        invalid = [(~F.is_valid_utf8(json_lines.VALUE), INVALID_UTF8, F.lit("the line is not UTF-8"))]
        invalid += json_lines.invalid(used.text)
        as_json = _cut(F.col(json_lines.VALUE))
    elif not shape.by_row:
        cells = {column.name: _cut(read(column.path)) for column in used.of_the_pass()}
        as_json = F.to_json(F.struct(*[cell.alias(name) for name, cell in cells.items()]))
    n_bytes, ids = (
        F.octet_length(text),
        [
            (doc_id.isNull() | (doc_id == ""), "null_id", F.lit(f"{source.id} is null or empty")),
            (~F.is_valid_utf8(doc_id), INVALID_UTF8, F.lit("the id is not UTF-8")),
        ],
    )
    counts = [(used.tokens.name, read(used.tokens.path))] if used.tokens is not None and shape.numbers else []
    of_text: list[tuple[Column, str, Column]] = [
        *([] if shape.leave_utf8 else [(~F.is_valid_utf8(text), INVALID_UTF8, F.lit(NOT_UTF8))]),
        (
            n_bytes > source.max_text_bytes,
            "text_too_long",
            F.concat(n_bytes.cast("string"), F.lit(f" bytes, input.max_text_bytes is {source.max_text_bytes}")),
        ),
    ]
    null_text = (text.isNull(), "null_text", F.lit(f"{source.text} is null"))
    of_tokens = [(as_count(value).isNull(), INVALID_TOKENS, _no_count(name, value)) for name, value in counts]
    reasons = [*ids, *of_tokens] if shape.by_row else [*invalid, null_text, *ids, *of_text, *of_tokens]
    reason = F.coalesce(*[F.when(wrong, F.lit(name)) for wrong, name, _ in reasons])
    detail = F.coalesce(*[F.when(wrong, why) for wrong, _, why in reasons])
    bad = F.col(_REASON).isNotNull()
    added = [_carried(read(column.path), columns[column.path]).alias(name) for name, column in used.carried.items()]
    logits = [
        F.when(~bad, as_double(read(column.path), columns[column.path].kind, column)).alias(logit_column(scorer))
        for scorer, column in used.numbers.items()
    ]
    return rows.withColumn(_REASON, reason).select(
        doc_id.alias(DOC_ID),
        F.make_valid_utf8(origin).alias(SOURCE),
        F.col(TEXT_ROW) if shape.by_row else F.when(~bad, text).alias(TEXT),
        *(added if shape.carried else []),
        *(logits if shape.numbers else []),
        *(as_count(value).alias(N_LM_TOKENS) for _, value in counts),
        F.col(_REASON).alias(REASON),
        *([] if shape.by_row else [F.when(bad, detail).alias(DETAIL)]),
        *([] if shape.by_row else [F.when(bad, F.substring(as_json, 1, ROW_BYTES)).alias(ROW)]),
        (F.col(ROW_FILE) if shape.leave_utf8 else F.when(bad, F.col(ROW_FILE))).alias(INPUT_FILE),
    )


def _reader(columns: Mapping[Path, Located], *, json: bool) -> Callable[[Path], Column]:
    """A function from a column's path to its values."""

    def read(path: Path) -> Column:
        place = columns[path]
        if place.origin is Origin.NOWHERE:
            return F.lit(None).cast(place.kind)
        if place.origin is Origin.FOLDERS:
            return folder_value(path[0])
        return json_lines.value_of(path) if json else F.col(".".join(map(quoted, place.path))).cast(place.kind)

    return read


def _no_count(name: str, value: Column) -> Column:
    shown = F.coalesce(_cut(value), F.lit("null"))
    return F.concat(
        F.lit(f"{name} is "), F.substring(shown, 1, 80), F.lit(f", not a whole number from 0 to {MAX_COUNT}")
    )


def _carried(value: Column, place: Located) -> Column:
    return F.make_valid_utf8(value) if place.kind.typeName() == "string" else value


def _cut(value: Column) -> Column:
    """The first characters of a value: a row is never longer in memory than what is kept of it."""
    return F.make_valid_utf8(F.substring(value.cast("string"), 1, ROW_BYTES))


def check_unique(ids: DataFrame, where: str) -> None:
    """Raise DataError that names examples if a doc_id occurs more than once."""
    of_hashes = ids.groupBy(F.xxhash64(DOC_ID)).count().where("count > 1")  # numbers are grouped faster than strings
    if not of_hashes.take(1):
        return
    repeated = ids.groupBy(DOC_ID).count().where("count > 1").orderBy(F.desc("count"), DOC_ID).limit(3)
    rows = repeated.withColumn(DOC_ID, F.substring(DOC_ID, 1, 100)).collect()
    if rows:
        examples = ", ".join(f"{errors.quoted(row[DOC_ID])} ({row['count']} times)" for row in rows)
        raise DataError(f"{where}: duplicate ids, for example {examples}; ids must be unique")
