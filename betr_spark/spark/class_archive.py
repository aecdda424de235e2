"""Spark's classes in a file that the JVM maps into memory instead of loading them from jars (Java's class data sharing).

In local mode a third of the time until Spark has started is the loading of classes. The file belongs to one version of Java and
one class path; with others, Java does without it.
"""

import logging
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkContext
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from betr_spark.errors import one_line
from betr_spark.redaction import redacted
from betr_spark.spark.local import JAVA_OPTIONS

_logger = logging.getLogger(__name__)
_NAME = "betr-spark-classes.jsa"
_LOG4J_OPTION = "-Dlog4j2.configurationFile"
_DEFAULTS, _LOG4J = "spark-defaults.conf", "log4j2.properties"
_LONGEST_WRITE_S = 300
_writing = False  # the JVM that starts next writes the file
_NO_WARNINGS = "-Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off"


def archive_file() -> Path:
    """File of the classes, in the folder of Spark's jars."""
    return Path(_find_spark_home()) / "jars" / _NAME


@contextmanager
def classes_mapped() -> Iterator[None]:
    """Set environment variables so that the JVM that starts meanwhile maps the file, if `write` made it before, or makes it.

    Java refuses the file if a folder is on the class path, and Spark puts the folder of its configuration there: the files of
    SPARK_CONF_DIR are passed one by one, unless it has others than spark-defaults.conf and log4j2.properties.
    """
    file = archive_file()
    if _writing:
        option = f"-XX:ArchiveClassesAtExit={_quoted(_part(file))}"
    elif file.exists():
        option = f"-XX:SharedArchiveFile={_quoted(file)}"
    else:
        option = None
    with _environment(option):
        yield


def write(start: Callable[[], SparkSession], work: Callable[[SparkSession], None]) -> Path | None:
    """Run `work` in a session of its own, and write the classes that it loaded when the JVM ends.

    Returns:
        The file, or None if it could not be written: the log says why, and an earlier file stays.
    """
    file = archive_file()
    try:
        _write(file, start, work)
    except Exception as error:  # noqa: BLE001 - whatever it is, Spark also starts without the file
        reason = one_line(redacted(str(error)))[:300]
        _logger.warning(
            "classes of Spark: not written to %s (%s); Spark takes some seconds more to start", file, reason
        )
        return None
    return file


def _write(file: Path, start: Callable[[], SparkSession], work: Callable[[SparkSession], None]) -> None:
    global _writing  # noqa: PLW0603
    if not os.access(file.parent, os.W_OK):
        raise OSError("the folder cannot be written")
    part = _part(file)
    try:
        _writing = True
        work(start())
        _end_jvm()
        if not part.exists():
            raise OSError(
                "Java wrote no file; a folder on Spark's class path, such as that of HADOOP_CONF_DIR, prevents it"
            )
        part.replace(file)
    finally:
        _writing = False
        _end_jvm()
        part.unlink(missing_ok=True)


@contextmanager
def _environment(java_option: str | None) -> Iterator[None]:
    """Set SPARK_SUBMIT_OPTS and PYSPARK_SUBMIT_ARGS for a class path without folders, and reset them."""
    configured = os.environ.get("SPARK_CONF_DIR")
    if java_option is None or configured is None or not _can_be_passed(folder := Path(configured)):
        yield
        return
    options = [java_option, _NO_WARNINGS]
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    given = os.environ.get("SPARK_SUBMIT_OPTS", "")
    if (folder / _LOG4J).exists() and not any(_LOG4J_OPTION in os.environ.get(name, "") for name in JAVA_OPTIONS):
        options.append(f"{_LOG4J_OPTION}={(folder / _LOG4J).resolve().as_uri()}")
    if (folder / _DEFAULTS).exists():
        arguments = f"--properties-file {shlex.quote(str(folder / _DEFAULTS))} {arguments}"
    java_options = " ".join([*options, given]).rstrip()
    changed = {"SPARK_SUBMIT_OPTS": java_options, "PYSPARK_SUBMIT_ARGS": arguments, "SPARK_CONF_DIR": None}
    before = {name: os.environ.get(name) for name in changed}
    _set(changed)
    try:
        yield
    finally:
        _set(before)


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _can_be_passed(folder: Path) -> bool:
    """Whether the configuration has no file that Spark finds by its class path alone."""
    others = {file.name for file in folder.iterdir()} - {_DEFAULTS, _LOG4J} if folder.is_dir() else set()
    return not others and not (Path(_find_spark_home()) / "conf").exists()


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _quoted(path: Path) -> str:
    """Of an option among others in one string, which Spark takes apart."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _end_jvm() -> None:
    """Stop Spark and wait for the end of the JVM, which writes the file then. A later session starts another JVM."""
    gateway = SparkContext._gateway  # noqa: SLF001
    if gateway is None:
        return
    if SparkContext._active_spark_context is not None:  # noqa: SLF001
        SparkContext._active_spark_context.stop()  # noqa: SLF001
    gateway.shutdown()
    gateway.proc.stdin.close()
    try:
        gateway.proc.wait(_LONGEST_WRITE_S)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001
