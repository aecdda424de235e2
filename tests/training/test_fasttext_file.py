"""A .bin is checked before fastText reads it: a truncated file or a model of an unsupported kind is named."""

import io
from pathlib import Path
from typing import Any

import fasttext
import pytest

from betr_spark.errors import ArtifactError
from betr_spark.training.fasttext_file import ModelHeader, read_header


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "train.txt"
    path.write_text("".join(f"__label__{i % 2} w{i % 7} café w{i}\n" for i in range(200)), encoding="utf-8")
    return path


def saved(lines: Path, **options: Any) -> Path:
    path = lines.parent / "model.bin"
    settings = {"dim": 16, "bucket": 700_000, "wordNgrams": 2, "epoch": 1, "minCount": 1, **options}
    fasttext.train_supervised(input=str(lines), thread=1, verbose=0, **settings).save_model(str(path))
    return path


def header_of(content: bytes) -> ModelHeader:
    return read_header(io.BytesIO(content), n_bytes=len(content), name="m")


def test_a_complete_model_passes_and_every_truncated_one_is_refused(lines: Path) -> None:
    whole = saved(lines).read_bytes()
    header_of(whole)
    for size in (0, 7, 60, 100, 300, 2_000, 10_000, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ArtifactError, match=f"m: truncated: {size} bytes"):
            header_of(whole[:size])


@pytest.mark.parametrize(
    ("options", "loss"), [({}, "softmax"), ({"loss": "ova"}, "ova"), ({"loss": "hs"}, "hs"), ({"loss": "ns"}, "ns")]
)
def test_the_header_has_what_the_library_reads(lines: Path, options: dict[str, Any], loss: str) -> None:
    path = saved(lines, **options, minn=2, maxn=3)
    model = fasttext.load_model(str(path))
    header = header_of(path.read_bytes())
    assert header == (model.get_labels(), loss, 3, 700_000)
    assert sorted(header.labels) == ["__label__0", "__label__1"]


def test_unsupported_files_are_refused(lines: Path, tmp_path: Path) -> None:
    unsupported = tmp_path / "unsupported"
    with pytest.raises(ArtifactError, match="m: not a fastText model"):
        header_of(b"PAR1" * 100)
    fasttext.train_unsupervised(
        str(lines), dim=16, bucket=700_000, epoch=1, thread=1, minCount=1, verbose=0
    ).save_model(str(unsupported))
    with pytest.raises(ArtifactError, match="word vectors; a supervised model is required"):
        header_of(unsupported.read_bytes())
    model = fasttext.load_model(str(saved(lines)))
    model.quantize(cutoff=300)
    model.save_model(str(unsupported))
    with pytest.raises(ArtifactError, match="unsupported: a quantised fastText model"):
        header_of(unsupported.read_bytes())
