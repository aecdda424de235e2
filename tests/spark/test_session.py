"""What the session takes from the cluster and the environment: extensions, catalog, encoding of file names."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest

from betr_spark.errors import SetupError
from betr_spark.spark import session

SPARK_HOME = Path(pyspark.__file__).parent
DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
EXTENSION = """
import org.apache.spark.sql.SparkSessionExtensions;
import scala.Function1;
import scala.runtime.BoxedUnit;

public class ClusterExtension implements Function1<SparkSessionExtensions, BoxedUnit> {
    public BoxedUnit apply(SparkSessionExtensions extensions) {
        System.setProperty("cluster.extension", "applied");
        return BoxedUnit.UNIT;
    }
}
"""
PROGRAM = """
import json, os, sys
from betr_spark.spark.session import build_session

spark = build_session()
folder, table = sys.argv[1:]
spark.range(1).write.format("delta").save(table)
spark.sql(f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES ('a' = 'b')")  # needs Delta's extension and catalog
print(json.dumps({
    "ids": sorted(row["id"] for row in spark.read.parquet(folder).collect()),
    "versions": spark.sql(f"DESCRIBE HISTORY delta.`{table}`").count(),
    "extensions": spark.conf.get("spark.sql.extensions"),
    "applied": spark._jvm.java.lang.System.getProperty("cluster.extension"),
    "LC_ALL": os.environ.get("LC_ALL"),
}))
spark.stop()
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Start a session with LC_ALL=C on a cluster that configures an extension; return what the program prints."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "docs").mkdir()
    for name in ("plain", "größe", "漢字"):
        pq.write_table(pa.table({"id": [name]}), folder / f"docs/{name}.parquet")
    (folder / "ClusterExtension.java").write_text(EXTENSION, encoding="utf-8")
    java_home = os.environ.get("JAVA_HOME")
    javac = shutil.which("javac", path=f"{java_home}/bin" if java_home else None)
    assert javac, "a JDK is required"
    subprocess.run([javac, "-cp", f"{SPARK_HOME}/jars/*", "ClusterExtension.java"], cwd=folder, check=True)
    submitted = f"--driver-class-path {folder} --conf spark.sql.extensions=ClusterExtension pyspark-shell"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder / "docs", folder / "table"], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C", "PYSPARK_SUBMIT_ARGS": submitted}, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_cluster_s_extensions_stay(reported: dict[str, Any]) -> None:
    assert reported["extensions"] == f"ClusterExtension,{DELTA_EXTENSION}"
    assert reported["applied"] == "applied"
    assert reported["versions"] == 2


def test_file_names_are_utf8_whatever_the_locale_is(reported: dict[str, Any]) -> None:
    assert reported["ids"] == ["größe", "plain", "漢字"]
    assert reported["LC_ALL"] == "C"  # the JVM's environment alone has another


def test_spark_submit_with_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text("input: {path: docs}\noutput: out\nscorers: {}\n")
    (tmp_path / "job.py").write_text("import sys\nfrom betr_spark.cli import main\nmain(sys.argv[1:])\n")
    arguments = [tmp_path / "job.py", "report", "--config", tmp_path / "conf.yaml"]
    done = subprocess.run(
        [SPARK_HOME / "bin/spark-submit", "--master", "local[1]", *arguments], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C", "PYSPARK_PYTHON": sys.executable, "SPARK_CONF_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "encoding of file names (sun.jnu.encoding) is ANSI_X3.4-1968; UTF-8 is required" in errors[0]
    assert "set LC_ALL=C.UTF-8 for spark-submit" in errors[0]
    assert "Traceback" not in done.stdout


def test_a_catalog_that_is_configured_stays() -> None:
    def of(**values: str) -> dict[str, str]:
        running = type("Session", (), {"conf": {f"spark.sql.{name}": value for name, value in values.items()}})()
        return session._delta_settings(running)

    ours = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    name = "catalog.spark_catalog"
    assert of() == {"spark.sql.extensions": DELTA_EXTENSION, f"spark.sql.{name}": ours}
    assert of(**{name: "builtin"})[f"spark.sql.{name}"] == ours
    assert of(**{name: "org.example.Catalog", "extensions": f" org.example.A , {DELTA_EXTENSION}"}) == {}
    assert of(**{name: ours, "extensions": "org.example.A,"}) == {
        "spark.sql.extensions": f"org.example.A,{DELTA_EXTENSION}"
    }


def test_missing_jars_are_said(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_has_delta", lambda _: False)
    with pytest.raises(SetupError, match="Delta's jars: not on Spark's class path; run `betr-spark jars` once"):
        session.build_session()
    assert spark.range(1).count() == 1  # a session that was running is not stopped


def test_a_running_session_without_delta_s_extension_is_refused(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_DELTA_EXTENSION", "org.example.Missing")
    monkeypatch.setattr(session, "_has_delta", lambda _: True)
    start = f"start the session with --conf spark.sql.extensions={DELTA_EXTENSION},org.example.Missing"
    with pytest.raises(SetupError, match=start):
        session.build_session()


def test_spark_creates_no_folder_with_a_fixed_name_among_those_of_all_users(spark: Any) -> None:
    """Of a name that all know, another user may make a file first; then no session starts."""
    assert urlparse(spark.conf.get("spark.sql.warehouse.dir")).path.rstrip("/") == tempfile.gettempdir()
