"""Build a corpus from the Python packages of this machine: docstrings and README texts, source = package.

It imports and downloads nothing: files are read as text and parsed with ast. Packages are read in the order of their names.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

MIN_CHARACTERS = 200
PARAGRAPHS_CHARACTERS = 1_500
MAX_FILE_BYTES = 150_000
MAX_PER_SOURCE = 500


class Document(NamedTuple):
    """One row of the corpus."""

    id: str
    text: str
    source: str
    path: str


def digest(name: str) -> bytes:
    """Hash a name, for an order that is the same on every machine and is not alphabetical."""
    return hashlib.sha256(name.encode()).digest()


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of a module, its classes and functions; nothing if the file does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) >= MIN_CHARACTERS:
                yield f"{getattr(node, 'name', 'module')}:{getattr(node, 'lineno', 1)}", text


def paragraphs(text: str) -> Iterator[str]:
    """Yield pieces of about 1,500 characters, cut at blank lines."""
    piece = ""
    for paragraph in text.split("\n\n"):
        piece = f"{piece}\n\n{paragraph}".strip()
        if len(piece) >= PARAGRAPHS_CHARACTERS:
            yield piece
            piece = ""
    if len(piece) >= MIN_CHARACTERS:
        yield piece


def module_documents(root: Path, source: str, files: list[Path]) -> Iterator[Document]:
    """Yield docstrings of a package's files in the order of a hash of their paths, at most 500."""
    count = 0
    for path in sorted(files, key=lambda path: digest(path.relative_to(root).as_posix())):
        if path.stat().st_size > MAX_FILE_BYTES:
            continue
        relative = path.relative_to(root).as_posix()
        for name, text in docstrings(path):
            yield Document(f"{relative}#{name}", text, source, relative)
            count += 1
            if count == MAX_PER_SOURCE:
                return


def corpus() -> Iterator[Document]:
    """Yield the standard library's documents, then those of every installed distribution by name."""
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idlelib"}
    files = [path for path in library.rglob("*.py") if not skipped & set(path.relative_to(library).parts)]
    yield from module_documents(library, "stdlib", files)
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.name.lower()):
        name = distribution.name.lower()
        for index, text in enumerate(paragraphs(distribution.metadata.get_payload() or "")):  # type: ignore[arg-type]
            yield Document(f"{name}/README#{index}", text, name, f"{name}/README")
        root = Path(str(distribution.locate_file("")))
        listed = [
            root / file for file in distribution.files or [] if file.suffix == ".py" and "tests" not in file.parts
        ]
        yield from module_documents(root, name, [path for path in listed if path.is_file() and root in path.parents])


def main() -> None:
    """Write documents.parquet: documents chosen by a hash of their ids, in the order of the ids."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for documents.parquet")
    parser.add_argument("--documents", type=int, default=12_000, help="maximum number of documents")
    arguments = parser.parse_args()
    unique = {document.id: document for document in corpus()}
    by_hash = sorted(unique, key=digest)
    chosen = [unique[id_] for id_ in sorted(by_hash[: arguments.documents])]
    clean = [document._replace(text=document.text.encode("utf-8", "replace").decode()) for document in chosen]
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([document._asdict() for document in clean])
    path = arguments.output / "documents.parquet"
    if not path.exists() or not pq.read_table(path).equals(table):  # an unchanged corpus leaves the file unchanged
        pq.write_table(table, path)
    print(f"{len(clean)} documents of {len({document.source for document in clean})} packages in {path}")


if __name__ == "__main__":
    main()
