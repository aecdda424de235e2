"""The sample, the encoder, and the labels."""

from typing import Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model, Seed


class SampleConfig(Model):
    """How many documents are ranked and trained on."""

    documents: int = Field(default=10_000, ge=1, lt=2**31)
    seed: Seed = 0


class EncoderConfig(Model):
    """A sentence-transformers model by name or path; `minilm` is installed with the package.

    Prompts are added before documents and examples. `device: auto` uses a GPU if there is one. A `backend` other than torch
    requires the extras of sentence-transformers, and the model in that format. A document longer than `max_tokens` is cut, as
    in the paper, or with `long_documents: best_chunk` split into at most `max_chunks` chunks, the best of which counts for each
    example. With `mode: direct` all documents are embedded, and their ranking is itself the score of `betr`: there is no sample
    and no trained model.
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
    def _dtype_needs_torch(self) -> Self:
        if self.backend != "torch" and self.dtype != "float32":
            raise ValueError(
                f"dtype: {self.dtype} requires backend: torch; with backend: {self.backend} the file of the model sets it"
            )
        return self


class LabelsConfig(Model):
    """How the sample is ranked, and which part of it is positive.

    `granularity` is what ranks the documents: each example, `clusters` k-means centroids per benchmark, one mean vector per
    benchmark, or one mean vector of all examples. `aggregate` reduces the ranks of a document to its score. The defaults are
    the paper's choices.
    """

    positive_fraction: float = Field(default=0.10, gt=0.0, lt=1.0)
    aggregate: Literal["best_rank", "mean_log_rank", "mean_reciprocal_rank"] = "best_rank"
    granularity: Literal["example", "kmeans", "benchmark", "global"] = "example"
    clusters: int = Field(default=10, ge=1, le=100_000)
