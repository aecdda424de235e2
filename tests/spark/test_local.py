"""What a JVM is started with outside spark-submit."""

import os
from pathlib import Path

import pytest

from betr_spark.spark.local import is_small, local_conf_dir, short_work

JAVA_OPTIONS = ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS")


@pytest.fixture
def _no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in JAVA_OPTIONS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(local_conf_dir()))


@pytest.mark.usefixtures("_no_options")
def test_short_work_has_one_compiler_and_the_options_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_work():
        assert os.environ["SPARK_SUBMIT_OPTS"] == (
            "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:InitialRAMPercentage=6 -XX:MetaspaceSize=256m "
            "-XX:+UseParallelGC"
        )
    assert "SPARK_SUBMIT_OPTS" not in os.environ
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Dmine=1")
    with short_work():
        assert os.environ["SPARK_SUBMIT_OPTS"].endswith("-XX:+UseParallelGC -Dmine=1")
    assert os.environ["SPARK_SUBMIT_OPTS"] == "-Dmine=1"


@pytest.mark.usefixtures("_no_options")
@pytest.mark.parametrize("name", JAVA_OPTIONS)
def test_short_work_leaves_a_collector_that_the_user_chose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "--driver-java-options -XX:+UseZGC")
    with short_work():
        assert "UseParallelGC" not in os.environ["SPARK_SUBMIT_OPTS"]
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("SPARK_CONF_DIR", "/etc/spark/conf")  # its spark-defaults.conf may choose one
    with short_work():
        assert "UseParallelGC" not in os.environ["SPARK_SUBMIT_OPTS"]


def test_small_files_of_this_machine_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b/part=1"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_bytes(b"x" * 100)
    for path in (tmp_path, folder, folder / "x.jsonl", tmp_path / "*/*/*.jsonl"):
        assert is_small(str(path))
    assert is_small((tmp_path / "a b").as_uri())
    for other in (str(tmp_path / "none"), str(tmp_path / "*.json"), "s3a://bucket/docs", "hdfs:///docs"):
        assert not is_small(other)
    monkeypatch.setattr("betr_spark.spark.local._FEW_BYTES", 99)
    assert not is_small(str(tmp_path))
