"""What Spark needs outside spark-submit: Java, the interpreter of Python workers, a configuration."""

import glob
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

from betr_spark.errors import SetupError

MIN_JAVA = 17
JAVA_OPTIONS = ("SPARK_SUBMIT_OPTS", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS")
_COLLECTOR = "-XX:+UseParallelGC"
# one compiler, and as much memory for its code as two have: Java compiles nothing any more when this is full
_FEW_COMPILERS = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m")
_FEW_FILES, _FEW_BYTES = 1_000, 2_000_000_000
_MEMORY = ("-XX:InitialRAMPercentage=6", "-XX:MetaspaceSize=256m")  # as much as such a command takes in the end


def local_conf_dir() -> Path | None:
    """Folder of the spark-defaults.conf for local mode: the checkout's conf/local, or the copy inside the package."""
    package = Path(__file__).parents[1]
    return next((d for d in (package.parent / "conf/local", package / "_conf/local") if d.is_dir()), None)


def java_problem() -> str | None:
    """Return one line that says what is wrong with Java, or None. Runs `java -version`."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin/java") if home else "java"
    source, required = f"JAVA_HOME={home}" if home else "PATH", f"a JDK {MIN_JAVA} or later is required"
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return f"Java: no `java` found by {source}; {required}"
    version = re.search(r'version "(\d+)(?:\.(\d+))?', output)
    if version is None:
        return f"Java: `{java} -version`, found by {source}, prints no version; {required}"
    major = int(version[2] or 0) if version[1] == "1" else int(version[1])
    return f"Java: version {major} found by {source}; {required}" if major < MIN_JAVA else None


def prepare_local() -> None:
    """Set what Spark needs outside spark-submit: Java, the interpreter of Python workers, the local configuration."""
    if problem := java_problem():
        raise SetupError(problem)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = local_conf_dir()
    if conf is not None:
        os.environ.setdefault("SPARK_CONF_DIR", str(conf))


def is_small(path: str) -> bool:
    """Whether a path, or glob, is of this machine, and its files so small that a second compiler takes longer than it saves."""
    parts, size = urlparse(path), 0
    if parts.scheme not in ("", "file"):
        return False
    here = unquote(parts.path) if parts.scheme else path
    for number, file in enumerate(_files(here), 1):
        with suppress(OSError):
            size += file.stat().st_size
        if number > _FEW_FILES or size > _FEW_BYTES:
            return False
    return size > 0


def _files(path: str) -> Iterator[Path]:
    for found in [path] if Path(path).exists() else glob.iglob(path):  # noqa: PTH207 - of an absolute or relative pattern
        if Path(found).is_file():
            yield Path(found)
        for folder, _, names in os.walk(found):
            yield from (Path(folder) / name for name in names)


@contextmanager
def short_work() -> Iterator[None]:
    """Set environment variables for a JVM that starts meanwhile and has little to do.

    Such a JVM spends much of its time compiling. It needs no second compiler and no concurrent collector. A collector that the
    user chooses stays, because Java accepts only one.
    """
    before = os.environ.get("SPARK_SUBMIT_OPTS")
    given = " ".join(os.environ.get(name, "") for name in (*JAVA_OPTIONS, "PYSPARK_SUBMIT_ARGS"))
    own_conf = os.environ.get("SPARK_CONF_DIR") != str(local_conf_dir())
    options = [*_FEW_COMPILERS, *_MEMORY]
    options += [] if own_conf or re.search(r"-XX:\+Use\w+GC\b", given) else [_COLLECTOR]
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join([*options, before or ""]).rstrip()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("SPARK_SUBMIT_OPTS", None)
        else:
            os.environ["SPARK_SUBMIT_OPTS"] = before
