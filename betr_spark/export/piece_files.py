"""Files of pieces: documents in the shape of the input, and the ids of the documents that they come from."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.corpus.columns import Origin, Path
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, SOURCE, TEXT
from betr_spark.selection.winners import CARRIED
from betr_spark.storage import hadoop_files
from betr_spark.storage.renaming import rename, sibling

PIECE_ID = "piece_id"
_ROWS_IN_FILE = 2**18


def write_files(context: RunContext, pieces: DataFrame, documents: DataFrame, *, to: str, ids: str) -> None:
    """Write both beside their places, under names that the input does not read, and give them their names at the end.

    Args:
        context: of the run, which holds the lease.
        pieces: piece_id, text, and of their documents source, logits of expression scorers, and carried columns.
        documents: doc_id, one row each.
        to: folder of the pieces, which does not exist.
        ids: text file of the documents, one in a line, which does not exist.

    Raises:
        DataError: a file or folder of one of these names was created in the meantime.
        LockedError: another run took the output over.
    """
    spark = context.spark
    folder = sibling(spark, to, f"_betr-spark-{context.run_id}.partial")
    list_folder = sibling(spark, ids, f"_betr-spark-{context.run_id}.ids")
    try:
        _write_pieces(context.scored_input(), pieces, folder)
        documents.select(DOC_ID).coalesce(1).sortWithinPartitions(DOC_ID).write.text(list_folder)
        (part,) = [name for name in hadoop_files.children(spark, list_folder) if name.startswith("part-")]
        context.check_lease()
        rename(spark, f"{list_folder}/{part}", ids)  # first: a run that takes the pieces in requires the list
        try:
            rename(spark, folder, to)
        except BaseException:
            hadoop_files.delete(spark, ids)
            raise
    finally:
        hadoop_files.delete(spark, folder)
        hadoop_files.delete(spark, list_folder)


def _write_pieces(snapshot: InputSnapshot, pieces: DataFrame, folder: str) -> None:
    used, places = snapshot.used, snapshot.columns
    values = {used.text.path: F.col(TEXT)}
    if used.id is not None:
        values[used.id.path] = F.col(PIECE_ID)
    if used.source is not None:
        values[used.source.path] = F.col(SOURCE).cast(places[used.source.path].kind)
    of_document = {column.path: F.col(CARRIED).getField(name) for name, column in used.carried.items()}
    as_json = snapshot.source.format == "json"
    for name, column in used.numbers.items():
        number = F.col(schemas.logit_column(name))
        of_document.setdefault(column.path, number if as_json else number.cast(places[column.path].kind))
    in_rows, in_folders = dict[Path, Column](), dict[str, Column]()
    for path, value in [*values.items(), *of_document.items()]:
        if places[path].origin is Origin.ROWS:
            in_rows.setdefault(places[path].path, value)  # two names of a column may differ in their case
        elif places[path].origin is Origin.FOLDERS:
            in_folders.setdefault(path[0], value)
    folders = [value.alias(name) for name, value in in_folders.items()]
    n_files = pieces.count() // _ROWS_IN_FILE + 1
    ordered = pieces.repartitionByRange(n_files, PIECE_ID).sortWithinPartitions(PIECE_ID)
    table = ordered.select(*nested(in_rows), *folders)
    table.write.format("json" if as_json else "parquet").partitionBy(*in_folders).save(folder)


def nested(values: Mapping[Path, Column]) -> list[Column]:
    """Columns and structs in which each value is at its path; a path below another one is left out."""
    by_name: dict[str, dict[Path, Column]] = {}
    for path, value in values.items():
        by_name.setdefault(path[0], {})[path[1:]] = value
    return [(inner[()] if () in inner else F.struct(*nested(inner))).alias(name) for name, inner in by_name.items()]
