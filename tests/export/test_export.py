"""Exports of a table `selected/NAME` that the tests write: every format, resumed runs, partitionings, and what is refused."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from export_texts import AWKWARD
from pyspark.sql.types import StructType

from betr_spark.config import Config
from betr_spark.errors import BetrSparkError, DataError, LockedError, SchemaError
from betr_spark.export import exporter, shard_plan
from betr_spark.export.exporter import Exported, export
from betr_spark.export.request import ExportRequest, problems
from betr_spark.export.target import Target
from betr_spark.pipeline.stage import RunContext
from betr_spark.spark.work import Work
from betr_spark.storage import delta, lease
from betr_spark.storage.lease_record import Holder
from betr_spark.storage.runs import Origin, StageKey, StageRun

SCHEMA = "rank bigint, doc_id string, text string, source string, url string, tags array<string>, score double, logit float, n_tokens int"


def documents(n: int) -> list[tuple[Any, ...]]:
    """Rows of a selection, with awkward texts and empty carried columns among them."""
    rows = []
    for i in range(n):
        text = AWKWARD[i] if i < len(AWKWARD) else f"document {i} " * (i * 7 % 40 + 1)
        url, tags = ("" if i % 3 else None), (None if i % 4 else ["x", ""])
        rows.append(
            (i + 1, f"d{i:03d}", text, None if i % 5 else "web", url, tags, 1 / (i + 1), 1.5 - i, len(text.split()))
        )
    return rows


@pytest.fixture
def select(spark: Any, tmp_path: Path) -> Callable[..., RunContext]:
    """Write `selected/best` as `select` does; returns the context of an export."""

    def write(rows: list[tuple[Any, ...]], *, schema: str = SCHEMA, partitions: int = 2, run: str = "r1") -> RunContext:
        output = tmp_path / "out"
        config = Config.model_validate({
            "input": {"path": str(tmp_path / "docs")}, "output": str(output), "scorers": {},
            "selections": {"best": {"scorer": "random", "keep": {"documents": 9}}},
        })  # fmt: skip
        record = StageRun.of(
            StageKey.of("select/best", {}), run_id=run, started_at=0.0, rows_in=1, rows_out=1, dropped={}, metrics=None,
            origin=Origin(), work=Work(),
        )  # fmt: skip
        table = spark.createDataFrame(rows, cast(StructType, StructType.fromDDL(schema))).repartition(partitions)
        delta.overwrite(table, str(output / "selected/best"), user_metadata=record.to_json())
        return RunContext(spark, config)

    return write


def request(to: Path, output_format: str = "parquet", **more: Any) -> ExportRequest:
    return ExportRequest(selection="best", format=output_format, to=str(to), **{"shard_bytes": 4_000, **more})


def run(context: RunContext, wanted: ExportRequest) -> Exported:
    assert list(problems(context, wanted)) == []
    exported = export(context, wanted)
    folder, manifest = Path(wanted.to), exported.manifest
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8")) == manifest
    files = [file for shard in manifest["shards"] for file in shard["files"]] + manifest["files"]
    for file in files:
        content = (folder / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *(file["name"] for file in files)}
    assert sum(shard["rows"] for shard in manifest["shards"]) == manifest["rows"]
    return exported


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def as_dicts(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = [part.split()[0] for part in SCHEMA.split(", ")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["doc_id"])


def test_parquet_in_rank_order(select: Any, spark: Any, tmp_path: Path) -> None:
    rows = documents(120)
    exported = run(select(rows), request(tmp_path / "to", seed=None))
    manifest = exported.manifest
    expected = as_dicts(rows)
    assert rows_in(tmp_path / "to") == [{**row, "score": pytest.approx(row["score"])} for row in expected]
    assert spark.read.parquet(str(tmp_path / "to/*.parquet")).count() == 120
    sizes = [shard["text_bytes"] for shard in manifest["shards"]]
    total = sum(len(row["text"].encode()) for row in expected)
    assert (manifest["text_bytes"], sum(sizes), len(sizes)) == (total, total, round(total / 4_000))
    assert max(sizes) - min(sizes) < 1_000
    assert manifest["tokens"] == sum(row["n_tokens"] for row in expected)
    assert (
        manifest["settings"] | {"selection_version": 0, "selection_run": "r1", "order": "rank", "seed": None}
        == manifest["settings"]
    )
    assert manifest["schema"][5] == {"name": "tags", "type": "list<element: string>"}
    assert (exported.written, exported.kept) == (len(sizes), 0)


def test_json_lines_are_shuffled_by_the_seed(select: Any, spark: Any, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    rows, orders = documents(80), []
    context = select(rows)
    for seed in (0, 1):
        manifest = run(context, request(tmp_path / str(seed), "jsonl.zst", seed=seed)).manifest
        decoded = ""
        for shard in manifest["shards"]:
            with zstandard.open(tmp_path / str(seed) / shard["files"][0]["name"], "rb") as stream:
                decoded += stream.read().decode()
        objects = [json.loads(line) for line in decoded.split("\n")[:-1]]
        assert by_id(objects) == as_dicts(rows)
        orders.append([each["doc_id"] for each in objects])
        read = spark.read.text(str(tmp_path / str(seed) / "*.zst"), lineSep="\n")  # Spark's own codec
        assert read.count() == 80
    assert orders[0] != orders[1]
    assert sorted(orders[0]) != orders[0]


def test_hugging_face(select: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = documents(60)
    run(select(rows), request(tmp_path / "to", "hf"))
    loaded = datasets.load_from_disk(str(tmp_path / "to"))
    assert len(loaded) == 60
    assert by_id(loaded.to_list()) == as_dicts(rows)


def test_megatron(select: Any, indexed: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from betr_spark.evaluate.byte_pairs import train_tokenizer

    rows, texts = documents(60), []
    trained = train_tokenizer([row[2] for row in rows], n_vocabulary=300)
    trained.add_special_tokens(["<end>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    options = {"tokenizer": str(tmp_path / "tokenizer.json"), "end_token": "<end>", "seed": None}
    manifest = run(select(rows), request(tmp_path / "to", "megatron", **options)).manifest
    tokenizer, n_ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), 0
    for number in range(len(manifest["shards"])):
        dataset = indexed.IndexedDataset(str(tmp_path / f"to/shard-{number:05d}"))
        texts += [tokenizer.decode(dataset[i], skip_special_tokens=False) for i in range(len(dataset))]
        n_ids += int(dataset.sequence_lengths.sum())
    assert texts == [f"{row[2]}<end>" for row in rows]
    assert manifest["figures"] == {"token_ids": n_ids}


def test_the_same_shards_for_any_partitioning(select: Any, spark: Any, tmp_path: Path) -> None:
    rows = documents(150)
    one = run(select(rows, partitions=1), request(tmp_path / "one", seed=3)).manifest
    names = (
        "spark.sql.shuffle.partitions",
        "spark.sql.execution.arrow.maxRecordsPerBatch",
        "spark.sql.adaptive.enabled",
    )
    before = {name: spark.conf.get(name) for name in names}
    try:
        for name, value in zip(names, ("5", "7", "true"), strict=True):
            spark.conf.set(name, value)
        shutil.rmtree(tmp_path / "out")
        many = run(select(rows[::-1], partitions=7), request(tmp_path / "many", seed=3)).manifest
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
    assert many == one
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_repeated_documents(select: Any, tmp_path: Path) -> None:
    counts = [i % 4 if i % 5 else None for i in range(40)]
    rows = [(*row, count) for row, count in zip(documents(40), counts, strict=True)]
    context = select(rows, schema=f"{SCHEMA}, repeat_count int")
    written = sorted(
        row[1] for row, count in zip(rows, counts, strict=True) for _ in range(1 if count is None else count)
    )
    for seed in (None, 0):
        manifest = run(context, request(tmp_path / str(seed), seed=seed, shard_bytes=1_500)).manifest
        read = rows_in(tmp_path / str(seed))
        assert sorted(row["doc_id"] for row in read) == written
        assert (manifest["rows"], manifest["repeated"]) == (len(written), True)
        assert "repeat_count" not in read[0]
        if seed is None:
            assert [row["rank"] for row in read] == sorted(row["rank"] for row in read)


def test_an_export_that_was_stopped_is_continued(select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = select(documents(120))
    run(context, request(tmp_path / "whole"))
    work = exporter.encode

    def fail(batches: Iterator[Any], output_format: Any) -> Iterator[Any]:
        for batch in work(batches, output_format):
            if any(name.startswith("shard-00002") for name in batch.column(0).to_pylist()):
                raise RuntimeError("stopped")
            yield batch

    monkeypatch.setattr(exporter, "encode", fail)
    with pytest.raises(Exception, match="stopped"):
        export(context, request(tmp_path / "to"))
    assert not (tmp_path / "to/manifest.json").exists()
    assert (tmp_path / "to/_export/settings.json").exists()
    with pytest.raises(DataError, match=r"another export in it \(shard_bytes: 4000, now 8000\)"):
        export(context, request(tmp_path / "to", shard_bytes=8_000))
    monkeypatch.setattr(exporter, "encode", work)
    done = run(context, request(tmp_path / "to"))
    assert done.kept > 0
    assert done.written > 0
    assert done.kept + done.written == len(done.manifest["shards"])
    assert contents(tmp_path / "to") == contents(tmp_path / "whole")


def test_an_export_that_was_killed_while_files_are_named_is_continued(
    select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from betr_spark.storage import byte_files

    context, moved, move = select(documents(120)), [], byte_files._move
    run(context, request(tmp_path / "whole"))

    def stop(spark: Any, source: str, target: str) -> None:
        if len(moved) == 2:
            raise RuntimeError("stopped")
        moved.append(target)
        move(spark, source, target)

    monkeypatch.setattr(byte_files, "_move", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        export(context, request(tmp_path / "to"))
    assert len(moved) == 2
    monkeypatch.setattr(byte_files, "_move", move)
    done = run(context, request(tmp_path / "to"))
    assert (done.written, done.kept) == (0, len(done.manifest["shards"]))
    assert contents(tmp_path / "to") == contents(tmp_path / "whole")


def test_a_finished_export_is_up_to_date_repaired_or_refused(
    select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, to = select(documents(100)), tmp_path / "to"
    first = run(context, request(to)).manifest
    before = contents(to)
    times = {path.name: path.stat().st_mtime_ns for path in to.iterdir()}
    again = run(context, request(to))
    assert (again.written, again.kept, again.manifest) == (0, len(first["shards"]), first)
    assert {path.name: path.stat().st_mtime_ns for path in to.iterdir()} == times

    (to / "shard-00001.parquet").write_bytes(b"cut")
    (to / "shard-00003.parquet").unlink()
    repaired = run(context, request(to))
    assert (repaired.written, repaired.kept) == (2, len(first["shards"]) - 2)
    assert contents(to) == before

    damaged = bytearray(before["shard-00002.parquet"])
    damaged[len(damaged) // 2] ^= 1
    (to / "shard-00002.parquet").write_bytes(damaged)
    assert export(context, request(to)).written == 0  # the size is the same
    assert run(context, request(to, verify=True)).written == 1
    assert contents(to) == before

    for more, what in (({"seed": 5}, "seed: 0, now 5"), ({"seed": None}, "order: shuffle, now rank")):
        with pytest.raises(DataError, match=f"another export in it \\({what}\\); choose another folder, or replace"):
            export(context, request(to, **more))
    newer = select(documents(90), run="r2")
    with pytest.raises(DataError, match=r"selection_version: 0, now 1"):
        export(newer, request(to))
    assert contents(to) == before
    with monkeypatch.context() as patch:  # killed while it deletes the former export
        patch.setattr(Target, "delete_unfinished", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(newer, request(to, overwrite=True))
    assert list(problems(newer, request(to, overwrite=True))) == []
    with pytest.raises(DataError, match=r"selection_version: 0, now 1"):
        export(newer, request(to))
    assert run(newer, request(to, overwrite=True)).manifest["rows"] == 90


def test_files_that_are_no_export_are_not_replaced(select: Any, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to/thesis.txt").write_text("mine", encoding="utf-8")
    found = list(problems(select(documents(10)), request(tmp_path / "to", overwrite=True)))
    assert found == [
        f"--to: {tmp_path}/to: is not empty and has no export in it (thesis.txt); choose a new or empty folder"
    ]
    assert contents(tmp_path / "to") == {"thesis.txt": b"mine"}


def test_two_exports_do_not_write_to_the_same_folder(select: Any, spark: Any, tmp_path: Path) -> None:
    context, to = select(documents(10)), tmp_path / "to"
    with lease.hold(spark, str(to), Holder.this(spark, "r9", "export")), pytest.raises(LockedError, match="run r9"):
        export(context, request(to))


def test_wrong_requests_are_one_line_each_before_any_work(select: Any, tmp_path: Path) -> None:
    context, to = select(documents(10)), tmp_path / "to"
    (tmp_path / "file").touch()

    def lines(wanted: ExportRequest) -> list[str]:
        found = list(problems(context, wanted))
        assert not to.exists()
        return found

    assert lines(ExportRequest(selection="no", format="mds", to=str(to))) == [
        "--selection: 'no' is not one of best",
        "--format: 'mds' is not one of jsonl.zst, parquet, megatron, hf",
    ]
    out = tmp_path / "out"
    for place in (out, out / "selected/best", tmp_path):
        assert f"--to: {place}: overlaps with output: {out}; choose another folder" in lines(request(place))
    inside = tmp_path / "docs/x"
    assert lines(request(inside)) == [
        f"--to: {inside}: overlaps with input.path: {tmp_path}/docs; choose another folder"
    ]
    assert lines(request(tmp_path / "file")) == [f"--to: {tmp_path}/file is a file; a folder is required"]
    assert lines(ExportRequest(selection="best", format="parquet", to="nofs://x/y")) == [
        'No FileSystem for scheme "nofs"'
    ]
    assert lines(ExportRequest(selection="best", format="parquet", to="s3a://KEY:SECRET@bucket/x")) == [
        "--to: a path with credentials in it; remove them (docs/cluster.md, Object stores)"
    ]
    assert lines(request(to, tokenizer="t.json")) == [
        "--tokenizer: --format parquet has no tokens; remove it, or use --format megatron"
    ]
    shutil.rmtree(out / "selected")
    assert lines(request(to)) == [f"{out}/selected/best: table not found; create it with `betr-spark run`"]


def test_a_missing_extra_is_one_line(select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, package in (("jsonl.zst", "zstandard"), ("hf", "datasets"), ("megatron", "tokenizers")):
        found = list(problems(select(documents(3)), request(tmp_path / "to", name)))
        assert found == [f"export: --format {name}: {package} is not installed; install betr-spark[export]"]


def test_selections_that_cannot_be_exported(select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "to"
    with pytest.raises(DataError, match="the selection has no documents"):
        export(select([]), request(to))
    with pytest.raises(SchemaError, match="column repeat_count: double; an integer is required"):
        export(select([(*documents(1)[0], 1.0)], schema=f"{SCHEMA}, repeat_count double"), request(to))
    monkeypatch.setattr(shard_plan, "MAX_SHARDS", 3)
    with pytest.raises(DataError, match="--shard-bytes: 100: 5 shards; at most 3 are possible; use 178 or more"):
        export(select([(1, "a", "x" * 534, None, None, None, 1.0, 1.0, 1)]), request(to, shard_bytes=100))
    assert not to.exists() or not [path for path in to.iterdir() if path.name != lease.FOLDER]


def test_columns_that_a_format_cannot_hold(select: Any, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    context = select([(*documents(1)[0], {"a": 1})], schema=f"{SCHEMA}, m map<string,int>")
    with pytest.raises(BetrSparkError, match="column m: map<string, int32"):
        export(context, request(tmp_path / "hf", "hf"))
    manifest = run(context, request(tmp_path / "parquet")).manifest
    assert manifest["rows"] == 1


def test_a_phase_is_exported_alone_and_has_to_be_named(select: Any, tmp_path: Path) -> None:
    rows = [(*row, 1 + row[0] % 2, "broad" if row[0] <= 20 else "final") for row in documents(30)]
    context = select(rows, schema=f"{SCHEMA}, repeat_count int, phase string")
    phases = [{"name": "broad", "tokens": 9}, {"name": "final", "tokens": 9}]
    selection = {"scorer": "random", "keep": {"documents": 9}, "phases": phases}
    config = Config.model_validate({**context.config.model_dump(), "selections": {"best": selection}})
    context = RunContext(context.spark, config)
    (line,) = problems(context, request(tmp_path / "to"))
    assert line == "--phase: one of the selection's phases (broad, final) is required, found none"
    (line,) = problems(context, request(tmp_path / "to", phase="last"))
    assert line.endswith("found 'last'")
    manifest = run(context, request(tmp_path / "to", phase="final")).manifest
    table = pq.ParquetDataset(sorted((tmp_path / "to").glob("*.parquet"))).read()
    assert sorted(table.column("rank").to_pylist()) == sorted(
        rank for rank in range(21, 31) for _ in range(1 + rank % 2)
    )
    assert "phase" not in table.column_names
    assert (manifest["settings"]["phase"], manifest["rows"]) == ("final", 15)


def test_a_phase_of_a_selection_without_phases_is_refused(select: Any, tmp_path: Path) -> None:
    (line,) = problems(select(documents(9)), request(tmp_path / "to", phase="broad"))
    assert line == "--phase: selection 'best' has no phases; remove the option"
