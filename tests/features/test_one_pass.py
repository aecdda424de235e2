"""The columns of the one pass, for any batch: nulls, slices, large strings, bytes that are no text, and any cutting."""

from typing import Any

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import CONTENT, expected

from betr_spark.features.one_pass import features_of, output_columns
from betr_spark.features.token_counter import TokenCounter
from betr_spark.kernels.minhash import MinHasher
from betr_spark.kernels.text_preparation import prepare
from betr_spark.scoring.ngram_table import NgramTable, stack

HASHER = MinHasher(ngram=2, bands=3, rows=2, seed=1)
TABLE = NgramTable.build(["</s>", "a", "é"], np.array([1, 2, -4], np.float32), np.zeros(8, np.float32), word_ngrams=1)
documents = st.one_of(
    st.none(), st.binary(max_size=20), st.text(alphabet="aé \n漢B", max_size=30).map(lambda text: text.encode())
)


def batch(texts: list[bytes | None], kind: pa.DataType) -> pa.RecordBatch:
    binary = pa.large_binary() if kind == pa.large_string() else pa.binary()
    n = len(texts)
    strings = {
        name: pa.array([f"{name}{i}" for i in range(n)], pa.string()) for name in ("doc_id", "source", "input_file")
    }
    reason = pa.array([None if text is not None else "null_text" for text in texts], pa.string())
    nothing = pa.nulls(n, pa.string())
    columns = {
        **strings,
        "text": pa.array(texts, binary).view(kind),
        "reason": reason,
        "detail": nothing,
        "row": nothing,
    }
    return pa.RecordBatch.from_pydict(columns)


def features(part: pa.RecordBatch) -> list[dict[str, Any]]:
    found = features_of(part, hasher=HASHER, scorers=["s"], shared_tables=stack([TABLE]))
    assert found.schema.names == output_columns(["s"])
    found.validate(full=True)
    return found.to_pylist()


@given(st.lists(documents, max_size=8), st.sampled_from([pa.string(), pa.large_string()]), st.data())
def test_rows_are_the_same_for_any_cutting_and_right(texts: list[bytes | None], kind: Any, data: Any) -> None:
    whole = batch(texts, kind)
    rows = features(whole)
    cut = data.draw(st.integers(0, len(texts)))
    assert features(whole.slice(0, cut)) + features(whole.slice(cut)) == rows
    for text, row in zip(texts, rows, strict=True):
        raw = text or b""
        assert row["n_bytes"] == len(raw)
        assert row["content_hash"] == mmh3.hash_bytes(raw, 0, x64arch=True)
        try:
            words = prepare(raw.decode()).split()
        except UnicodeDecodeError:
            assert (row["reason"], row["detail"]) == ("invalid_utf8", "the text is not UTF-8")
            assert row["row"].startswith(f'{{"doc_id": "{row["doc_id"]}"')
            continue
        assert row["reason"] == (None if text is not None else "null_text")
        assert row["input_file"].startswith("input_file")
        assert row["n_words"] == row["n_tokens"] == len(words)
        known = [{"a": 2, "é": -4}[word] for word in words if word in ("a", "é")]
        assert row["logit_s"] == (pytest.approx((sum(known) + 1) / (len(known) + 1)) if words else None)
        assert row["bands"] is None


def test_tokens_are_counted_in_the_pass_or_come_with_the_batch() -> None:
    texts = [b"the tide", None, b"", b"\xff", b" "]
    counter, part = TokenCounter(CONTENT["byte_level"], name="t"), batch(texts, pa.string())
    options: dict[str, Any] = {"hasher": HASHER, "scorers": ["s"], "shared_tables": stack([TABLE])}
    counted = features_of(part, **options, token_counter=counter)
    assert counted.schema.names == output_columns(["s"], lm_tokens=True)
    tokens = [expected(CONTENT["byte_level"], text) for text in ("the tide", "", "", " ")]
    assert counted.column("n_lm_tokens").to_pylist() == [*tokens[:3], None, tokens[3]]
    assert counted.column("n_tokens").to_pylist()[:3] == [2, 0, 0]
    given = features_of(part.append_column("n_lm_tokens", pa.array([7, None, 0, 1, 2], pa.int32())), **options)
    assert given.column("n_lm_tokens").to_pylist() == [7, None, 0, 1, 2]
    assert given.schema == counted.schema


def test_a_batch_without_rows() -> None:
    assert features(batch([], pa.string())) == []
    assert features(batch([], pa.large_string())) == []
