"""Files of documents and benchmarks in every form that `init` reads."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BENCHMARKS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"question": "who", "answer": "me", "id": 1}],
    "lists": [{"question": "who", "answers": ["me", "you"]}],
    "facts": [{"question": "who", "answer": True, "facts": ["a", "b"]}],
    "passage": [{"passage": "a story", "question": "who", "answer": "me"}],
    "code": [{"prompt": "def f():\n", "canonical_solution": "    return 1\n"}],
    "arc": [{"question": "who", "choices": {"text": ["me", "you"], "label": ["A", "B"]}, "answerKey": "B"}],
    "arc_objects": [
        {"question": "who", "choices": [{"text": "me", "label": "A"}, {"text": "you", "label": "B"}], "answerKey": "B"}
    ],
    "mmlu": [{"question": "who", "choices": ["me", "you"], "answer": 1}],
    "letters": [{"question": "who", "options": ["me", "you"], "answer": "B"}],
    "qasc": [{"question": "who", "choices": ["me", "you"], "answer": "you"}],
    "swag": [{"ctx": "he goes", "endings": ["up", "down"], "label": "1"}],
    "piqa": [
        {"goal": "sit", "sol1": "chair", "sol2": "wall", "label": 1},
        {"goal": "lie", "sol1": "bed", "sol2": "nail", "label": 0},
    ],
    "winogrande": [{"sentence": "_ won", "option1": "me", "option2": "you", "answer": "2"}],
    "squad": [{"context": "a story", "question": "who", "answers": {"text": ["me"], "answer_start": [3]}}],
    "trivia": [{"question": "who", "answer": {"value": "me", "aliases": ["I"]}}],
    "chat": [{"messages": [{"role": "user", "content": "who"}, {"role": "assistant", "content": "me"}]}],
    "lambada": [{"text": "a story of me", "domain": "x"}],
    "optional": [
        {"question": "who", "answer": "me", "hint": None},
        {"question": "where", "answer": "here", "hint": "near"},
    ],
    "odd": [{"prose": "a story", "verse": "a song of it", "n": 3, "ref": "x1"}],
}
FIRST_EXAMPLE = {
    "plain": "who\nme", "lists": "who\nme\nyou", "facts": "who\nTrue\na\nb", "passage": "a story\nwho\nme",
    "code": "def f():\n    return 1\n", "arc": "who\nyou", "arc_objects": "who\nyou", "mmlu": "who\nyou", "letters": "who\nyou",
    "qasc": "who\nyou", "swag": "he goes\ndown", "piqa": "sit\nwall", "winogrande": "_ won\nyou", "squad": "a story\nwho\nme",
    "trivia": "who\nme", "chat": "who\nme", "lambada": "a story of me", "optional": "who\nme", "odd": "a story\na song of it",
}  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON Lines, compressed as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = lines(rows)
    if path.suffix == ".zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        content = sink.getvalue().to_pybytes()
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)(content)
    path.write_bytes(packed)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """As `Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder
