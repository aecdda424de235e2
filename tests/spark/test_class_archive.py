"""Spark's classes come from the file that `betr-spark jars` writes, and the configuration is read as without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from betr_spark.errors import SetupError
from betr_spark.spark import class_archive

PROGRAM = """
import json, os
from betr_spark.spark.session import build_session

spark = build_session()
print(json.dumps({
    "defaults": spark.conf.get("spark.sql.session.timeZone"),
    "log4j": spark._jvm.org.apache.logging.log4j.LogManager.getLogger("org.apache.spark.executor").getLevel().toString(),
    "site": spark.sparkContext._jsc.hadoopConfiguration().get("a.site"),
    "SPARK_CONF_DIR": os.environ["SPARK_CONF_DIR"],
    "PYSPARK_SUBMIT_ARGS": os.environ["PYSPARK_SUBMIT_ARGS"],
    "SPARK_SUBMIT_OPTS": os.environ.get("SPARK_SUBMIT_OPTS"),
}))
spark.stop()
"""


def started(environment: dict[str, str], log: Path) -> tuple[dict[str, Any], int, str]:
    """Start Spark; return what the program prints, how many classes came from the file, and stderr."""
    java = f"{environment.get('JDK_JAVA_OPTIONS', '')} -Xlog:class+load:file={log}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**environment, "JDK_JAVA_OPTIONS": java, "PYSPARK_SUBMIT_ARGS": "pyspark-shell"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = log.read_text(encoding="utf-8").splitlines()
    return (
        json.loads(done.stdout.splitlines()[-1]),
        sum("shared objects file (top)" in line for line in lines),
        done.stderr,
    )


def test_classes_come_from_the_file_and_the_configuration_stays(small_spark: dict[str, str], tmp_path: Path) -> None:
    assert class_archive.archive_file().exists(), "`betr-spark jars` writes it"
    printed, shared, stderr = started(small_spark, tmp_path / "classes.log")
    assert shared > 5000
    assert "cds" not in stderr
    assert (printed["defaults"], printed["log4j"]) == ("UTC", "OFF")
    assert printed["SPARK_CONF_DIR"] == small_spark["SPARK_CONF_DIR"]
    assert (printed["PYSPARK_SUBMIT_ARGS"], printed["SPARK_SUBMIT_OPTS"]) == ("pyspark-shell", None)


def test_other_files_of_the_configuration_are_found_on_the_class_path(
    small_spark: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    for file in Path(small_spark["SPARK_CONF_DIR"]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    site = "<configuration><property><name>a.site</name><value>is read</value></property></configuration>"
    (folder / "core-site.xml").write_text(site, encoding="utf-8")
    printed, shared, stderr = started({**small_spark, "SPARK_CONF_DIR": str(folder)}, tmp_path / "classes.log")
    assert (printed["site"], printed["defaults"], printed["log4j"]) == ("is read", "UTC", "OFF")
    assert shared == 0
    assert "cds" not in stderr


def test_variables_are_set_for_the_start_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "a folder", tmp_path / "classes.jsa"
    folder.mkdir()
    (folder / "spark-defaults.conf").touch()
    (folder / "log4j2.properties").touch()
    monkeypatch.setattr(class_archive, "archive_file", lambda: file)
    monkeypatch.setenv("SPARK_CONF_DIR", str(folder))
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--driver-memory 1g pyspark-shell")
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Dmine=1")
    before = dict(os.environ)
    with class_archive.classes_mapped():
        assert dict(os.environ) == before  # no file
    file.touch()
    with class_archive.classes_mapped():
        assert "SPARK_CONF_DIR" not in os.environ
        expected = f"--properties-file '{folder}/spark-defaults.conf' --driver-memory 1g pyspark-shell"
        assert os.environ["PYSPARK_SUBMIT_ARGS"] == expected
        options = os.environ["SPARK_SUBMIT_OPTS"]
        assert options.startswith(f'-XX:SharedArchiveFile="{file}"')
        assert options.endswith("/a%20folder/log4j2.properties -Dmine=1")
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Dlog4j2.configurationFile=mine.properties")
    with class_archive.classes_mapped():
        assert "log4j2" not in os.environ["SPARK_SUBMIT_OPTS"]
    monkeypatch.setenv("JDK_JAVA_OPTIONS", before["JDK_JAVA_OPTIONS"])
    assert dict(os.environ) == before


@pytest.mark.parametrize("error", [SetupError("Java: no"), OSError("disk full")])
def test_a_file_that_cannot_be_written_is_a_warning(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start() -> Any:
        raise error

    (tmp_path / "classes.jsa").write_text("of an earlier version")
    monkeypatch.setattr(class_archive, "archive_file", lambda: tmp_path / "classes.jsa")
    monkeypatch.setattr(class_archive, "_end_jvm", lambda: None)  # it is that of the other tests
    assert class_archive.write(start, lambda _: None) is None
    (line,) = caplog.messages
    assert str(error) in line
    assert not class_archive._writing
    assert [file.name for file in tmp_path.iterdir()] == ["classes.jsa"]


@pytest.mark.slow
def test_a_file_is_written_when_the_jvm_ends(tmp_path: Path) -> None:
    file = tmp_path / "classes.jsa"
    program = f"""
from pathlib import Path
from betr_spark.spark import class_archive
from betr_spark.spark.session import build_session

class_archive.archive_file = lambda: Path({str(file)!r})
print(class_archive.write(build_session, lambda spark: spark.range(3).count()))
print(build_session().range(4).count())
"""
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_CONF_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.stdout.split() == [str(file), "4"], done.stderr
    assert file.stat().st_size > 10**7
    assert [path.name for path in tmp_path.iterdir()] == ["classes.jsa"]
