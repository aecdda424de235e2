"""The only place that builds a Spark session. No master and no memory sizes here: spark-submit or spark-defaults.conf."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

from betr_spark.errors import SetupError

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
LEAST_JAVA = 17


def local_conf_dir() -> Path | None:
    """Folder of the spark-defaults.conf for local mode: the checkout's conf/local, or the copy inside the package."""
    package = Path(__file__).parents[1]
    return next((d for d in (package.parent / "conf/local", package / "_conf/local") if d.is_dir()), None)


def java_problem() -> str | None:
    """Return one line that says what is wrong with Java, or None. Runs `java -version`."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin/java") if home else "java"
    where = f"JAVA_HOME={home}" if home else "PATH"
    try:
        out = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return f"Java: no `java` found by {where}; a JDK {LEAST_JAVA} or later is wanted"
    found = re.search(r'version "(\d+)(?:\.(\d+))?', out)
    if found is None:
        return f"Java: `{java} -version` by {where} names no version; a JDK {LEAST_JAVA} or later is wanted"
    major = int(found[2] or 0) if found[1] == "1" else int(found[1])
    if major < LEAST_JAVA:
        return f"Java: version {major} found by {where}; a JDK {LEAST_JAVA} or later is wanted"
    return None


def build_session(app_name: str = "betr-spark") -> SparkSession:
    """Start Spark with Delta, or take the session that spark-submit prepared.

    Outside spark-submit, the settings of `local_conf_dir` apply unless SPARK_CONF_DIR is set, and Python workers are
    this interpreter unless PYSPARK_PYTHON is set.

    Raises:
        SetupError: no Java, an old Java, or Spark without Delta's classes.
    """
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not under spark-submit
        prepare_local()
        unused = Path(tempfile.gettempdir()) / "betr-spark-warehouse"  # or Spark makes one in the working directory
        builder = builder.config("spark.sql.warehouse.dir", unused.as_uri())
        builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
    builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension").config(
        "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    )
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise SetupError(f"Spark: did not start ({' '.join(str(error).split())[:300]})") from error
    if not _has_delta(spark):
        spark.stop()
        raise SetupError(
            "Delta's jars: not on Spark's class path; run `betr-spark jars` once, "
            f"or spark-submit with --packages {DELTA_PACKAGE}"
        )
    return spark


def prepare_local() -> None:
    """Set what Spark needs outside spark-submit: Java, the interpreter of Python workers, the local configuration."""
    if problem := java_problem():
        raise SetupError(problem)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = local_conf_dir()
    if conf is not None:
        os.environ.setdefault("SPARK_CONF_DIR", str(conf))


def _has_delta(spark: SparkSession) -> bool:
    jvm = spark._jvm  # noqa: SLF001
    assert jvm is not None
    try:
        jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(
            "io.delta.sql.DeltaSparkSessionExtension"
        )
    except Exception:  # noqa: BLE001 - py4j wraps ClassNotFoundException in classes of its own
        return False
    return True
