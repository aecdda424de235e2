"""What is left of contaminated documents, written as documents that the input can take in."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.cutting import CUT, CUTS, MOST_CUTS, N_SHORT, N_UNCLEAN, PIECES, SHORTEST, cut_documents
from betr_spark.contamination.detection import configured_index, contamination_rows, ship_index
from betr_spark.contamination.stage import Decontaminate
from betr_spark.corpus.content_hash import with_content_hash
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import ConfigError, DataError, SchemaError
from betr_spark.export.piece_files import PIECE_ID, write_files
from betr_spark.pipeline.stage import RunContext
from betr_spark.redaction import has_credentials
from betr_spark.schemas import CONTENT_HASH, DOC_ID, INPUT_FILE, SOURCE, TEXT
from betr_spark.selection.winners import texts_of_winners
from betr_spark.spark.error_messages import problems_of
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, hadoop_files
from betr_spark.storage.renaming import parent

_NUMBER, _SCORED = "number", "scored_content_hash"


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
        id_with_line_break: documents that have no pieces because `forget` cannot read their ids.
        id_taken: documents that have no pieces because the id of one is that of another document with another text.
    """

    to: str
    documents: int
    cuts: int
    too_many_cuts: int
    pieces: int
    too_short: int
    with_items: int
    known: int
    id_with_line_break: int
    id_taken: int

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
        if self.id_with_line_break:
            lines.append(
                f"{self.id_with_line_break} of them have no pieces: their ids have line breaks, with which `betr-spark forget` "
                "cannot read them"
            )
        if self.id_taken:
            lines.append(f"{self.id_taken} of them have no pieces: other documents have the ids of the pieces")
        written = f"{self.pieces} pieces written to {self.to}" if self.pieces else "nothing to write"
        return [*lines, f"{written}; left out: {reasons}" if reasons else written]


def problems(context: RunContext, to: str, ids: str) -> Iterator[str]:
    """Whatever prevents `write_pieces`, by the configuration and the paths."""
    config = context.config
    if config.decontaminate is None:
        yield "config.decontaminate: is missing; `betr-spark decontam-cut` requires it"
    if config.input.tokens.column is not None:
        yield f"input.tokens.column: '{config.input.tokens.column}' has no numbers for pieces; use a tokenizer"
    if credentials := [option for option, path in (("--to", to), ("--ids", ids)) if has_credentials(path)]:
        for option in credentials:
            yield f"{option}: a path with credentials in it; remove them (docs/cluster.md, Object stores)"
        return
    wrong = [*_not_creatable(context, to, "--to"), *_not_creatable(context, ids, "--ids")]
    yield from wrong or _wrong_places(context, to, ids)


def _not_creatable(context: RunContext, path: str, option: str) -> Iterator[str]:
    """Why a path cannot be written, in one line."""
    spark = context.spark
    for line in problems_of(lambda: hadoop_files.check_writable(spark, parent(spark, path), subject=option)):
        yield line if line.startswith(option) else f"{option}: {line}"


def _wrong_places(context: RunContext, to: str, ids: str) -> Iterator[str]:
    """What is wrong with the places of the folder and the file, one of them after the other."""
    spark, source = context.spark, context.config.input
    folder, file, output, documents = (
        hadoop_files.qualified(spark, path).rstrip("/") for path in (to, ids, context.config.output, source.path)
    )
    relative = folder.removeprefix(f"{documents}/") if is_inside(folder, documents) else folder.rpartition("/")[2]
    if is_inside(folder, output):
        yield f"--to: {to} is in the output, {context.config.output}"
    elif hadoop_files.exists(spark, to):
        yield f"--to: {to} exists; a folder that does not exist is required"
    elif source.format == "delta" and is_inside(folder, documents):
        yield f"--to: {to} is in the Delta table {source.path}, whose VACUUM would delete it"
    elif any(name.startswith(("_", ".")) for name in relative.split("/")):
        yield f"--to: {to}: the input reads no folder whose name begins with '_' or '.'; rename it"
    if is_inside(file, output):
        yield f"--ids: {ids} is in the output, {context.config.output}"
    elif is_inside(file, documents):
        yield f"--ids: {ids} is in the input, {source.path}, which would read it as documents"
    elif is_inside(file, folder) or is_inside(folder, file):
        yield f"--ids: {ids} and --to: {to} are inside each other"
    elif file.rpartition("/")[2].startswith(("_", ".")):
        yield f"--ids: {ids}: `betr-spark forget` reads no file whose name begins with '_' or '.'; rename it"
    elif hadoop_files.exists(spark, ids):
        yield f"--ids: {ids} exists; a file that does not exist is required"


def is_inside(path: str, folder: str) -> bool:
    """Whether a qualified path is a folder or in it.

    >>> is_inside("file:/a/b", "file:/a"), is_inside("file:/a", "file:/a"), is_inside("file:/ab", "file:/a")
    (True, True, False)
    """
    return f"{path}/".startswith(f"{folder}/")


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
        contaminated = features.join(found, on=DOC_ID, how="left_semi")
        rows = contaminated.where(~F.col(DOC_ID).rlike("[\r\n]"))
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
        sums.append(F.count_if(F.col(CUTS) > MOST_CUTS))
        n_cuts, n_short, n_unclean, n_dropped = cut.agg(*sums).head() or (0, 0, 0, 0)
        pieces = materialise(_pieces(documents, cut, snapshot))
        scored = features.select(F.col(DOC_ID).alias(PIECE_ID), F.col(CONTENT_HASH).alias(_SCORED))
        known = materialise(pieces.join(scored, on=PIECE_ID, how="inner").drop(TEXT))
        # with equal hashes, it is the piece of an earlier cut
        taken = known.where(F.col(CONTENT_HASH) != F.col(_SCORED)).select(DOC_ID).distinct()
        free = pieces.join(taken, on=DOC_ID, how="left_anti")
        new = free.join(known, on=PIECE_ID, how="left_anti")
        n_pieces = new.count()
        if n_pieces:
            describe(spark, "decontam-cut: write the pieces")
            write_files(context, new, free.select(DOC_ID).distinct(), to=to, ids=ids)
        n_contaminated = contaminated.count()
        return PiecesWritten(
            to=to, documents=n_contaminated, cuts=n_cuts, too_many_cuts=n_dropped, pieces=n_pieces, too_short=n_short,
            with_items=n_unclean, known=free.count() - n_pieces, id_with_line_break=n_contaminated - n_documents,
            id_taken=taken.count(),
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
    """One row for each piece: piece_id, text, content_hash, and the columns of its document."""
    each = with_content_hash(cut.select(DOC_ID, F.posexplode(PIECES).alias(_NUMBER, TEXT)))
    own = F.md5(TEXT) if snapshot.used.id is None else F.concat(DOC_ID, F.lit("#"), F.col(_NUMBER) + 1)
    rows = each.join(documents.drop(TEXT, CONTENT_HASH), on=DOC_ID, how="inner")
    return rows.withColumn(PIECE_ID, own).drop(_NUMBER)
