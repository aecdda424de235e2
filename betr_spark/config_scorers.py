"""What scorers are made of: targets, sample, encoder, labels, training; config.py has the whole configuration."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Auto = Literal["auto"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Model(BaseModel):
    """A frozen part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TargetConfig(Model):
    """One benchmark's TRAIN examples: JSON Lines, Parquet, or a folder that Hugging Face `datasets` saved.

    `template` names the file's fields; `jinja` in its place is a Jinja template, for optional fields, lists and choices.
    `examples` caps their number. `test` is the benchmark's test file, which is never used as a target.
    """

    path: str = Field(min_length=1)
    template: str | None = Field(default=None, min_length=1)
    jinja: str | None = Field(default=None, min_length=1)
    format: Literal["parquet", "json", "dataset"] | None = None
    examples: int | None = Field(default=None, ge=1)
    test: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if (self.template is None) == (self.jinja is None):
            raise ValueError(
                f"exactly one of template, jinja is wanted; found {'none' if self.jinja is None else 'both'}"
            )
        return self


class SampleConfig(Model):
    """How many documents are embedded and ranked."""

    documents: int = Field(default=10_000, ge=1, lt=2**31)
    seed: Seed = 0


class EncoderConfig(Model):
    """A sentence-transformers model by name or path; `minilm` is the one that is installed with the package.

    Prompts are put before documents and examples. `device: auto` is a GPU where there is one. `backend` other than torch wants
    sentence-transformers' extras, and the model in that form. A document longer than `max_tokens` is cut off, as in the paper,
    or with `long_documents: best_chunk` cut into chunks (`most_chunks` at most), the best of which counts for each example.
    With `mode: direct` all documents are embedded, and their ranking itself is the score of `betr`: no sample, no model of it.
    """

    mode: Literal["sample", "direct"] = "sample"
    model: str = "minilm"
    max_tokens: int = Field(default=256, ge=8, le=2**20)
    batch_size: int = Field(default=64, ge=1, le=2**16)
    document_prompt: str = ""
    example_prompt: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    trust_remote_code: bool = False
    long_documents: Literal["truncate", "best_chunk"] = "truncate"
    most_chunks: int = Field(default=16, ge=1, le=2**16)

    @model_validator(mode="after")
    def _dtype_is_torchs(self) -> Self:
        if self.backend != "torch" and self.dtype != "float32":
            raise ValueError(
                f"dtype: {self.dtype} is torch's; with backend: {self.backend} the model's own file decides"
            )
        return self


class LabelsConfig(Model):
    """How the sample is ranked, and which part of it is positive.

    `granularity` is what ranks the documents: each example, `clusters` k-means centroids a benchmark, one mean vector a
    benchmark, or one of all. `aggregate` is what a document's ranks come to. The paper's choices are the defaults.
    """

    positive_fraction: float = Field(default=0.10, gt=0.0, lt=1.0)
    aggregate: Literal["best_rank", "mean_log_rank", "mean_reciprocal_rank"] = "best_rank"
    granularity: Literal["example", "kmeans", "benchmark", "global"] = "example"
    clusters: int = Field(default=10, ge=1, le=100_000)


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
