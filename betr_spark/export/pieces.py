"""What is left of contaminated documents, written as documents that the input can take in."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.cutting import CUT, CUTS, MOST_CUTS, N_SHORT, N_UNCLEAN, PIECES, SHORTEST, cut_documents
from betr_spark.contamination.detection import configured_index, contamination_rows, ship_index
from betr_spark.contamination.stage import Decontaminate
from betr_spark.corpus.columns import Origin, Path
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import ConfigError, DataError, SchemaError
from betr_spark.pipeline.stage import RunContext
from betr_spark.redaction import has_credentials
from betr_spark.schemas import CONTENT_HASH, DOC_ID, INPUT_FILE, SOURCE, TEXT
from betr_spark.selection.winners import CARRIED, texts_of_winners
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, hadoop_files
from betr_spark.storage.renaming import rename, sibling

_NUMBER, _PIECE_ID = "number", "piece_id"
_ROWS_IN_FILE = 2**18


class PiecesWritten(NamedTuple):
    """What was written.

    Attributes:
        to: the folder.
        documents: contaminated documents.
        cuts: places that were cut out of them.
        too_many_cuts: documents that were cut at more than MOST_CUTS places and have no pieces.
        pieces: documents that were written.
        too_short: pieces of fewer than SHORTEST characters.
        with_items: pieces that still had a test item.
        known: pieces that `features` has already.
    """

    to: str
    documents: int
    cuts: int
    too_many_cuts: int
    pieces: int
    too_short: int
    with_items: int
    known: int

    def lines(self) -> list[str]:
        """For people."""
        left_out = {
            f"shorter than {SHORTEST} characters": self.too_short, "still with a test item": self.with_items,
            "in features already": self.known,
        }  # fmt: skip
        reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items() if number)
        lines = [f"{self.documents} documents with test items, cut at {self.cuts} places"]
        if self.too_many_cuts:
            lines.append(f"{self.too_many_cuts} of them have no pieces: cut at more than {MOST_CUTS} places")
        written = f"{self.pieces} pieces written to {self.to}" if self.pieces else "nothing to write"
        return [*lines, f"{written}; left out: {reasons}" if reasons else written]


def problems(context: RunContext, to: str, ids: str) -> Iterator[str]:
    """Whatever prevents `write_pieces`, by the configuration and the paths."""
    config = context.config
    if config.decontaminate is None:
        yield "config.decontaminate: is missing; `betr-spark decontam-cut` requires it"
    if config.input.tokens.column is not None:
        yield f"input.tokens.column: '{config.input.tokens.column}' has no numbers for pieces; use a tokenizer"
    for option, path in (("--to", to), ("--ids", ids)):
        if has_credentials(path):
            yield f"{option}: a path with credentials in it; remove them (docs/cluster.md, Object stores)"
            return
    output, folder = (hadoop_files.qualified(context.spark, path).rstrip("/") for path in (config.output, to))
    if f"{folder}/".startswith(f"{output}/"):
        yield f"--to: {to} is in the output, {config.output}"
    elif hadoop_files.exists(context.spark, to):
        yield f"--to: {to} exists; a folder that does not exist is required"
    if hadoop_files.exists(context.spark, ids):
        yield f"--ids: {ids} exists; a file that does not exist is required"


def write_pieces(context: RunContext, to: str, ids: str) -> PiecesWritten:
    """Cut the test items out of the documents of `contamination`, and write the pieces.

    The folder has the columns of the input that the configuration names, in the input's format (Parquet for a Delta table);
    all but id and text have the values of the document. On file systems that rename folders at once, the folder appears when
    all files are complete.

    Args:
        context: of the run, which holds the lease.
        to: folder, which does not exist.
        ids: text file, which does not exist, for the ids of the documents that have pieces.

    Raises:
        DataError: `contamination` is missing or not up to date, or a text changed since it was scored.
        SchemaError: the ids of the input are not strings.
    """
    spark, config, settings = context.spark, context.config, context.config.decontaminate
    if settings is None:
        raise ConfigError(next(problems(context, to, ids)))
    if not Decontaminate().is_current(context):
        path = config.table(schemas.CONTAMINATION_TABLE)
        raise DataError(f"{path}: is missing or not up to date; run `betr-spark decontaminate`")
    snapshot = context.scored_input()
    check_columns(snapshot)
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    found = contamination_rows(spark, config).select(DOC_ID).distinct()
    with context.scratch("decontam-cut") as materialise:
        describe(spark, "decontam-cut: read texts")
        numbers = [schemas.logit_column(name) for name in snapshot.used.numbers]
        for column in numbers:
            if column not in features.columns:
                path = config.table(schemas.FEATURES_TABLE)
                raise DataError(f"{path}: no column '{column}'; add it with `betr-spark features`")
        rows = features.join(found, on=DOC_ID, how="left_semi")
        rows = rows.select(DOC_ID, SOURCE, INPUT_FILE, CONTENT_HASH, *numbers)
        texts = texts_of_winners([rows], context)
        documents = materialise(rows.drop(INPUT_FILE).join(texts, on=[DOC_ID, CONTENT_HASH], how="inner"))
        n_documents = rows.count()
        if (n_read := documents.count()) < n_documents:
            raise DataError(
                f"input.path: {config.input.path}: the texts of {n_documents - n_read} documents changed since they were "
                "scored, or are gone; run `betr-spark features`"
            )
        describe(spark, "decontam-cut: cut the texts")
        cut = materialise(_cut(documents, config, snapshot))
        sums = [F.coalesce(F.sum(name), F.lit(0)) for name in (CUTS, N_SHORT, N_UNCLEAN)]
        n_cuts, n_short, n_unclean, n_dropped = cut.agg(*sums, F.count_if(F.col(CUTS) > MOST_CUTS)).head() or (
            0,
            0,
            0,
            0,
        )
        pieces = _pieces(documents, cut, snapshot)
        new = materialise(pieces.join(features.select(F.col(DOC_ID).alias(_PIECE_ID)), on=_PIECE_ID, how="left_anti"))
        n_pieces = new.count()
        if n_pieces:
            describe(spark, "decontam-cut: write the pieces")
            whole = cut.where(F.size(PIECES) > 0).select(DOC_ID)
            _write_ids(context, whole, ids)
            _write(context, new, to, n_rows=n_pieces)
        return PiecesWritten(
            to=to, documents=n_documents, cuts=n_cuts, too_many_cuts=n_dropped, pieces=n_pieces, too_short=n_short,
            with_items=n_unclean, known=pieces.count() - n_pieces,
        )  # fmt: skip


def check_columns(snapshot: InputSnapshot) -> None:
    """Raise SchemaError if ids of pieces are no values of the input's column, or a carried column has the whole text in it."""
    used = snapshot.used
    own = [used.text, *([used.id] if used.id is not None else [])]
    for column in own:
        for carried in used.carried.values():
            outer, inner = snapshot.columns[carried.path].path, snapshot.columns[column.path].path
            if outer == inner[: len(outer)] and outer != inner:
                raise SchemaError(
                    f"input.columns: '{carried.name}' contains {column.key}; name its other fields one by one"
                )
    if used.id is not None and not isinstance(kind := snapshot.columns[used.id.path].kind, T.StringType):
        raise SchemaError(
            f"input.id: column '{used.id.name}' has type {kind.simpleString()}; ids of pieces, such as 'ID#1', are strings"
        )


def _cut(documents: DataFrame, config: Config, snapshot: InputSnapshot) -> DataFrame:
    """Rows of CUT for documents with doc_id and text."""
    assert config.decontaminate is not None
    index = ship_index(snapshot.spark, configured_index(snapshot.spark, config))
    min_coverage = config.decontaminate.min_coverage

    def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mapped = index()
        for batch in batches:
            yield cut_documents(batch.column(DOC_ID), batch.column(TEXT), mapped, min_coverage=min_coverage)

    return documents.select(DOC_ID, TEXT).mapInArrow(cut, CUT)


def _pieces(documents: DataFrame, cut: DataFrame, snapshot: InputSnapshot) -> DataFrame:
    """One row for each piece: piece_id, text, and of its document source, logits of expression scorers, carried columns."""
    each = cut.select(DOC_ID, F.posexplode(PIECES).alias(_NUMBER, TEXT))
    own = F.md5(TEXT) if snapshot.used.id is None else F.concat(DOC_ID, F.lit("#"), F.col(_NUMBER) + 1)
    rows = each.join(documents.drop(TEXT, CONTENT_HASH), on=DOC_ID, how="inner")
    return rows.withColumn(_PIECE_ID, own).drop(DOC_ID, _NUMBER)


def _write(context: RunContext, pieces: DataFrame, to: str, *, n_rows: int) -> None:
    """Write the pieces in the shape of the input, first to a folder beside it, whose name the input does not read."""
    snapshot, spark = context.scored_input(), context.spark
    used, places = snapshot.used, snapshot.columns
    values = {used.text.path: F.col(TEXT)}
    if used.id is not None:
        values[used.id.path] = F.col(_PIECE_ID)
    if used.source is not None:
        values[used.source.path] = F.col(SOURCE).cast(places[used.source.path].kind)
    of_document = {column.path: F.col(CARRIED).getField(name) for name, column in used.carried.items()}
    for name, column in used.numbers.items():
        of_document[column.path] = F.col(schemas.logit_column(name)).cast(places[column.path].kind)
    in_rows, in_folders = dict[Path, Column](), dict[str, Column]()
    for path, value in [*values.items(), *of_document.items()]:
        if places[path].origin is Origin.ROWS:
            in_rows.setdefault(places[path].path, value)  # two names of a column may differ in their case
        elif places[path].origin is Origin.FOLDERS:
            in_folders.setdefault(path[0], value)
    folders = [value.alias(name) for name, value in in_folders.items()]
    ordered = pieces.repartitionByRange(n_rows // _ROWS_IN_FILE + 1, _PIECE_ID).sortWithinPartitions(_PIECE_ID)
    partial = sibling(spark, to, f"_betr-spark-{context.run_id}.partial")
    try:
        table = ordered.select(*nested(in_rows), *folders)
        form = "json" if snapshot.source.format == "json" else "parquet"
        table.write.format(form).partitionBy(*in_folders).save(partial)
        context.check_lease()
        rename(spark, partial, to)
    finally:
        hadoop_files.delete(spark, partial)


def _write_ids(context: RunContext, documents: DataFrame, ids: str) -> None:
    """Write the ids, one in a line, as one file."""
    spark = context.spark
    folder = sibling(spark, ids, f"_betr-spark-{context.run_id}.ids")
    try:
        documents.coalesce(1).sortWithinPartitions(DOC_ID).write.text(folder)
        (name,) = [name for name in hadoop_files.children(spark, folder) if name.startswith("part-")]
        rename(spark, f"{folder}/{name}", ids)
    finally:
        hadoop_files.delete(spark, folder)


def nested(values: Mapping[Path, Column]) -> list[Column]:
    """Columns and structs in which each value is at its path; a path below another one is left out."""
    by_name: dict[str, dict[Path, Column]] = {}
    for path, value in values.items():
        by_name.setdefault(path[0], {})[path[1:]] = value
    return [(inner[()] if () in inner else F.struct(*nested(inner))).alias(name) for name, inner in by_name.items()]
