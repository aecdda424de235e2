"""What an export is asked for, and everything that can be wrong with it before any work."""

from collections.abc import Iterator
from dataclasses import dataclass

from betr_spark import extras
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.export.formats import FORMATS, Format, Megatron
from betr_spark.export.target import Target
from betr_spark.pipeline.stage import RunContext
from betr_spark.redaction import has_credentials
from betr_spark.schemas import PHASE
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import delta, hadoop_files
from betr_spark.storage.runs import StageRun

_GLOB = set("*?[{")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export.

    Attributes:
        selection: its name in the configuration.
        format: one of `FORMATS`.
        to: folder that the files are written to, on any Hadoop file system.
        shard_bytes: about how many bytes of text a shard has.
        seed: of the shuffle; None for the order of the ranks.
        tokenizer: file of Hugging Face's tokenizers, for `megatron`.
        end_token: that ends each document, for `megatron`.
        overwrite: delete the export that is in the folder.
        phase: of a selection with phases, the one that is exported.
        verify: read the files that are kept, and write those again whose hash is another one.
    """

    selection: str
    format: str
    to: str
    shard_bytes: int = 256 * 2**20
    seed: int | None = 0
    tokenizer: str | None = None
    end_token: str | None = None
    overwrite: bool = False
    phase: str | None = None
    verify: bool = False

    def table(self, config: Config) -> str:
        """Path of the selection's table."""
        return config.table(f"selected/{self.selection}")


def problems(context: RunContext, request: ExportRequest) -> Iterator[str]:
    """Find what is wrong with a request, one line each; whether the selection is up to date is not looked at."""
    config, spark = context.config, context.spark
    if request.selection not in config.selections:
        yield f"--selection: '{request.selection}' is not one of {', '.join(config.selections) or 'none'}"
    else:
        unreadable = list(problems_of(lambda: check_selection(context, request)))
        yield from unreadable or _phase_problems(context, request)
    if request.format not in FORMATS:
        yield f"--format: '{request.format}' is not one of {', '.join(FORMATS)}"
    else:
        yield from problems_of(lambda: format_of(context, request))
    if has_credentials(request.to):
        yield "--to: a path with credentials in it; remove them (docs/cluster.md, Object stores)"
        return
    checks = (lambda: _check_apart(context, request.to), lambda: Target(spark, request.to).check_ours())
    wrong = dict.fromkeys(line for check in checks for line in problems_of(check))  # a store that fails, fails both
    yield from wrong or problems_of(lambda: hadoop_files.check_writable(spark, request.to, subject="--to"))


def _phase_problems(context: RunContext, request: ExportRequest) -> Iterator[str]:
    """A phase is required if the table has phases, because a shuffle would mix them."""
    table = delta.read(context.spark, request.table(context.config))
    phases = [phase.name for phase in context.config.selections[request.selection].phases]
    if PHASE not in table.columns:
        if request.phase is not None:
            yield f"--phase: selection '{request.selection}' has no phases; remove the option"
    elif request.phase not in phases:
        found = "none" if request.phase is None else f"'{request.phase}'"
        yield f"--phase: one of the selection's phases ({', '.join(phases)}) is required, found {found}"


def check_selection(context: RunContext, request: ExportRequest) -> StageRun:
    """Return the run that wrote the selection.

    Raises:
        DataError: there is no table, or `select` did not write it.
    """
    path = request.table(context.config)
    delta.read(context.spark, path)
    commit = delta.newest_commit(context.spark, path)
    run = StageRun.from_json(commit.user_metadata) if commit else None
    if run is None:
        raise DataError(f"{path}: was not written by `betr-spark select`; run it, or restore the table")
    return run


def format_of(context: RunContext, request: ExportRequest) -> Format:
    """Build the format with its settings.

    Raises:
        SetupError: an optional package is missing.
        DataError: the tokenizer is missing or wrong, or is given for a format that has none.
    """
    output_format = FORMATS[request.format]()
    extras.require(*output_format.modules, extra="export", subject=f"export: --format {request.format}")
    if not isinstance(output_format, Megatron):
        given = [("--tokenizer", request.tokenizer), ("--end-token", request.end_token)]
        for option, value in given:
            if value is not None:
                raise DataError(
                    f"{option}: --format {request.format} has no tokens; remove it, or use --format megatron"
                )
        return output_format
    content = ""
    if request.tokenizer is not None:
        try:
            content = hadoop_files.read_bytes(context.spark, request.tokenizer).decode()
        except UnicodeDecodeError:
            raise DataError(f"--tokenizer: {request.tokenizer}: is not UTF-8") from None
    tokenizing = Megatron(content, request.tokenizer or "", request.end_token)
    tokenizing.check()
    return tokenizing


def _check_apart(context: RunContext, to: str) -> None:
    """The export must not be among the tables of the output, nor be read as input."""
    config, spark = context.config, context.spark
    target, output = (hadoop_files.qualified(spark, path) for path in (to, config.output))
    if _overlap(target, output):
        raise DataError(f"--to: {to}: overlaps with output: {config.output}; choose another folder")
    if not _GLOB & set(config.input.path) and _overlap(target, hadoop_files.qualified(spark, config.input.path)):
        raise DataError(f"--to: {to}: overlaps with input.path: {config.input.path}; choose another folder")


def _overlap(left: str, right: str) -> bool:
    return left == right or left.startswith(f"{right}/") or right.startswith(f"{left}/")
