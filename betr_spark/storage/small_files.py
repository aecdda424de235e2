"""Whole small files that are written in one step: replaced, or created by exactly one of several writers."""

import os
import uuid
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from betr_spark.errors import DataError
from betr_spark.spark.jvm import java_class
from betr_spark.storage import hadoop_files

# Stores without a rename in one step, where an object becomes visible when its upload ends.
_OBJECT_STORES = frozenset({"s3", "s3a", "s3n", "gs", "oss", "cosn", "obs"})
# An option of S3A's writer, and the capability that goes with it: the store creates the object (If-None-Match) or refuses.
_CONDITIONAL_CREATE = "fs.option.create.conditional.overwrite"


def write_bytes(spark: SparkSession, path: str, content: bytes) -> None:
    """Write a whole small file. A reader sees the former content or the new one, never a part or no file.

    A local file, and one of HDFS, is written beside the former one and renamed over it in one step. An object store gets a
    plain upload. Where a store's rename over a file has two steps, a reader may find no file between them.
    """
    hadoop_path, system = hadoop_files.path_and_system(spark, path)
    hadoop_path = system.makeQualified(hadoop_path)
    scheme = str(hadoop_path.toUri().getScheme())
    if scheme == "file":
        _replace_local(Path(hadoop_path.toUri().getPath()), content)
    elif scheme in _OBJECT_STORES:
        _upload(system.create(hadoop_path, True), content)
    else:
        part = java_class(spark, "org.apache.hadoop.fs.Path")(f"{hadoop_path}.part")
        rename = java_class(spark, "org.apache.hadoop.fs.Options$Rename")
        options: Any = spark.sparkContext._gateway.new_array(rename, 1)  # type: ignore[union-attr]  # noqa: SLF001
        options[0] = rename.OVERWRITE
        contexts = java_class(spark, "org.apache.hadoop.fs.FileContext")
        context = contexts.getFileContext(hadoop_path.toUri(), system.getConf())
        try:
            _upload(system.create(part, True), content)
            context.rename(part, hadoop_path, options)  # FileSystem.rename refuses a path that exists
        finally:
            system.delete(part, False)


def create_new(spark: SparkSession, path: str, content: bytes) -> bool:
    """Create a small file that does not exist; return False where it does. Of several writers one gets True.

    A local file is linked to its name, which fails where the name exists. HDFS, ABFS and Google's store create without
    overwriting in one step. S3A uses a conditional put, which AWS and most compatible stores have. On a store that ignores the
    condition, and with `fs.s3a.create.conditional.enabled` false, two writers at the same instant may both get True.

    Args:
        spark: the session.
        path: of the file; its folder is created.
        content: different for each writer; after an error it tells whether the file is this writer's.
    """
    hadoop_path, system = hadoop_files.path_and_system(spark, path)
    hadoop_path = system.makeQualified(hadoop_path)
    if str(hadoop_path.toUri().getScheme()) == "file":
        return _create_local(Path(hadoop_path.toUri().getPath()), content)
    try:
        builder = system.createFile(hadoop_path).overwrite(False).recursive()
        if system.hasPathCapability(hadoop_path, _CONDITIONAL_CREATE):  # otherwise S3A refuses the option
            builder = builder.must(_CONDITIONAL_CREATE, "true")
        _upload(builder.build(), content)
    except Py4JJavaError:
        try:
            return hadoop_files.read_bytes(spark, path) == content  # the answer to a request that succeeded may be lost
        except (DataError, Py4JJavaError):
            pass
        raise
    return True


def _upload(stream: Any, content: bytes) -> None:
    try:
        stream.write(content)
    except Exception:
        if stream.hasCapability("fs.capability.outputstream.abortable"):
            stream.abort()
        raise  # without `close`, which would make a part visible
    stream.close()


def _replace_local(file: Path, content: bytes) -> None:
    """Replace a file of the driver's disk; Hadoop's local file system would delete the former one first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(content)
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of the former content
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _create_local(file: Path, content: bytes) -> bool:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        try:
            os.link(part, file)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: the name is created in one step, the content a moment later
            try:
                with file.open("xb") as stream:
                    stream.write(content)
            except FileExistsError:
                return False
    finally:
        part.unlink(missing_ok=True)
    return True
