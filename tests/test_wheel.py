"""The wheel alone, without the checkout: ten documents through every stage."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import SMALL, write_config
from deltalake import DeltaTable

REPOSITORY = Path(__file__).parents[1]


def test_a_wheel_in_an_empty_folder_runs_ten_documents(tmp_path: Path) -> None:
    build = ["wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([sys.executable, "-m", "pip", *build, str(tmp_path), str(REPOSITORY)], check=True)
    (wheel,) = tmp_path.glob("betr_spark-*.whl")
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--target"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(tmp_path / "installed"), str(wheel)], check=True)
    texts = [f"document {n} about {n * n} rivers and {n} bridges over them" for n in range(10)]
    pq.write_table(pa.table({"id": [f"d{n}" for n in range(10)], "text": texts}), tmp_path / "docs.parquet")
    values = {
        "input": {"path": str(tmp_path / "docs.parquet"), "id": "id"},
        "output": str(tmp_path / "out"),
        "scorers": {},
        "selections": {"half": {"scorer": "random", "keep": {"documents": 5}}},
    }
    config = write_config(tmp_path / "conf.yaml", values)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPARK_CONF_DIR", "VIRTUAL_ENV")}
    environment["PYTHONPATH"] = str(tmp_path / "installed")
    environment["PYSPARK_SUBMIT_ARGS"] = " ".join([*(f"--conf {k}={v}" for k, v in SMALL.items()), "pyspark-shell"])
    check = "import betr_spark, sys; sys.exit(not betr_spark.__file__.startswith(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", check, str(tmp_path / "installed")], check=True, env=environment, cwd=tmp_path
    )
    command = [sys.executable, "-m", "betr_spark", "run", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = DeltaTable(str(tmp_path / "out/selected/half")).to_pyarrow_table().to_pylist()
    assert sorted(row["rank"] for row in rows) == [1, 2, 3, 4, 5]
    assert all(row["text"] == texts[int(row["doc_id"][1:])] for row in rows)
