"""`export`: a finished selection as files that a training job reads; `decontam-cut`: documents without test items."""

from typing import TYPE_CHECKING, Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, WaitOption, load, reading, writing
from betr_spark.errors import ConfigError
from betr_spark.logs import Format

if TYPE_CHECKING:
    from betr_spark.pipeline.stage import RunContext

SelectionOption = Annotated[str, typer.Option("--selection", help="Name of the selection.")]
FormatOption = Annotated[str, typer.Option("--format", help="jsonl.zst, parquet, megatron or hf.")]
ToOption = Annotated[str, typer.Option("--to", help="Folder for the files, on any Hadoop file system.")]
ShardBytesOption = Annotated[int, typer.Option("--shard-bytes", min=1, help="About how much text a shard has.")]
ShuffleOption = Annotated[
    int | None, typer.Option("--shuffle", min=0, max=2**63 - 1, help="Seed of the order; the default is 0.")
]
RankOrderOption = Annotated[bool, typer.Option("--rank-order", help="Keep the order of the ranks.")]
TokenizerOption = Annotated[str | None, typer.Option("--tokenizer", help="megatron: a tokenizer.json.")]
EndTokenOption = Annotated[str | None, typer.Option("--end-token", help="megatron: token after each document.")]
PhaseOption = Annotated[str | None, typer.Option("--phase", help="Of a selection with phases, the one to export.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the export in the folder.")]
VerifyOption = Annotated[bool, typer.Option("--verify", help="Compare the hashes of files that are kept; reads them.")]
IdsOption = Annotated[
    str, typer.Option("--ids", help="Text file for the ids of the documents, for `betr-spark forget`.")
]
StaleOption = Annotated[bool, typer.Option("--allow-stale", help="Export what the last run of `select` wrote.")]


@app.command()
def export(
    config: ConfigOption, selection: SelectionOption, output_format: FormatOption, to: ToOption,
    overrides: SetOption = None, shard_bytes: ShardBytesOption = 256 * 2**20, shuffle: ShuffleOption = None,
    rank_order: RankOrderOption = False, tokenizer: TokenizerOption = None, end_token: EndTokenOption = None,
    phase: PhaseOption = None, overwrite: OverwriteOption = False, verify: VerifyOption = False,
    allow_stale: StaleOption = False, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Write a finished selection as shards for a training job, with a manifest; started again, it writes what is missing."""
    settings = load(config, overrides)
    if rank_order and shuffle is not None:
        raise ConfigError("--shuffle and --rank-order: only one of them is possible")
    from betr_spark.export.exporter import export as write  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.export.request import ExportRequest, problems  # noqa: PLC0415

    seed = None if rank_order else shuffle or 0
    request = ExportRequest(
        selection=selection, format=output_format, to=to, shard_bytes=shard_bytes, seed=seed, tokenizer=tokenizer,
        end_token=end_token, overwrite=overwrite, phase=phase, verify=verify,
    )  # fmt: skip
    context = reading(settings, is_short=False)
    context.wait_s = wait
    output.stop_at(list(problems(context, request)))
    output.stop_at([] if allow_stale else _stale(context, selection))
    done = write(context, request)
    manifest, path = done.manifest, f"{to.rstrip('/')}/manifest.json"
    size = sum(file["bytes"] for shard in manifest["shards"] for file in shard["files"])
    kept = f", {done.kept} kept" if done.kept else ""
    state = f"{done.written} written{kept}" if done.written else "up to date"
    counts = f"{manifest['rows']} documents, {manifest['tokens']} tokens in {len(manifest['shards'])} shards"
    lines = [f"{selection}: {counts} of {output_format}, {size} bytes; {state}", f"manifest: {path}"]
    document = {"to": to, "manifest": path, "up_to_date": not done.written, "written": done.written, "kept": done.kept}
    totals = {name: manifest[name] for name in ("settings", "rows", "tokens", "text_bytes", "figures")}
    output.emit({**document, **totals, "shards": len(manifest["shards"]), "bytes": size}, lines)


@app.command("decontam-cut")
def decontam_cut(
    config: ConfigOption, to: ToOption, ids: IdsOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Cut test items out of the documents that have them, and write what is left as documents for the input."""
    settings = load(config, overrides)
    from betr_spark.export.pieces import problems, write_pieces  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.pipeline.runner import leased  # noqa: PLC0415

    context = writing(settings, "decontam-cut", wait_s=wait)
    output.stop_at(list(problems(context, to, ids)))
    with leased(context):
        written = write_pieces(context, to, ids)
    output.emit(written._asdict(), written.lines())


def _stale(context: "RunContext", selection: str) -> list[str]:
    """Why a run would change the selection: its own stage, or one before it, has work."""
    from betr_spark.pipeline.run import plan  # noqa: PLC0415

    for stage, work, why in plan(context):
        if work and (stage.command != "select" or stage.name == f"select/{selection}"):
            line = f"{stage.name} is not up to date ({why}); run `betr-spark run`, or export the last one with --allow-stale"
            return [f"{context.config.output}: {line}"]
    return []
