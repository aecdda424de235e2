"""One line for what a user can fix, from real failures of a local session; a traceback for everything else."""

import errno
import gzip
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.errors import REPAIR, SetupError, StoreError
from betr_spark.pipeline.run import run_all
from betr_spark.spark.causes import causes
from betr_spark.spark.error_messages import spark_error_line, translated

LINES = "".join(json.dumps({"id": i, "text": f"word {i * 7919} " * 5}) + "\n" for i in range(2000)).encode()


def line_of(action: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:
        action()
    line = spark_error_line(caught.value)
    assert line is not None
    assert "\n" not in line
    return line


def thrown_in_jvm(spark: Any, exception: Any) -> Callable[[], object]:
    """Throw an exception for real, inside another as a thread pool leaves it."""
    return spark._jvm.java.util.concurrent.CompletableFuture.failedFuture(exception).get


def streamed(rows: Any, folder: Path) -> None:
    query = rows.writeStream.format("delta").option("checkpointLocation", str(folder / "checkpoint"))
    query.trigger(availableNow=True).start(str(folder / "table")).awaitTermination()


@pytest.fixture
def json_lines(tmp_path: Path) -> Path:
    folder = tmp_path / "größe docs"  # Spark encodes it in the error
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(LINES[:500])
    packed = gzip.compress(LINES)
    (folder / "b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    return folder


def test_a_truncated_gz_is_named_in_batch_and_in_a_stream(spark: Any, json_lines: Path, tmp_path: Path) -> None:
    said = f"file://{json_lines}/b.jsonl.gz: cannot be read (truncated file: Unexpected end of input stream)"
    assert line_of(spark.read.text(str(json_lines)).collect) == said
    assert line_of(lambda: list(spark.read.text(str(json_lines)).toLocalIterator())) == said
    assert line_of(lambda: spark.read.text(str(json_lines)).write.parquet(str(tmp_path / "copy"))) == said
    assert line_of(lambda: streamed(spark.readStream.text(str(json_lines)), tmp_path)) == said


def test_a_truncated_gz_is_named_by_the_features_stage(spark: Any, json_lines: Path, tmp_path: Path) -> None:
    source = {"path": str(json_lines), "format": "json"}
    config = Config.model_validate({"input": source, "output": str(tmp_path / "out"), "scorers": {}})
    said = f"file://{json_lines}/b.jsonl.gz: cannot be read (truncated file: Unexpected end of input stream)"
    assert (
        line_of(lambda: run_all(spark, config, "features")) == said
    )  # a foreachBatch: the query's error has no such cause


def test_a_file_that_is_not_gzip_is_named(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(LINES[:500])
    said = line_of(spark.read.text(str(tmp_path)).collect)
    assert said == f"file://{tmp_path}/a.jsonl.gz: cannot be read (not a gzip file)"


def test_a_corrupt_and_a_truncated_zstd_are_named(spark: Any, tmp_path: Path) -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(LINES))
    (tmp_path / "a.jsonl.zst").write_bytes(packed[:1000])
    said = line_of(spark.read.text(str(tmp_path)).collect)
    assert said == f"file://{tmp_path}/a.jsonl.zst: cannot be read (invalid zstd data: Truncated source)"
    packed[-1] ^= 0xFF  # of the checksum
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    said = line_of(spark.read.text(str(tmp_path)).collect)
    assert said.startswith(f"file://{tmp_path}/a.jsonl.zst: cannot be read (invalid zstd data: ")
    assert "checksum" in said


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "parquet"
    folder.mkdir()
    for name in "ab":
        pq.write_table(pa.table({"text": [f"{name}{i}" for i in range(1000)]}), folder / f"{name}.parquet")
    return folder


def test_a_truncated_parquet_file_is_named(spark: Any, parquet: Path, tmp_path: Path) -> None:
    (parquet / "b.parquet").write_bytes((parquet / "a.parquet").read_bytes()[:-20])
    reason = "cannot be read (is not a Parquet file. Expected magic number at tail, but found ["
    footer = line_of(lambda: spark.read.option("mergeSchema", "true").parquet(str(parquet)))
    assert footer.startswith(f"file:{parquet}/b.parquet: {reason}")
    rows = spark.read.schema("text string").parquet(str(parquet))
    assert line_of(rows.collect).startswith(f"file://{parquet}/b.parquet: ")
    rows = spark.readStream.schema("text string").parquet(str(parquet))
    assert line_of(lambda: streamed(rows, tmp_path)).startswith(f"file://{parquet}/b.parquet: ")


def test_a_deleted_file_is_named(spark: Any, parquet: Path) -> None:
    rows = spark.read.parquet(str(parquet))
    (parquet / "b.parquet").unlink()
    said = line_of(rows.collect)
    gone = "no such file; it was deleted or replaced after the run had listed it"
    assert said == f"file://{parquet}/b.parquet: {gone}; if a table lost it: {REPAIR}"


def test_a_missing_path_and_types_that_differ_are_named(spark: Any, parquet: Path) -> None:
    assert line_of(lambda: spark.read.text(f"{parquet}/no")) == f"file:{parquet}/no: no such file or folder"
    pq.write_table(pa.table({"text": [1]}), parquet / "c.parquet")
    said = line_of(lambda: spark.read.option("mergeSchema", "true").parquet(str(parquet)))
    assert said == "input: the files have columns of different types: STRUCT<text: STRING> and STRUCT<text: BIGINT>"


def test_an_access_error_of_s3a_is_named(spark: Any) -> None:
    java, reason = spark._jvm.java, "getFileStatus on s3a://b/docs: S3Exception: null (Service: S3, Status Code: 403)"
    denied = java.nio.file.AccessDeniedException("s3a://b/docs", None, reason)  # as hadoop-aws translates a 403
    said = f"s3a://b/docs: cannot be read or written (access denied: {reason})"
    assert line_of(thrown_in_jvm(spark, denied)) == said
    sdk = "software.amazon.awssdk.services.s3.model.S3Exception"
    answer = "null (Service: S3, Status Code: 403, Request ID: R7, Extended Request ID: a/b=) (SDK Attempt Count: 1)"
    caused = java.nio.file.AccessDeniedException(
        "s3a://b/docs", None, f"getFileStatus on s3a://b/docs: {sdk}: {answer}"
    )
    caused.initCause(java.lang.RuntimeException(answer))
    assert line_of(thrown_in_jvm(spark, caused)) == said.replace("S3Exception: ", "")
    wrapped = java.lang.RuntimeException("listing", java.io.IOException("again", denied))
    assert line_of(thrown_in_jvm(spark, wrapped)) == said
    missing = java.io.FileNotFoundException("No such file or directory: s3a://b/docs")
    assert line_of(thrown_in_jvm(spark, missing)) == "no such file: No such file or directory: s3a://b/docs"


def test_a_store_that_cannot_be_reached_is_an_error_of_its_own(spark: Any) -> None:
    java, reason = spark._jvm.java, "getFileStatus on s3a://b/docs: SdkClientException: Connection refused"
    refused = java.net.ConnectException(reason)  # as hadoop-aws translates it
    for thrown in (refused, java.lang.RuntimeException("reading", java.io.IOException("again", refused))):
        with pytest.raises(StoreError) as error, translated():
            thrown_in_jvm(spark, thrown)()
        assert str(error.value) == f"the store cannot be reached; run again when it can: {reason}"


def test_a_file_system_without_jars_is_named(spark: Any) -> None:
    said = line_of(lambda: spark.read.text("s3a://bucket/docs"))  # no hadoop-aws on the tests' class path
    assert said.startswith("Hadoop: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found; add the jars")
    assert line_of(lambda: spark.read.text("s3://bucket/docs")) == 'No FileSystem for scheme "s3"'


def to_full_disk(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")
        yield batch


def test_a_full_disk_is_recognised_wherever_it_is_hit(spark: Any) -> None:
    def in_python() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    def in_hadoop() -> None:
        path = spark._jvm.org.apache.hadoop.fs.Path("/dev/full")
        system = path.getFileSystem(spark._jsc.hadoopConfiguration()).getRawFileSystem()
        stream = system.create(path, True)
        stream.write(bytearray(100_000))

    in_worker = spark.range(1).mapInArrow(to_full_disk, "id bigint").collect
    for action in (in_python, in_hadoop, in_worker):
        said = line_of(action)
        assert said.startswith("a disk is full (No space left on device)")
        assert tempfile.gettempdir() in said
    opened = spark._jvm.java.io.FileNotFoundException("/scratch/blockmgr/0c/temp_1 (No space left on device)")
    assert line_of(thrown_in_jvm(spark, opened)).startswith("a disk is full")
    assert spark_error_line(OSError(errno.EACCES, os.strerror(errno.EACCES))) is None


def test_a_file_that_python_may_not_write_is_named(spark: Any) -> None:
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS), "/out/_lease/now")
    assert spark_error_line(refused) == "/out/_lease/now: cannot be read or written (Read-only file system)"
    assert spark_error_line(OSError(errno.ENOENT, os.strerror(errno.ENOENT), "/out/x")) is None  # may be a bug
    thrown = thrown_in_jvm(spark, spark._jvm.java.io.FileNotFoundException("/out/x (Read-only file system)"))
    assert line_of(thrown) == "/out/x (Read-only file system)"


def test_two_writers_of_a_table_are_told_apart_from_a_failure(spark: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.range(3).write.format("delta").save(path)
    errors: list[Exception] = []

    def overwrite(number: int) -> None:
        rows = spark.range(3).withColumn(f"column_{number}", F.lit(number))
        try:
            rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
        except Exception as error:  # noqa: BLE001 - Delta's, as Python or as the JVM has it
            errors.append(error)

    for _ in range(10):
        threads = [threading.Thread(target=overwrite, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            break
    assert errors
    line = spark_error_line(errors[0])
    assert line is not None
    assert line.startswith("output: another run wrote to the same table at the same time")


def no_gpu(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        {}["a first error"]
    except KeyError as error:
        raise SetupError("encoder.device: cuda: no GPU") from error
    yield


def quotes_errors(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        raise SetupError("encoder.device: cuda: no GPU")  # noqa: TRY301
    except SetupError:
        words = "a MALFORMED value:\nbetr_spark.errors.DataError: a line of the document\nOSError: [Errno 28] another"
        raise TypeError(words)  # noqa: B904 - the first error stays in the traceback
    yield


def test_an_error_of_ours_in_a_worker_is_its_message_and_no_other_is(spark: Any) -> None:
    def run(function: Any) -> Callable[[], object]:
        return spark.range(1).mapInArrow(function, "id bigint").collect

    assert line_of(run(no_gpu)) == "encoder.device: cuda: no GPU"
    with pytest.raises(Exception, match="betr_spark.errors.DataError: a line of the document") as caught:
        run(quotes_errors)()
    assert spark_error_line(caught.value) is None


def test_raise_error_gives_its_message(spark: Any, tmp_path: Path) -> None:
    rows = spark.range(1).select(F.raise_error(F.lit("id 'a\nb' is gone")).cast("string").alias("x"))
    assert line_of(rows.collect) == "id 'a b' is gone"
    assert line_of(lambda: rows.write.format("delta").save(str(tmp_path / "table"))) == "id 'a b' is gone"


def test_words_alone_do_not_make_a_users_error(spark: Any) -> None:
    words = "[PATH_NOT_FOUND] MALFORMED file:/x is not a Parquet file; FAILED_READ_FILE; No space left on device; "
    words += "DELTA_CONCURRENT_APPEND\nbetr_spark.errors.DataError: x"
    assert spark_error_line(TypeError(words)) is None
    assert spark_error_line(OSError(words)) is None
    assert spark_error_line(RuntimeError(words)) is None
    with pytest.raises(Exception) as caught:
        thrown_in_jvm(spark, spark._jvm.java.lang.IllegalStateException(words))()
    assert spark_error_line(caught.value) is None
    assert [cause.class_names[0] for cause in causes(caught.value)] == [
        "java.util.concurrent.ExecutionException",
        "java.lang.IllegalStateException",
    ]


def test_an_error_while_another_is_handled_keeps_its_traceback(spark: Any, tmp_path: Path) -> None:
    def wrapped(explicit: bool) -> BaseException:
        try:
            spark.read.text(str(tmp_path / "no"))
        except Exception as error:
            if not explicit:
                return TypeError("a bug").with_traceback(error.__traceback__)
            with pytest.raises(RuntimeError) as caught:
                raise RuntimeError("the query failed") from error
            return caught.value
        raise AssertionError

    assert spark_error_line(wrapped(explicit=False)) is None
    assert spark_error_line(wrapped(explicit=True)) == f"file:{tmp_path}/no: no such file or folder"


def table_of_three(spark: Any, path: Path) -> None:
    for number in range(3):
        spark.range(number, number + 1, 1, 1).write.format("delta").mode("append").save(str(path))


def read_copy(spark: Any, path: Path) -> str | None:
    shutil.copytree(path / "table", path / "copy")  # of the table itself, Delta remembers the commits
    with pytest.raises(Exception) as caught:
        spark.read.format("delta").load(str(path / "copy")).collect()
    return spark_error_line(caught.value)


def test_a_delta_table_without_one_of_its_files_is_named(spark: Any, tmp_path: Path) -> None:
    table_of_three(spark, tmp_path / "table")
    lost = next((tmp_path / "table").glob("*.parquet"))
    lost.unlink()
    line = read_copy(spark, tmp_path)
    assert line
    assert line.startswith(f"file:{tmp_path}/copy/{lost.name}: no such file; it was deleted or replaced")
    assert line.endswith(f"if a table lost it: {REPAIR}")


@pytest.mark.parametrize("kept", [None, 0.0, 0.5])
def test_a_delta_log_with_a_commit_that_is_gone_or_not_whole_is_one_line(
    spark: Any, tmp_path: Path, kept: float | None
) -> None:
    table_of_three(spark, tmp_path / "table")
    log = tmp_path / "table/_delta_log"
    for file in log.glob("*.crc"):  # of Delta and of Hadoop, hidden
        file.unlink()
    for file in log.glob(".*.crc"):
        file.unlink()
    file = log / f"{0 if kept == 0.0 else 1:020d}.json"
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    line = read_copy(spark, tmp_path)
    assert line
    assert "damaged" in line
    assert line.endswith(REPAIR)
