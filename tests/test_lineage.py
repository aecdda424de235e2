"""OpenLineage's standard listener reports what a run reads and writes.

Needs the jar: BETR_SPARK_OPENLINEAGE_JAR names openlineage-spark_2.13-1.37.0.jar.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_config, write_parquet

JAR = os.environ.get("BETR_SPARK_OPENLINEAGE_JAR", "")


@pytest.mark.skipif(not JAR, reason="BETR_SPARK_OPENLINEAGE_JAR: not set; it names the jar of OpenLineage's listener")
def test_the_listener_tells_the_input_and_the_tables(tmp_path: Path, small_spark: dict[str, str]) -> None:
    write_parquet(tmp_path / "docs", [{"id": f"d{i}", "text": f"document {i} has some words"} for i in range(30)])
    values = {
        "input": {"path": str(tmp_path / "docs"), "id": "id"},
        "output": str(tmp_path / "out"),
        "scorers": {},
        "selections": {"all": {"scorer": "random", "keep": {"documents": 7}}},
    }
    config = write_config(tmp_path / "conf.yaml", values)
    with (Path(small_spark["SPARK_CONF_DIR"]) / "spark-defaults.conf").open("a", encoding="utf-8") as defaults:
        defaults.write(
            f"spark.jars {JAR}\nspark.extraListeners io.openlineage.spark.agent.OpenLineageSparkListener\n"
            f"spark.openlineage.transport.type file\nspark.openlineage.transport.location {tmp_path}/events.jsonl\n"
        )
    command = [sys.executable, "-m", "betr_spark", "run", "--config", str(config)]
    done = subprocess.run(command, env=small_spark, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    inputs = {dataset["name"] for event in events for dataset in event.get("inputs", [])}
    outputs = {dataset["name"] for event in events for dataset in event.get("outputs", [])}
    assert str(tmp_path / "docs") in inputs
    assert {str(tmp_path / "out" / name) for name in ("features", "duplicates", "selected/all")} <= outputs
