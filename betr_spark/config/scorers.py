"""The kinds of scorers and how each is trained."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from betr_spark.config.base import Auto, Model, ScorerName, Seed
from betr_spark.config.targets import TargetConfig


class Scorer(Model):
    """What the rest of the configuration asks of every kind of scorer.

    Attributes:
        fitted: the scorer is fitted to documents or a model, and has a table of weights under `scorers/NAME`.
        uses_target_ranking: the scorer is fitted to the order of the sample by the targets' examples.
    """

    fitted: ClassVar[bool] = False
    uses_target_ranking: ClassVar[bool] = False

    def uses_targets(self) -> bool:
        """Whether the scorer needs the targets' examples."""
        return self.uses_target_ranking

    def scores_benchmarks(self) -> bool:
        """Whether there is also a scorer for each benchmark."""
        return False

    def input_column(self) -> str | None:
        """The input's column that is the score, if there is one."""
        return None

    def combines(self) -> tuple[str, ...]:
        """The scorers that the score is computed from, if it is a combination."""
        return ()


class FastTextTraining(Scorer):
    """How fastText is trained. `auto` chooses lr and epochs by the number of training documents.

    With more than one thread, training does not repeat.
    """

    fitted: ClassVar[bool] = True

    dim: int = Field(default=128, ge=8, le=2**12)  # a smaller one trains on uninitialised memory: training/fasttext.py
    lr: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    threads: int = Field(default=1, ge=1, le=2**10)
    seed: Seed = 0


class BetrScorer(FastTextTraining):
    """A light model of the target ranking.

    `fasttext` is trained on the first documents of the ranking against the rest, as in the paper. `linear`, for samples of up
    to 50,000 documents, is fitted to the whole ranking. `auto` is `linear` for such samples if neither `lr` nor `epochs` is
    given. With `per_benchmark` there is also a benchmark scorer, one against all, for each benchmark: each has a logit in
    `features`, and a selection names for each document the benchmark whose scorer gives the highest logit.
    """

    uses_target_ranking: ClassVar[bool] = True

    kind: Literal["betr"] = "betr"
    model: Literal["auto", "linear", "fasttext"] = "auto"

    @model_validator(mode="after")
    def _linear_has_no_epochs(self) -> Self:
        if self.model == "linear" and (self.lr != "auto" or self.epochs != "auto"):
            raise ValueError("lr and epochs belong to fastText; model: linear has neither")
        return self

    per_benchmark: bool = False

    def scores_benchmarks(self) -> bool:
        """Whether `per_benchmark` is set."""
        return self.per_benchmark


class ClassifierScorer(FastTextTraining):
    """FastText trained on given positives (by default the targets' examples) against the random sample, as DCLM does.

    `recipe` names whose settings of fastText are used where the configuration has no key for them: those of DCLM, or those of
    the paper, which trained DCLM's classifier with its own.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"recipe"})

    kind: Literal["classifier"]
    positives: TargetConfig | None = None
    recipe: Literal["dclm", "paper"] = "dclm"
    dim: int = Field(default=100, ge=8, le=2**12)

    def uses_targets(self) -> bool:
        """Whether the targets' examples are the positives."""
        return self.positives is None


class ExternalScorer(FastTextTraining):
    """FastText distilled from a table of external scores: the sample's documents with the highest ones against the rest."""

    kind: Literal["teacher"]
    path: str = Field(min_length=1)
    format: Literal["parquet", "delta"] = "parquet"
    id: str = "doc_id"
    score: str = "score"
    positive_fraction: float = Field(default=0.10, gt=0.0, lt=1.0)


class DsirScorer(Scorer):
    """Log-ratio of hashed uni- and bigrams between the examples and the sample: the sum, or the mean per feature.

    With `noise`, selection adds Gumbel noise from a hash of (seed, doc_id): a draw without replacement by weight, as in DSIR.
    """

    fitted: ClassVar[bool] = True

    kind: Literal["dsir"]
    normalize: Literal["sum", "mean"] = "sum"
    buckets: int = Field(default=10_000, ge=2, lt=2**24)
    noise: bool = False
    seed: Seed = 0

    def uses_targets(self) -> bool:
        """Always: the examples are one side of the ratio."""
        return True


class FastTextScorer(Scorer):
    """An existing fastText model; the score is the probability of `label`."""

    fitted: ClassVar[bool] = True

    kind: Literal["fasttext"]
    path: str = Field(min_length=1)
    label: str = Field(min_length=1)


class ExpressionScorer(Scorer):
    """A numeric column of the input, higher is better."""

    kind: Literal["expression"]
    column: str = Field(min_length=1)

    def input_column(self) -> str:
        """The column."""
        return self.column


class RandomScorer(Scorer):
    """Uniform scores from a hash of (seed, doc_id)."""

    kind: Literal["random"]
    seed: Seed = 0


class CombineScorer(Scorer):
    """Several scorers of `features` in one, by their percentiles: the share of the tokens that rank below a document.

    Attributes:
        of: names of scorers, each with its weight.
        by: `rank` is the weighted mean of the percentiles, `product` their weighted geometric mean. With `best_rank` a document
            has its best position; a scorer of half the weight goes half as deep.
    """

    kind: Literal["combine"]
    of: dict[ScorerName, Annotated[float, Field(gt=0.0)]] = Field(min_length=2)
    by: Literal["rank", "product", "best_rank"] = "rank"

    def combines(self) -> tuple[str, ...]:
        """The names in `of`."""
        return tuple(self.of)


def _kind(value: Any) -> Any:
    return str(value.get("kind", "betr")) if isinstance(value, dict) else getattr(value, "kind", "betr")


ScorerConfig = Annotated[
    Annotated[BetrScorer, Tag("betr")]
    | Annotated[ClassifierScorer, Tag("classifier")]
    | Annotated[ExternalScorer, Tag("teacher")]
    | Annotated[DsirScorer, Tag("dsir")]
    | Annotated[FastTextScorer, Tag("fasttext")]
    | Annotated[ExpressionScorer, Tag("expression")]
    | Annotated[RandomScorer, Tag("random")]
    | Annotated[CombineScorer, Tag("combine")],
    Discriminator(_kind),
]
