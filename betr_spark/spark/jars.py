"""Fetch jars once: Delta's into the folder of Spark's own, those of the S3A client into any folder."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from betr_spark.errors import SetupError
from betr_spark.spark.local import prepare_local
from betr_spark.spark.session import DELTA_PACKAGE

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


def fetch_jars() -> list[Path]:
    """Download Delta's jars into the `jars` folder of the installed pyspark, unless they are there.

    Returns:
        The jars of Delta in that folder.

    Raises:
        SetupError: no Java, or the download failed.
    """
    folder = _spark_home() / "jars"
    if not list(folder.glob("io.delta_delta-spark_*.jar")):
        _fetch(
            "Delta's jars",
            DELTA_PACKAGE,
            folder,
            is_needed=lambda name: name.startswith("io.delta_"),
            last="delta-spark",
        )
    return sorted(folder.glob("io.delta_*.jar"))


def fetch_s3_jars(folder: Path) -> list[Path]:
    """Download the S3A client of Spark's Hadoop version, and the AWS SDK (700 MB), into a folder, unless they are there.

    Returns:
        The jars in that folder.

    Raises:
        SetupError: no Java, or the download failed.
    """
    if not list(folder.glob("*_hadoop-aws-*.jar")):
        (hadoop,) = (_spark_home() / "jars").glob("hadoop-client-api-*.jar")
        package = f"org.apache.hadoop:hadoop-aws:{hadoop.stem.rpartition('-')[2]}"
        folder.mkdir(parents=True, exist_ok=True)
        _fetch("The jars of S3A", package, folder, is_needed=lambda _: True, last="hadoop-aws")
    return sorted(folder.glob("*.jar"))


def _spark_home() -> Path:
    import pyspark  # noqa: PLC0415

    return Path(pyspark.__file__).parent


def _fetch(what: str, package: str, folder: Path, *, is_needed: Callable[[str], bool], last: str) -> None:
    """Download a package and its dependencies; the jar `last` comes last: where it is, the others are."""
    prepare_local()
    with tempfile.TemporaryDirectory(prefix="betr-spark-ivy-") as ivy:
        # Another user.home, because Ivy also reads ~/.m2 and fails where that has poms without their jars.
        settings = {
            "spark.jars.packages": package,
            "spark.jars.excludes": ",".join(_ALREADY_IN_SPARK.split()),
            "spark.jars.ivy": ivy,
            "spark.driver.extraJavaOptions": f"-Duser.home={ivy}",
        }
        arguments = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
        probe = Path(ivy) / "probe.py"
        probe.write_text("", encoding="utf-8")
        submit = [str(_spark_home() / "bin/spark-submit"), *arguments, str(probe)]
        done = subprocess.run(submit, capture_output=True, text=True, check=False)  # noqa: S603
        downloaded = [jar for jar in (Path(ivy) / "jars").glob("*.jar") if is_needed(jar.name)]
        if done.returncode or not downloaded:
            lines = [line.strip() for line in done.stderr.splitlines() if "rror" in line or "xception" in line]
            raise SetupError(f"{what}: could not be fetched ({(lines or ['no message'])[0][:300]})")
        for jar in sorted(downloaded, key=lambda jar: last in jar.name):
            shutil.copyfile(jar, folder / f"{jar.name}.part")
            (folder / f"{jar.name}.part").rename(folder / jar.name)
