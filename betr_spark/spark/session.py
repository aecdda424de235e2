"""The only place that builds a Spark session. Master and memory sizes belong to spark-submit or spark-defaults.conf."""

import locale
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from betr_spark import redaction
from betr_spark.errors import SetupError
from betr_spark.spark.class_archive import classes_mapped
from betr_spark.spark.jvm import java_class
from betr_spark.spark.local import prepare_local, short_work
from betr_spark.spark.quiet import query_errors_raised_only, usual_lines_dropped

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
_EXTENSIONS, _DELTA_EXTENSION = "spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"
_CATALOG, _DELTA_CATALOG = "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
_UTF8_LOCALE = "C.UTF-8"


def build_session(app_name: str = "betr-spark") -> SparkSession:
    """Start Spark with Delta, or take the session that spark-submit or the calling program prepared, which is not stopped.

    Delta's extension is added to the extensions that are configured, and Delta's catalog is set where no other is
    configured. Outside spark-submit, the settings of `local_conf_dir` apply unless SPARK_CONF_DIR is set, and Python workers
    are this interpreter unless PYSPARK_PYTHON is set.

    Raises:
        SetupError: no Java, an old Java, Spark without Delta, or a JVM whose file names are not UTF-8.
    """
    builder = SparkSession.builder
    has_context = SparkContext._active_spark_context is not None  # noqa: SLF001 - of another thread, too
    if not has_context:
        builder = builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ and not has_context:  # not under spark-submit
        prepare_local()
        unused = Path(
            tempfile.gettempdir()
        )  # Spark creates the folder: this one exists, its default is in the working directory
        builder = builder.config("spark.sql.warehouse.dir", unused.as_uri())
        builder = builder.config("spark.ui.showConsoleProgress", "false")  # the command line has its own display
    running = SparkSession.getActiveSession()
    try:
        encoding = _start_jvm()
        if not has_context:  # a program that has a session keeps its own streams and loggers
            _keep_off_stdout()
            query_errors_raised_only()
        for key, value in _delta_settings(running).items():
            builder = builder.config(key, value)
        spark = builder.getOrCreate()
    except Exception as error:
        raise SetupError(f"Spark: did not start ({' '.join(str(error).split())[:300]})") from error
    redaction.remember(_secrets(spark))
    if problem := _encoding_problem(encoding) or _delta_problem(spark):
        if not has_context:
            spark.stop()
        raise SetupError(problem)
    return spark


@contextmanager
def jvm_starting(*, is_short: bool = False) -> Iterator[None]:
    """Start the JVM while the block runs, which imports modules; what goes wrong is raised by `build_session`.

    Args:
        is_short: the command reads narrow tables or small files only.
    """

    def start() -> None:
        with suppress(Exception):
            if "PYSPARK_GATEWAY_PORT" not in os.environ:
                prepare_local()
            with short_work() if is_short else nullcontext():
                _start_jvm()

    thread = threading.Thread(target=start, name="start of the JVM", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()  # what the block prints goes through a pipe until then


def _start_jvm() -> str:
    """Start the JVM, unless it runs, and return its encoding of file names."""
    with _utf8_locale(), classes_mapped(), usual_lines_dropped():
        return str(SparkContext.getSystemProperty("sun.jnu.encoding"))


def _keep_off_stdout() -> None:
    """Send what classes of the JVM print to stderr; a command's result is alone on stdout."""
    system = getattr(SparkContext._jvm, "java.lang.System")  # noqa: SLF001
    system.setOut(system.err)


@contextmanager
def _utf8_locale() -> Iterator[None]:
    """Start processes with a UTF-8 locale: a JVM takes the encoding of file names from it and skips other files."""
    before = os.environ.get("LC_ALL")
    if not _is_utf8(locale.getencoding()):
        os.environ["LC_ALL"] = _UTF8_LOCALE
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("LC_ALL", None)
        else:
            os.environ["LC_ALL"] = before


def _encoding_problem(encoding: str) -> str | None:
    if _is_utf8(encoding):
        return None
    return (
        f"Java: the driver's encoding of file names (sun.jnu.encoding) is {encoding}; UTF-8 is required, because files whose "
        f"names have other characters are skipped; set LC_ALL={_UTF8_LOCALE} for spark-submit (in YARN's cluster mode: --conf "
        f"spark.yarn.appMasterEnv.LC_ALL={_UTF8_LOCALE})"
    )


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "") == "utf8"


def _delta_settings(running: SparkSession | None) -> dict[str, str]:
    """Settings that add Delta to what spark-submit, spark-defaults.conf or a running session or context configure."""
    context = SparkContext._active_spark_context  # noqa: SLF001
    conf = running.conf if running is not None else context.getConf() if context is not None else SparkConf()
    extensions = _names(conf.get(_EXTENSIONS, ""))
    settings = {}
    if _DELTA_EXTENSION not in extensions:
        settings[_EXTENSIONS] = ",".join([*extensions, _DELTA_EXTENSION])
    if conf.get(_CATALOG, "") in ("", "builtin"):  # Spark's name for its own catalog
        settings[_CATALOG] = _DELTA_CATALOG
    return settings


def _secrets(spark: SparkSession) -> list[str]:
    """Values of settings that are credentials, to keep them out of messages."""
    hadoop = spark.sparkContext._jsc.hadoopConfiguration().getValByRegex("^fs\\.")  # noqa: SLF001
    settings = [*dict(hadoop).items(), *spark.sparkContext.getConf().getAll()]
    return [value for name, value in settings if redaction.is_secret_setting(name)]


def _names(value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def _delta_problem(spark: SparkSession) -> str | None:
    if not _has_delta(spark):
        return (
            "Delta's jars: not on Spark's class path; run `betr-spark jars` once, "
            f"or spark-submit with --packages {DELTA_PACKAGE}"
        )
    extensions = spark.conf.get(_EXTENSIONS, "")
    if _DELTA_EXTENSION not in _names(extensions):  # a session that was running already takes no more extensions
        return (
            f"Spark: the running session has {_EXTENSIONS}={extensions}; Delta's is required: start the session with "
            f"--conf {_EXTENSIONS}={','.join([*_names(extensions), _DELTA_EXTENSION])}"
        )
    return None


def _has_delta(spark: SparkSession) -> bool:
    try:
        java_class(spark, "java.lang.Thread").currentThread().getContextClassLoader().loadClass(_DELTA_EXTENSION)
    except Exception:  # noqa: BLE001 - py4j wraps ClassNotFoundException in classes of its own
        return False
    return True
