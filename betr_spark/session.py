"""The only place that builds a Spark session. No master and no memory sizes here: spark-submit or spark-defaults.conf."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

from betr_spark.errors import SetupError

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
LEAST_JAVA = 17
_ALREADY_IN_SPARK = (
    "org.apache.hadoop:hadoop-client-api org.apache.hadoop:hadoop-client-runtime org.apache.logging.log4j:log4j-api "
    "org.apache.logging.log4j:log4j-core org.apache.logging.log4j:log4j-slf4j2-impl org.slf4j:slf4j-api "
    "org.apache.parquet:parquet-hadoop org.apache.parquet:parquet-column org.apache.parquet:parquet-common "
    "com.fasterxml.jackson.core:jackson-databind com.fasterxml.jackson.core:jackson-core "
    "com.fasterxml.jackson.core:jackson-annotations com.fasterxml.jackson.datatype:jackson-datatype-jdk8 "
    "org.roaringbitmap:RoaringBitmap com.github.luben:zstd-jni org.locationtech.jts:jts-core "
    "io.unitycatalog:unitycatalog-client io.unitycatalog:unitycatalog-hadoop commons-logging:commons-logging "
    "org.apache.commons:commons-pool2 com.google.code.findbugs:jsr305"
)


def local_conf_dir() -> Path | None:
    """Folder of the spark-defaults.conf for local mode: the checkout's conf/local, or the copy inside the package."""
    package = Path(__file__).parent
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
        _prepare_local()
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


def fetch_jars() -> list[Path]:
    """Put Delta's jars beside Spark's own, in the `jars` folder of the installed pyspark. Nothing is fetched twice.

    Returns:
        The jars of Delta in that folder.
    """
    import pyspark  # noqa: PLC0415

    folder = Path(pyspark.__file__).parent / "jars"
    if not (present := sorted(folder.glob("io.delta_*.jar"))):
        _prepare_local()
        with tempfile.TemporaryDirectory(prefix="betr-spark-ivy-") as ivy:
            # Another user.home: Ivy also looks at ~/.m2, and fails where that holds poms without their jars.
            settings = {
                "spark.jars.packages": DELTA_PACKAGE,
                "spark.jars.excludes": ",".join(_ALREADY_IN_SPARK.split()),
                "spark.jars.ivy": ivy,
                "spark.driver.extraJavaOptions": f"-Duser.home={ivy}",
            }
            arguments = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
            submit = [str(Path(pyspark.__file__).parent / "bin/spark-submit"), *arguments]
            probe = Path(ivy) / "probe.py"
            probe.write_text("", encoding="utf-8")
            done = subprocess.run([*submit, str(probe)], capture_output=True, text=True, check=False)  # noqa: S603
            found = sorted((Path(ivy) / "jars").glob("io.delta_*.jar"))
            if done.returncode or not found:
                lines = [line.strip() for line in done.stderr.splitlines() if "rror" in line or "xception" in line]
                raise SetupError(f"Delta's jars: could not be fetched ({(lines or ['no message'])[0][:300]})")
            for jar in sorted(
                found, key=lambda jar: "delta-spark" in jar.name
            ):  # the one that is looked for comes last
                shutil.copyfile(jar, folder / f"{jar.name}.part")
                (folder / f"{jar.name}.part").rename(folder / jar.name)
        present = sorted(folder.glob("io.delta_*.jar"))
    return present


def spark_error_line(error: BaseException) -> str | None:
    """Return one line for a failure that the user can mend (an unreadable file, a full disk), None for any other."""
    text = str(error)
    if "No space left on device" in text:
        return (
            "a disk is full (No space left on device): the output's, or that of temporary files, here "
            f"{tempfile.gettempdir()} (TMPDIR, and for Spark's own spark.local.dir, name another)"
        )
    if re.search(r"DELTA_CONCURRENT|DELTA_PROTOCOL_CHANGED|DELTA_METADATA_CHANGED|DELTA_DUPLICATE_.*TRANSACTION", text):
        return "output: another run wrote to the same tables meanwhile; run again when it has ended (nothing is lost)"
    if raised := re.search(r"\[USER_RAISED_EXCEPTION\] ([^\n]*?)(?: SQLSTATE|\n|$)", text):
        return raised[1]
    if raised := re.search(r"^betr_spark\.errors\.\w+Error: ([^\n]+)", text, re.MULTILINE):  # of a Python worker
        return raised[1]
    if not re.search(
        r"PATH_NOT_FOUND|FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|is not a Parquet file|Could not read footer|CANNOT_MERGE|"
        r"DELTA_READ_TABLE|FILE_NOT_EXIST|CANNOT_READ_FILE|MALFORMED|not a gzip file|ZipException|ZstdIOException",
        text,
    ):
        return None
    about = (
        text[text.rfind("Caused by:", 0, text.find("is not a Parquet file")) :] if "is not a Parquet" in text else text
    )
    named = re.search(r"((?:file|s3a|hdfs|gs|abfss?):/[^\s'\",]+[^\s'\",.:;)\]])", about)
    reason = re.search(r"is not a Parquet file[^\n]{0,80}|\[[A-Z_.]+\][^\n]{0,160}", text)
    return (
        f"{named[1] if named else 'input'}: cannot be read ({' '.join((reason[0] if reason else text[:160]).split())})"
    )


def _prepare_local() -> None:
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
