"""Every block of code of the README and the tutorials, run in the order of the pages, in a folder that has what a user's has.

The samples are smaller than on the pages, and so is the demo's corpus: embedding is most of the time.
"""

import ast
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from page_blocks import assert_printed, blocks_of, purpose_of

REPOSITORY = Path(__file__).parents[1]
PAGES = ["docs/tutorials/install.md", "docs/tutorials/demo.md", "docs/tutorials/own-documents.md", "README.md"]
SAMPLE = "sample: {documents: 1500}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout after `make setup`, with a small demo, and the files that the README's configuration names."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf")
    demo = tmp_path / "conf/demo.yaml"
    text = demo.read_text(encoding="utf-8")
    assert SAMPLE in text
    demo.write_text(text.replace(SAMPLE, "sample: {documents: 200}"), encoding="utf-8")
    commands = tmp_path / ".venv/bin"
    commands.mkdir(parents=True)
    for name, arguments in (("python", ""), ("betr-spark", "-m betr_spark ")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n', encoding="utf-8")
        (commands / name).chmod(0o755)
    (tmp_path / ".venv/.done").touch()
    write_readme_files(tmp_path)
    return tmp_path


def write_readme_files(folder: Path) -> None:
    for name, file in (("arrays", "gsm8k.train.jsonl"), ("statistics", "qasc.train.parquet")):
        lines = (REPOSITORY / f"conf/demo/{name}.jsonl").read_text(encoding="utf-8").splitlines()[:20]
        if file.endswith(".jsonl"):
            (folder / file).write_text("\n".join(lines), encoding="utf-8")
        else:
            pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines]), folder / file)
    (folder / "lake/docs").mkdir(parents=True)
    for package in (np, pyspark):
        rows = list(itertools.islice(docstrings(package), 150))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"lake/docs/{package.__name__}.parquet")


def docstrings(package: ModuleType) -> Iterator[dict[str, str]]:
    """Docstrings of a package's functions as documents: real text, a part of which is like the examples."""
    root = Path(package.__file__ or "").parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if text and 200 < len(text) < 600:
                name = f"{package.__name__}/{path.relative_to(root)}:{node.lineno}"
                yield {"id": name, "text": text, "domain": package.__name__, "url": name}


@pytest.mark.whole
def test_every_block_runs(folder: Path, small_spark: dict[str, str]) -> None:
    for page in PAGES:
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        (folder / page).write_text(
            text.replace("sample: {documents: 1000}", "sample: {documents: 300}"), encoding="utf-8"
        )
    environment = {
        **small_spark,
        "DEMO_DOCUMENTS": "500",
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{folder / '.venv/bin'}:{small_spark['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests/page_blocks.py"), *PAGES],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-6000:]
    counts = Counter(json.loads(done.stdout.splitlines()[-1]))
    print(f"{counts['run']} blocks of {len(PAGES)} pages were run, {counts['compared']} outputs compared")
    assert counts == Counter(
        purpose_of(page, block)
        for page in PAGES
        for block in blocks_of((REPOSITORY / page).read_text(encoding="utf-8"))
    )
    assert counts["run"] > 20 > counts["shown"]


def test_an_output_that_is_not_printed_fails() -> None:
    printed = "stage   rows\nfeatures  1,024 in 3.5 s\ndedup 7\n"
    assert_printed("stage  rows\nfeatures 900 in 12 s", printed)
    assert_printed("stage  rows\n...\ndedup 9", printed)
    for wrong in ("features 1 in 2 h", "dedup 1\nstage rows"):
        with pytest.raises(AssertionError, match="not printed"):
            assert_printed(wrong, printed)


def test_blocks_are_found_with_their_kinds() -> None:
    page = 'Text\n\n    make demo  # x\n    ls\n\n```yaml title="a.yaml"\ninput: 1\n```\n<!-- output -->\n```text\n1\n```\n'
    assert [(block.kind, block.text, block.title, block.line) for block in blocks_of(page)] == [
        ("bash", "make demo  # x\nls", "", 3),
        ("yaml", "input: 1", "a.yaml", 6),
        ("output", "1", "", 10),
    ]
