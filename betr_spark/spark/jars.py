"""Fetch Delta's jars once, into the folder of Spark's own."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from betr_spark.errors import SetupError
from betr_spark.spark.session import DELTA_PACKAGE, prepare_local

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
    import pyspark  # noqa: PLC0415

    folder = Path(pyspark.__file__).parent / "jars"
    if not list(folder.glob("io.delta_delta-spark_*.jar")):
        prepare_local()
        with tempfile.TemporaryDirectory(prefix="betr-spark-ivy-") as ivy:
            # Another user.home, because Ivy also reads ~/.m2 and fails where that has poms without their jars.
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
            downloaded = sorted((Path(ivy) / "jars").glob("io.delta_*.jar"))
            if done.returncode or not downloaded:
                lines = [line.strip() for line in done.stderr.splitlines() if "rror" in line or "xception" in line]
                raise SetupError(f"Delta's jars: could not be fetched ({(lines or ['no message'])[0][:300]})")
            # delta-spark last: where it is, the others are.
            for jar in sorted(downloaded, key=lambda jar: "delta-spark" in jar.name):
                shutil.copyfile(jar, folder / f"{jar.name}.part")
                (folder / f"{jar.name}.part").rename(folder / jar.name)
    return sorted(folder.glob("io.delta_*.jar"))
