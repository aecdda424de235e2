"""The sample, the encoder, and the labels."""

from typing import Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model, Seed


class SampleConfig(Model):
    """How many documents are embedded and ranked."""

    documents: int = Field(default=10_000, ge=1, lt=2**31)
    seed: Seed = 0


class EncoderConfig(Model):
    """A sentence-transformers model by name or path; `minilm` is the one that is installed with the package.

    Prompts are put before documents and examples. `device: auto` is a GPU where there is one. `backend` other than torch wants
    sentence-transformers' extras, and the model in that form. A document longer than `max_tokens` is cut off, as in the paper,
    or with `long_documents: best_chunk` cut into chunks (`max_chunks` at most), the best of which counts for each example.
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
    max_chunks: int = Field(default=16, ge=1, le=2**16)

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
