"""The wheel without the checkout and without the extras: ten documents through every stage, and what is said of a missing extra."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SMALL, write_config
from deltalake import DeltaTable
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
TEXTS = [f"document {n} about {n * n} rivers and {n} bridges over them" for n in range(10)]
EXTRAS = [
    "torch",
    "transformers",
    "sentence_transformers",
    "huggingface_hub",
    "tokenizers",
    "fasttext",
    "flask",
    "faiss",
]
IMPORT_AN_EXTRA = [
    "betr_spark.__main__",
    "betr_spark.evaluate.transformer",
    *(f"betr_spark.look.{name}" for name in ("security", "server", "site")),
]
IMPORT_ALL = f"""
import importlib, importlib.util, pkgutil, sys, betr_spark
assert betr_spark.__file__.startswith(sys.prefix)
assert not [name for name in {EXTRAS} if importlib.util.find_spec(name)]
for module in pkgutil.walk_packages(betr_spark.__path__, "betr_spark."):
    if module.name not in {IMPORT_AN_EXTRA}:
        importlib.import_module(module.name)
"""


def dependencies(requirements: list[str], known: set[str]) -> Iterator[str]:
    """Names of the packages that the requirements need, with theirs, as installed here; each once."""
    for requirement in map(Requirement, requirements):
        extras = requirement.extras or {""}
        name = canonicalize_name(requirement.name)
        if name in known or not any(not r or r.evaluate({"extra": e}) for r in [requirement.marker] for e in extras):
            continue
        known.add(name)
        yield name
        yield from dependencies(distribution(name).requires or [], known)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its dependencies, links to the files installed here, and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    build = ["wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([sys.executable, "-m", "pip", *build, str(folder), str(REPOSITORY)], check=True)
    (wheel,) = folder.glob("betr_spark-*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--target"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(packages), str(wheel)], check=True)
    (metadata,) = packages.glob("betr_spark-*.dist-info/METADATA")
    requires = [
        line.split(": ", 1)[1] for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ")
    ]
    here = Path(sysconfig.get_path("purelib"))
    for name in dependencies(requires, set()):
        for top in {file.parts[0] for file in distribution(name).files or () if file.parts[0] != ".."}:
            if top != "__pycache__":
                (packages / top).symlink_to(here / top)
    return folder / "env/bin/python"


def betr_spark(python: Path | str, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPARK_CONF_DIR", "VIRTUAL_ENV")}
    environment["PYSPARK_SUBMIT_ARGS"] = " ".join([*(f"--conf {k}={v}" for k, v in SMALL.items()), "pyspark-shell"])
    environment |= more
    command = [str(python), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"id": [f"d{n}" for n in range(10)], "text": TEXTS}), tmp_path / "docs.parquet")
    values = {
        "input": {"path": str(tmp_path / "docs.parquet"), "id": "id"},
        "output": str(tmp_path / "out"),
        "scorers": {},
        "selections": {"half": {"scorer": "random", "keep": {"documents": 5}}},
    }
    return write_config(tmp_path / "conf.yaml", values)


def test_every_module_is_imported_without_the_extras(base: Path, tmp_path: Path) -> None:
    done = betr_spark(base, tmp_path, "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr[-2000:]


def test_look_has_its_templates_and_tells_of_a_missing_extra(base: Path, config: Path, tmp_path: Path) -> None:
    code = "from importlib.resources import files; print(*sorted(f.name for f in files('betr_spark.look').joinpath('templates').iterdir()))"
    done = betr_spark(base, tmp_path, "-c", code)
    here = sorted(path.name for path in (REPOSITORY / "betr_spark/look/templates").iterdir())
    assert done.stdout.split() == here
    assert "style.css" in here
    done = betr_spark(base, tmp_path, "-m", "betr_spark", "look", "--config", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: look: flask is not installed; install betr-spark[look]\n"


def test_a_wheel_in_an_empty_folder_runs_ten_documents(base: Path, config: Path, tmp_path: Path) -> None:
    done = betr_spark(base, tmp_path, "-m", "betr_spark", "run", "--config", str(config))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = DeltaTable(str(tmp_path / "out/selected/half")).to_pyarrow_table().to_pylist()
    assert sorted(row["rank"] for row in rows) == [1, 2, 3, 4, 5]
    assert all(row["text"] == TEXTS[int(row["doc_id"][1:])] for row in rows)
    done = betr_spark(base, tmp_path, "-m", "betr_spark", "report", "--config", str(config))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "<svg" in (tmp_path / "out/report.html").read_text(encoding="utf-8")  # templates and style are in the wheel


def test_a_missing_extra_is_one_line_before_any_work(base: Path, config: Path, targets: Path, tmp_path: Path) -> None:
    target = {"path": str(targets / "cooking.jsonl"), "template": "{question}\n{answer}"}
    scorers = "{betr: {}, dclm: {kind: classifier}, ratio: {kind: dsir}}"
    sets = [part for value in (f"targets={{cooking: {target}}}", f"scorers={scorers}") for part in ("--set", value)]
    done = betr_spark(base, tmp_path, "-m", "betr_spark", "run", "--config", str(config), *sets)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "[warning]" not in line] == [  # of the tests' options for Java
        "error: rank: sentence-transformers is not installed; install betr-spark[rank]",
        "error: scorers.dclm: fasttext is not installed; install betr-spark[fasttext]",
    ]
    assert not (tmp_path / "out/_sample").exists()


def test_executors_without_the_encoder_are_one_line(
    base: Path, config: Path, targets: Path, encoder: Path, tmp_path: Path
) -> None:
    target = {"path": str(targets / "cooking.jsonl"), "template": "{question}\n{answer}"}
    values = (f"targets={{cooking: {target}}}", "scorers={betr: {}}", f"encoder.model={encoder}")
    sets = [part for value in values for part in ("--set", value)]
    arguments = ("-m", "betr_spark", "rank", "--config", str(config), *sets)
    done = betr_spark(sys.executable, tmp_path, *arguments, PYSPARK_PYTHON=str(base))
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.splitlines()[-1] == (
        f"error: rank: {base}: sentence-transformers is not installed; install betr-spark[rank]"
    )
