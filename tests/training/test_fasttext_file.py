"""A .bin is looked at before fastText reads it: what is cut short or of another kind is named."""

from pathlib import Path
from typing import Any

import fasttext
import pytest

from betr_spark.errors import ArtifactError
from betr_spark.training.fasttext_file import check_model_file


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


def test_a_whole_model_passes_and_every_shorter_one_is_refused(lines: Path, tmp_path: Path) -> None:
    whole = saved(lines).read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole)
    check_model_file(cut, name="m")
    for size in (0, 7, 60, 100, 300, 2_000, 10_000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match=f"m: cut short: {size} bytes"):
            check_model_file(cut, name="m")


def test_other_files_are_refused(lines: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"PAR1" * 100)
    with pytest.raises(ArtifactError, match="m: not a fastText model"):
        check_model_file(other, name="m")
    fasttext.train_unsupervised(
        str(lines), dim=16, bucket=700_000, epoch=1, thread=1, minCount=1, verbose=0
    ).save_model(str(other))
    with pytest.raises(ArtifactError, match="word vectors; a supervised one is wanted"):
        check_model_file(other, name="m")
    model = fasttext.load_model(str(saved(lines)))
    model.quantize(cutoff=300)
    model.save_model(str(other))
    with pytest.raises(ArtifactError, match="quantised fastText model does not fold"):
        check_model_file(other, name="m")
