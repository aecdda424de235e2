"""Packages of the extras that are not installed: one line each, only for stages that have work."""

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import settings

from betr_spark.config import Config, load_config
from betr_spark.errors import SetupError
from betr_spark.evaluate import stage as evaluate
from betr_spark.pipeline.check import missing_requirements
from betr_spark.pipeline.run import run_all, stages_of
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.encoder import check_encoder
from betr_spark.training.kinds import kind_of

NO_RANK = "rank: sentence-transformers is not installed; install betr-spark[rank]"
NO_FASTTEXT = "scorers.{}: fasttext is not installed; install betr-spark[fasttext]"


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def hide(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_rank_needs_its_packages(not_installed: Any) -> None:
    encoder = Config.model_validate(settings(Path("docs"), Path("out"), Path("model"), Path())).encoder
    not_installed("sentence_transformers", "torch")
    with pytest.raises(SetupError) as error:
        check_encoder(encoder)
    assert str(error.value) == NO_RANK


@pytest.mark.parametrize(
    ("scorer", "needs_fasttext"),
    [
        ({"kind": "betr"}, False),
        ({"kind": "betr", "model": "linear"}, False),
        ({"kind": "betr", "model": "fasttext"}, True),
        ({"kind": "betr", "lr": 0.5}, True),
        ({"kind": "classifier"}, True),
        ({"kind": "teacher", "path": "scores"}, True),
        ({"kind": "fasttext", "path": "model.bin", "label": "__label__hq"}, True),
        ({"kind": "dsir"}, False),
    ],
)
def test_kinds_of_fasttext_need_it(not_installed: Any, scorer: dict[str, Any], needs_fasttext: bool) -> None:
    values = settings(Path("docs"), Path("out"), Path("model"), Path(), scorers={"s": scorer}, selections={})
    not_installed("fasttext")
    lines = list(kind_of(Config.model_validate(values), "s").requirements())
    assert lines == ([NO_FASTTEXT.format("s")] if needs_fasttext else [])


def test_a_transformer_needs_more_than_an_ngram_model(not_installed: Any) -> None:
    values = settings(Path("docs"), Path("out"), Path("model"), Path())
    values["targets"]["cooking"]["test"] = "test.jsonl"
    not_installed("torch")
    evaluate.check(Config.model_validate(values))
    with pytest.raises(
        SetupError, match=r"^evaluate.model: transformer: torch is not installed; install betr-spark\[evaluate\]$"
    ):
        evaluate.check(Config.model_validate({**values, "evaluate": {"model": "transformer"}}))
    not_installed("tokenizers")
    with pytest.raises(SetupError, match=r"^evaluate: tokenizers is not installed; install betr-spark\[evaluate\]$"):
        evaluate.check(Config.model_validate(values))


def test_stages_that_are_up_to_date_need_no_packages(spark: Any, finished: Path, not_installed: Any) -> None:
    config = load_config(finished / "conf.yaml")
    changed = load_config(finished / "conf.yaml", ("labels.positive_fraction=0.2",))
    not_installed("sentence_transformers", "fasttext")

    def missing(config: Config, **more: Any) -> list[str]:
        return missing_requirements(RunContext(spark, config, **more), stages_of(config))

    assert missing(config) == []
    assert missing(changed) == missing(config, again=True) == [NO_RANK, NO_FASTTEXT.format("betr")]


def test_training_without_fasttext_is_said_before_the_sample_is_read(
    spark: Any, finished: Path, not_installed: Any, tmp_path: Path
) -> None:
    config = load_config(finished / "conf.yaml", (f"output={tmp_path / 'nothing'}",))
    not_installed("fasttext")
    with pytest.raises(SetupError) as error:
        run_all(spark, config, "train")
    assert str(error.value) == NO_FASTTEXT.format("betr")
