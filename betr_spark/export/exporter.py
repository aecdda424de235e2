"""Writes a selection as shards, a manifest at the end. A run that is killed is continued by the next one."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import __version__
from betr_spark.corpus.documents import quoted
from betr_spark.errors import DataError, SchemaError
from betr_spark.export.encoding import RECORD, SHARD, encode, shard_name
from betr_spark.export.formats import Format, Payload
from betr_spark.export.request import ExportRequest, check_selection, format_of
from betr_spark.export.shard_plan import ShardPlan, in_order, plan_shards, shard_rows
from betr_spark.export.target import Target
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import PHASE, REPEAT_COUNT, TEXT
from betr_spark.spark.error_messages import translated
from betr_spark.spark.jobs import describe, described
from betr_spark.storage import delta, hadoop_files, lease
from betr_spark.storage.byte_files import BYTE_FILES, write_byte_files
from betr_spark.storage.lease_record import Holder

FORMAT_VERSION = 1  # of the shards: raise it when the same settings would give other files
_JSON = {  # as docs/export.md says
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_logger = logging.getLogger(__name__)


class Exported(NamedTuple):
    """A finished export: its manifest, the shards that this run wrote, and the number of those that it kept."""

    manifest: dict[str, Any]
    written: int
    kept: int


def export(context: RunContext, request: ExportRequest) -> Exported:
    """Write what is not there yet. The caller has found no `problems`.

    On the driver: sizes of at most 262,144 cells, and a record of each shard (at most 65,536). A task holds an Arrow batch, see
    `encoding.encode`; Spark sorts and spills the texts of its shard.

    Raises:
        DataError: the folder has another export, or the selection is empty.
        SchemaError: the format cannot hold a column.
        LockedError: another run writes to the folder.
    """
    spark = context.spark
    holder, target = Holder.this(spark, context.run_id, "export"), Target(spark, request.to)
    with translated(), described(spark, "export", group=context.run_id):
        job = _Job.of(context, request)
        if not request.overwrite:
            target.check_same(job.settings)
        with lease.hold(spark, target.path, holder, wait_s=context.wait_s) as held:
            exported = _export(context, request, job, target, held)
        lease.remove_ended(spark, target.path)
    return exported


class _Job(NamedTuple):
    """What the shards are made from: the rows, their Arrow schema, the format, and the settings that decide their bytes."""

    ordered: DataFrame
    schema: pa.Schema
    format: Format
    settings: dict[str, Any]
    repeats: bool

    @classmethod
    def of(cls, context: RunContext, request: ExportRequest) -> "_Job":
        path, output_format = request.table(context.config), format_of(context, request)
        run = check_selection(context, request)
        commit = delta.newest_commit(context.spark, path)
        assert commit is not None
        selected = delta.read(context.spark, path, version=commit.version)
        if request.phase is not None:
            selected = selected.where(F.col(PHASE) == request.phase)
        names = [name for name in selected.columns if name not in (REPEAT_COUNT, PHASE)]
        schema = selected.select(*map(F.col, map(quoted, names))).limit(0).toArrow().schema
        if lines := list(output_format.problems(schema)):
            raise SchemaError(*lines)
        settings = {
            "selection": request.selection, "selection_version": commit.version, "selection_run": run.run_id,
            "phase": request.phase,
            "format": request.format, "order": "rank" if request.seed is None else "shuffle", "seed": request.seed,
            "shard_bytes": request.shard_bytes, "columns": names, "format_version": FORMAT_VERSION,
            **output_format.settings(),
        }  # fmt: skip
        ordered = in_order(selected, seed=request.seed)
        return cls(ordered, schema, output_format, settings, REPEAT_COUNT in selected.columns)


def _export(context: RunContext, request: ExportRequest, job: _Job, target: Target, held: lease.Lease) -> Exported:
    spark, manifest = context.spark, target.manifest()
    if request.overwrite:
        target.clear()
        manifest = {}
    else:
        target.check_same(job.settings)  # another run may have held the lease
    separator = job.format.separator
    done = target.records(separator=separator, verify=request.verify) if manifest or target.settings() else {}
    if manifest and len(done) == len(manifest["shards"]) and _has_files(context, target, manifest):
        target.delete_unfinished()
        return Exported(manifest, 0, len(done))
    describe(spark, "export: measure the texts")
    plan = plan_shards(job.ordered, shard_bytes=request.shard_bytes)
    target.begin(job.settings)
    pending = [number for number in range(len(plan)) if number not in done]
    if pending:
        _logger.info("export: %d of %d shards to write", len(pending), len(plan))
        describe(spark, f"export: write {len(pending)} shards")
        suffixes = (*job.format.suffixes, RECORD)
        target.drop(shard_name(number) + suffix for number in pending for suffix in suffixes)
        rows = _payload(shard_rows(spark, job.ordered, plan, pending), job)
        output_format = job.format

        def encoded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return encode(batches, output_format)

        held.check()
        write_byte_files(rows.mapInArrow(encoded, BYTE_FILES), target.staged, separator=separator)
    held.check()
    describe(spark, "export: name the files")
    records = target.records(separator=separator)
    _check_complete(plan, records, target)
    manifest = _finish(job, plan, records, target)
    return Exported(manifest, len(pending), len(plan) - len(pending))


def _payload(rows: DataFrame, job: _Job) -> DataFrame:
    columns = [F.col(quoted(name)) for name in job.schema.names]
    payload = {
        Payload.LINE: lambda: [F.to_json(F.struct(*columns), _JSON).alias("line")],
        Payload.COLUMNS: lambda: columns,
        Payload.TEXT: lambda: [F.col(TEXT)],
    }
    return rows.select(SHARD, *payload[job.format.payload]())


def _check_complete(plan: ShardPlan, records: Mapping[int, Any], target: Target) -> None:
    for number in range(len(plan)):
        rows = records[number]["rows"] if number in records else 0
        if rows != plan.rows[number]:
            raise DataError(
                f"{target.path}: shard {number} has {rows} of {plan.rows[number]} documents; start the export again"
            )


def _finish(job: _Job, plan: ShardPlan, records: Mapping[int, Any], target: Target) -> dict[str, Any]:
    shards = [
        {**records[number], "tokens": int(plan.tokens[number]), "text_bytes": int(plan.text_bytes[number])}
        for number in range(len(plan))
    ]
    digest = hashlib.sha256(json.dumps(job.settings, sort_keys=True).encode()).hexdigest()
    small = job.format.more_files(job.schema, [shard["files"][0]["name"] for shard in shards], digest)
    manifest = {
        "settings": job.settings,
        "schema": [{"name": field.name, "type": str(field.type)} for field in job.schema],
        "repeated": job.repeats,
        "rows": int(plan.rows.sum()),
        "tokens": int(plan.tokens.sum()),
        "text_bytes": int(plan.text_bytes.sum()),
        "figures": _totals(shards),
        "shards": shards,
        "files": [
            {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in small.items()
        ],
        "package_version": __version__,
    }
    target.finish(small, manifest)
    return manifest


def _totals(shards: list[dict[str, Any]]) -> dict[str, int]:
    names = {name for shard in shards for name in shard["figures"]}
    return {name: sum(shard["figures"].get(name, 0) for shard in shards) for name in sorted(names)}


def _has_files(context: RunContext, target: Target, manifest: Mapping[str, Any]) -> bool:
    paths = [f"{target.path}/{file['name']}" for file in manifest["files"]]
    return all(hadoop_files.exists(context.spark, path) for path in paths)
