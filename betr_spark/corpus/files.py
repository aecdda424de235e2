"""An input of files: what is listed now, what `features` scored, and how the rows are read."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Self
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.config import Config, InputConfig
from betr_spark.corpus import column_types, json_lines
from betr_spark.corpus.column_types import Example
from betr_spark.corpus.columns import Located, Origin, Path, UsedColumn, read_schema
from betr_spark.corpus.compression import compression_problem
from betr_spark.corpus.folders import folder_keys
from betr_spark.corpus.layouts import Layout, layouts_of
from betr_spark.corpus.listing import FILE, IDENTITY, LAYOUT, FileFilter, Listing, in_files, with_input_file
from betr_spark.corpus.parquet_footers import ParquetFooters
from betr_spark.corpus.scored_files import DIGEST, FIRST_FILES, FORMAT, LAYOUTS, ScoredFiles
from betr_spark.corpus.scored_state import INPUTS_TABLE, scored_state
from betr_spark.errors import DataError
from betr_spark.storage import hadoop_files

_NEVER_TOO_OLD = "36500d"
_FURTHER_BYTES, _FURTHER_FILES = 2**30, 1_000
_LINES = T.StructType([T.StructField(json_lines.VALUE, T.StringType())])
Rows = tuple[DataFrame, Mapping[Path, Located]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputFiles:
    """Files of an input, each with its size, its modification time and its layout.

    Attributes:
        source: the input.
        listing: all files that exist.
        read_inventory: gives file, n_bytes, modified, layout (a number); the files of this input.
        layouts: by number.
        chosen: the files of this input among those of the listing; None if they are all.
        first_files: a file of each layout, if that is known.
        digest: of the inventory, if it is known.
    """

    source: InputConfig
    listing: Listing
    read_inventory: Callable[[], DataFrame]
    layouts: Sequence[Layout]
    chosen: FileFilter | None = None
    first_files: Mapping[int, str] | None = None
    digest: str | None = None

    @classmethod
    def current(cls, spark: SparkSession, source: InputConfig, *, scored: str | None = None) -> Self:
        """List the files, and look into those that are new. If they are those that `_inputs` lists, it is not read.

        Args:
            spark: the session.
            source: the input.
            scored: path of `_inputs`, whose files are not opened again.

        Raises:
            DataError: there is no file or no row, or files cannot be read.
        """
        listing = Listing.of(spark, source.path)
        files, known = listing.files, ScoredFiles.of(spark, scored, source.format) if scored else None
        digest = listing.fingerprint()
        if known is not None and known.digest == digest:
            return cls(
                source=source, listing=listing, read_inventory=lambda: known.inventory, digest=digest,
                layouts=[*map(Layout.from_json, known.layouts)], first_files=known.first_files,
            )  # fmt: skip
        new = files if known is None else files.join(known.inventory, on=IDENTITY, how="left_anti")
        names = [row[FILE] for row in new.select(FILE).toLocalIterator()]  # new files, as Spark's own index has them
        looked = layouts_of(names, _look(spark, source.format))
        texts = list(dict.fromkeys([*(known.layouts if known else ()), *looked.values()]))
        numbers = {file: texts.index(text) for file, text in looked.items()}
        inventory = _with_layouts(files, known, numbers)
        result = cls(
            source=source, listing=listing, read_inventory=lambda: inventory,
            layouts=[*map(Layout.from_json, texts)], digest=digest,
            first_files=None if known else {number: file for file, number in reversed(numbers.items())},
        )  # fmt: skip
        if not result._frame(T.StructType() if source.format == "parquet" else _LINES).select(F.lit(1)).take(1):
            raise DataError(f"input.path: {source.path}: the corpus is empty, no {source.format} rows found")
        return result

    @classmethod
    def scored(cls, spark: SparkSession, config: Config) -> Self:
        """Read back the files that `features` scored. If the input has no others, they are not compared one by one.

        Raises:
            DataError: `features` has not run, or a scored file was changed or deleted.
        """
        path, source = config.table(INPUTS_TABLE), config.input
        stored = ScoredFiles.of(spark, path, source.format, scored_state(spark, config).version)
        if stored is None:
            raise DataError(f"{path}: the list of scored files is missing; run `betr-spark features`")
        listing, layouts = Listing.of(spark, source.path), [*map(Layout.from_json, stored.layouts)]
        if stored.digest == listing.fingerprint():
            return cls(
                source=source, listing=listing, read_inventory=lambda: stored.inventory, layouts=layouts,
                first_files=stored.first_files, digest=stored.digest,
            )  # fmt: skip
        changed = stored.inventory.join(listing.files, on=IDENTITY, how="left_anti").select(FILE)
        names, count = Listing.names_and_count(changed)
        if count:
            what, them = ("file was", "it") if count == 1 else ("files were", "them")
            raise DataError(
                f"input.path: {source.path}: {count} {what} changed or deleted since `features` scored {them}: {names}; "
                "run `betr-spark features`"
            )
        return cls(
            source=source, listing=listing, read_inventory=lambda: stored.inventory, layouts=layouts,
            chosen=FileFilter.of(listing.files, stored.inventory),
        )  # fmt: skip

    @cached_property
    def inventory(self) -> DataFrame:
        """The files of this input: file, n_bytes, modified, layout (a number)."""
        return self.read_inventory()

    def version(self) -> str:
        """Digest of names, sizes and times."""
        return self.digest or hadoop_files.fingerprint(self.inventory)

    def to_metadata(self, *, complete: bool = True) -> dict[str, object]:
        """What a commit of `_inputs` says about its rows; without `complete`, the table lacks some of these files."""
        about: dict[str, object] = {FORMAT: self.source.format, LAYOUTS: [layout.to_json() for layout in self.layouts]}
        return {**about, DIGEST: self.version(), FIRST_FILES: self._first_files} if complete else about

    def located(self, used: Sequence[UsedColumn]) -> dict[Path, Located]:
        """Find the used columns; see `column_types.located` and `json_lines.located`."""
        where = self.source.path
        if self.source.format == "json":
            return json_lines.located(
                self._frame(_LINES), used, folders=lambda: folder_keys(self.inventory), where=where,
                further=self._some_lines,
            )  # fmt: skip
        return column_types.located(used, self._examples, folders=lambda: folder_keys(self.inventory), where=where)

    @cached_property
    def _examples(self) -> list[Example]:
        """Each layout that occurs, with one file."""
        files = self._first_files
        return [Example(self.layouts[number], unquote(files[number])) for number in sorted(files)]

    @cached_property
    def _first_files(self) -> Mapping[int, str]:
        if self.first_files is not None:
            return self.first_files
        rows = self.inventory.groupBy(LAYOUT).agg(F.min(FILE).alias(FILE)).collect()  # one row for each layout
        return {row[LAYOUT]: row[FILE] for row in rows}

    def rows(self, columns: Mapping[Path, Located], *, only_files: Sequence[str] | None = None) -> Iterator[Rows]:
        """Read these columns: frames of rows, each with what differs from `columns` in it.

        Files whose columns have no type, because all values are null, are read apart from the others, without the columns.
        """
        if self.source.format == "json":
            yield self._frame(_LINES, only_files), {}
            return
        groups: dict[frozenset[Path], list[int]] = {}
        for number, layout in enumerate(self.layouts):
            null = frozenset(path for path, column in columns.items() if column.path[0] in layout.null_columns)
            groups.setdefault(null, []).append(number)
        for null, numbers in groups.items():
            absent = {path: Located(Origin.NOWHERE, path, columns[path].kind) for path in null}
            rows = self._frame(read_schema({**columns, **absent}), only_files)
            if len(groups) > 1:
                these = FileFilter.of(self.inventory, self.inventory.where(F.col(LAYOUT).isin(numbers)))
                rows = these.apply(rows) if these else rows
            yield rows, absent

    def stream(self, columns: Mapping[Path, Located], *, max_bytes: int, row: str | None = None) -> DataFrame:
        """Follow the folder: new files, of which a batch takes up to `max_bytes`; `row` as in `listing.with_input_file`."""
        spark, path = self.listing.files.sparkSession, self.source.path
        kind, schema = ("text", _LINES) if self.source.format == "json" else ("parquet", read_schema(columns))
        reader = spark.readStream.format(kind).schema(schema).option("recursiveFileLookup", "true")
        reader = reader.option("maxBytesPerTrigger", str(max_bytes))
        reader = reader.option("maxFileAge", _NEVER_TOO_OLD)  # or Spark never reads a new file with an old time
        if hadoop_files.is_file(spark, path):
            path = f"{path[:-1]}[{path[-1]}]"  # a streaming source takes folders and globs
        return with_input_file(reader.load(path), row=row)

    def again(self, columns: Mapping[Path, Located], files: DataFrame) -> DataFrame:
        """Read these columns of files that a stream has read (column `file`), which may have come after this listing."""
        listing = Listing.of(files.sparkSession, self.source.path)
        rows, these = listing.read("parquet", read_schema(columns)), FileFilter.of(listing.files, files)
        return these.apply(rows) if these else rows

    def _frame(self, schema: T.StructType, only_files: Sequence[str] | None = None) -> DataFrame:
        rows = self.listing.read("text" if self.source.format == "json" else "parquet", schema)
        rows = rows if only_files is None else in_files(rows, only_files)
        return rows if self.chosen is None else self.chosen.apply(rows)

    def _some_lines(self) -> DataFrame:
        """Lines of the first files, a bounded part of the input."""
        names, total = [], 0
        for row in self.inventory.orderBy(FILE).limit(_FURTHER_FILES).collect():
            names.append(row[FILE])
            total += row["n_bytes"]
            if total > _FURTHER_BYTES:
                break
        return self._frame(_LINES, names)


def _look(spark: SparkSession, file_format: str) -> Callable[[str], Layout]:
    """What opens a file of a format, and gives its layout."""

    def json_layout(file: str) -> Layout:
        if problem := compression_problem(spark, file):
            raise DataError(f"{unquote(file)}: {problem}")
        return Layout()

    return ParquetFooters(spark).layout if file_format == "parquet" else json_layout


def _with_layouts(files: DataFrame, known: ScoredFiles | None, numbers: Mapping[str, int]) -> DataFrame:
    """Add the number of each file's layout: of known files as it is stored, of new ones as given.

    The most frequent number is the default, so that only the other files are listed in the query.
    """
    default = Counter(numbers.values()).most_common(1)[0][0] if numbers else None
    layout = F.lit(default).cast("int")
    if others := [(file, number) for file, number in numbers.items() if number != default]:
        differing = files.sparkSession.createDataFrame(others, f"{FILE} string, differing int")
        files, layout = files.join(F.broadcast(differing), on=FILE, how="left"), F.coalesce("differing", layout)
    if known is not None:
        stored = known.inventory.withColumnRenamed(LAYOUT, "known")
        files, layout = files.join(stored, on=IDENTITY, how="left"), F.coalesce("known", layout)
    return files.select(*IDENTITY, layout.alias(LAYOUT))
