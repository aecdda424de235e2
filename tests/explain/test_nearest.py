"""The nearest examples and kept documents against a brute-force product in NumPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.explain.nearest import highest_cosines


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(1, 3), st.integers(1, 40), st.integers(0, 9))
def test_documents_count_by_their_best_pair_of_chunks(lengths: list[int], n_chunks: int, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    vectors, query = (unit(draw.normal(size=(size, 8))).astype(np.float32) for size in (first[-1], n_chunks))
    cosines = query @ vectors.T
    best = [float(cosines[:, a:b].max()) for a, b in zip(first, first[1:], strict=False)]
    found = highest_cosines(query, vectors, first, n)
    expected = sorted(best, reverse=True)[:n]
    assert [cosine for cosine, _ in found] == pytest.approx(expected, abs=1e-5)
    assert [best[index] for _, index in found] == pytest.approx(expected, abs=1e-5)
    assert len({index for _, index in found}) == len(found)


@pytest.fixture(scope="module")
def embedded(finished: Path, encoder: Path, targets: Path) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The encoder; vectors of the kept documents of the sample; vectors of the examples."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder), device="cpu")
    names = ("best-50", "betr-30", "random-30")
    kept = {row["doc_id"] for name in names for row in rows(finished / f"out/selected/{name}")}
    documents = {row["doc_id"]: row["text"] for row in rows(finished / "out/_sample") if row["doc_id"] in kept}
    lines = {
        f"{name} {number}": json.loads(line)
        for name in ("cooking", "sailing")
        for number, line in enumerate((targets / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    }
    examples = {key: f"{row['question']}\n{row['answer']}" for key, row in lines.items()}
    vectors = [
        dict(zip(texts, unit(model.encode(list(texts.values()))), strict=True)) for texts in (documents, examples)
    ]
    return model, *vectors


def expected(query: np.ndarray, vectors: dict[str, np.ndarray], n: int) -> list[float]:
    return sorted((float(query @ vector) for vector in vectors.values()), reverse=True)[:n]


def test_nearest_of_a_text_is_the_brute_force_one(
    run_command: Any, finished: Path, embedded: Any, tmp_path: Path
) -> None:
    model, documents, examples = embedded
    text = "simmer garlic and onion in the oven with butter"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    query = unit(model.encode([text]))[0]
    arguments = ("nearest", "--config", str(finished / "conf.yaml"), "--number", "7")
    code, out, errors = run_command(*arguments, "--text", text, "--json")
    assert (code, errors) == (0, [])
    found = json.loads(out)
    assert (found["n_documents"], found["n_examples"]) == (len(documents), len(examples))
    for near, vectors in ((found["documents"], documents), (found["examples"], examples)):
        assert [row["cosine"] for row in near] == pytest.approx(expected(query, vectors, 7), abs=1e-5)
    for row in found["documents"]:
        assert float(query @ documents[row["doc_id"]]) == pytest.approx(row["cosine"], abs=1e-5)
        assert row["selections"]
    for row in found["examples"]:
        assert float(query @ examples[f"{row['benchmark']} {row['row']}"]) == pytest.approx(row["cosine"], abs=1e-5)
    lines = run_command(*arguments, "--file", str(tmp_path / "text.txt"))[1].splitlines()
    assert lines[0] == f"nearest of {len(examples)} examples:"
    assert f"{found['documents'][0]['doc_id']} ({', '.join(found['documents'][0]['selections'])}): " in lines[9]


def test_explain_leaves_the_document_itself_out(run_command: Any, finished: Path, embedded: Any) -> None:
    _, documents, _ = embedded
    doc = next(iter(documents))
    arguments = ("explain", "--config", str(finished / "conf.yaml"), "--doc", doc, "--nearest", "4", "--json")
    (document,) = json.loads(run_command(*arguments)[1])["documents"]
    others = {key: vector for key, vector in documents.items() if key != doc}
    near = document["nearest"]["documents"]
    assert [row["cosine"] for row in near] == pytest.approx(expected(documents[doc], others, 4), abs=1e-5)
    assert doc not in {row["doc_id"] for row in near}
    assert len(document["nearest"]["examples"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nearest: exactly one of --text and --file is required"),
        (("--text", "a", "--file", "b"), "nearest: exactly one of --text and --file is required"),
        (("--text", " \n"), "nearest: the text is empty; at least one word is required"),
        (("--file", "/no/such/file"), "--file: /no/such/file: "),
        (
            ("--text", "a", "--set", "scorers={}", "--set", "selections={}"),
            "nearest: no scorer of the configuration uses",
        ),
    ],
)
def test_wrong_arguments_are_one_line(run_command: Any, finished: Path, arguments: Any, message: str) -> None:
    code, out, errors = run_command("nearest", "--config", str(finished / "conf.yaml"), *arguments)
    assert (code, out, len(errors)) == (2, "", 1)
    assert errors[0].startswith(f"error: {message}")


def test_a_missing_package_is_one_line(run_command: Any, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "faiss" else find_spec(name))
    for command in (("nearest", "--text", "a"), ("explain", "--doc", "d0001", "--nearest", "2")):
        code, out, errors = run_command(*command, "--config", str(finished / "conf.yaml"))
        assert (code, out) == (2, "")
        assert errors == ["error: nearest: faiss-cpu is not installed; install betr-spark[nearest]"]
