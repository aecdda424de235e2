"""What scorers are made of: targets, sample, encoder, labels, training; config.py has the whole configuration."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from betr_spark.config.base import Auto, Model, Seed
from betr_spark.config.targets import TargetConfig


class FastTextTraining(Model):
    """How fastText is trained. `auto` chooses lr and epochs by the number of training documents (method 3).

    More than one thread makes training irreproducible.
    """

    dim: int = Field(default=128, ge=8, le=2**12)  # less trains on uninitialised memory: scorer/train.py
    lr: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    threads: int = Field(default=1, ge=1, le=2**10)
    seed: Seed = 0


class BetrScorer(FastTextTraining):
    """A light model of the ranked sample's order.

    `fasttext` is trained on the best of the sample against the rest, as in the paper; `linear`, for samples of up to 50,000
    documents, is fitted to the whole order. `auto` is `linear` for such samples where neither `lr` nor `epochs` is given.
    With `per_benchmark` there is a head a benchmark, one against all: a logit each in `features`, and in a selection the
    benchmark whose head has the highest.
    """

    kind: Literal["betr"] = "betr"
    model: Literal["auto", "linear", "fasttext"] = "auto"

    @model_validator(mode="after")
    def _linear_has_no_epochs(self) -> Self:
        if self.model == "linear" and (self.lr != "auto" or self.epochs != "auto"):
            raise ValueError("lr and epochs are fastText's; model: linear has none")
        return self

    per_benchmark: bool = False


class ClassifierScorer(FastTextTraining):
    """FastText trained on given positives (or else the targets' examples) against the random sample, as DCLM does."""

    kind: Literal["classifier"]
    positives: TargetConfig | None = None
    dim: int = Field(default=100, ge=8, le=2**12)


class TeacherScorer(FastTextTraining):
    """FastText trained on the documents of the sample that a table of scores puts first, against the rest: distillation."""

    kind: Literal["teacher"]
    path: str = Field(min_length=1)
    format: Literal["parquet", "delta"] = "parquet"
    id: str = "doc_id"
    score: str = "score"
    positive_fraction: float = Field(default=0.10, gt=0.0, lt=1.0)


class DsirScorer(Model):
    """Log-ratio of hashed uni- and bigrams between the examples and the sample: the sum, or the mean a feature.

    With `noise`, selection adds Gumbel noise from a hash of (seed, doc_id): a draw without replacement by weight, as DSIR does.
    """

    kind: Literal["dsir"]
    normalize: Literal["sum", "mean"] = "sum"
    buckets: int = Field(default=10_000, ge=2, lt=2**24)
    noise: bool = False
    seed: Seed = 0


class FastTextScorer(Model):
    """A fastText model made elsewhere; the score is the probability of `label`."""

    kind: Literal["fasttext"]
    path: str = Field(min_length=1)
    label: str = Field(min_length=1)


class ExpressionScorer(Model):
    """A numeric column of the input, the higher the better."""

    kind: Literal["expression"]
    column: str = Field(min_length=1)


class RandomScorer(Model):
    """Uniform scores from a hash of (seed, doc_id)."""

    kind: Literal["random"]
    seed: Seed = 0


def _kind(value: Any) -> Any:
    return str(value.get("kind", "betr")) if isinstance(value, dict) else getattr(value, "kind", "betr")


FittedScorer = BetrScorer | ClassifierScorer | TeacherScorer | DsirScorer | FastTextScorer
ScorerConfig = Annotated[
    Annotated[BetrScorer, Tag("betr")]
    | Annotated[ClassifierScorer, Tag("classifier")]
    | Annotated[TeacherScorer, Tag("teacher")]
    | Annotated[DsirScorer, Tag("dsir")]
    | Annotated[FastTextScorer, Tag("fasttext")]
    | Annotated[ExpressionScorer, Tag("expression")]
    | Annotated[RandomScorer, Tag("random")],
    Discriminator(_kind),
]
