"""Stage `rank`: ranks the sample by the targets' examples; tables `_embeddings` and `ranked_sample`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.ranking.encoder import check_encoder
from betr_spark.ranking.estimate import time_to_embed
from betr_spark.ranking.sample import Sample, sample_settings
from betr_spark.ranking.target_ranking import target_ranking
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey
from betr_spark.targets.reading import read_targets, target_problems, targets_of


class Rank(Stage):
    """Embeds the sample, ranks it and labels it; in direct mode also computes the logits of all documents."""

    rebuilds = True

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("rank")

    def outputs(self, config: Config) -> Sequence[str]:
        """`ranked_sample`."""
        return [config.table(schemas.RANKED_SAMPLE_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The current sample, the encoder, the targets, the labels, and the scorers of direct mode."""
        return rank_key(context)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Everything that is wrong with the targets."""
        yield from target_problems(context.spark, context.config.targets)

    def requirements(self, context: RunContext) -> Iterator[str]:
        """The packages of the extra `rank`, and the encoder's model."""
        yield from problems_of(lambda: check_encoder(context.config.encoder))

    def estimate(self, context: RunContext) -> str:
        """How long embedding takes; a few documents are embedded to measure it."""
        return str(time_to_embed(context.input, context.config))

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Embed the sample and the examples, rank in two passes, label."""
        spark, config = context.spark, context.config
        (path,) = self.outputs(config)
        examples = targets_of(config.targets, read_targets(spark, config))
        check_encoder(config.encoder)
        sampled = delta.read(spark, config.table(schemas.SAMPLE_TABLE))
        n_documents = sampled.count()
        with context.scratch("rank") as materialise:
            ranking = target_ranking(sampled, examples, config, n_documents=n_documents, materialise=materialise)
            yield Result(
                rows_in=n_documents,
                rows_out=n_documents,
                metrics=ranking.metrics,
                commit=lambda run: delta.overwrite(ranking.documents, path, user_metadata=run.to_json()),
            )


def stages(config: Config) -> list[Stage]:
    """The sample if a scorer is fitted to it, and its ranking if a scorer uses it."""
    sample: list[Stage] = [Sample()] if config.needs_sample() else []
    return [*sample, Rank()] if config.needs_target_ranking() else sample


def rank_key(context: RunContext) -> StageKey:
    """Key of `ranked_sample`; it has the version of the current sample."""
    spark, config = context.spark, context.config
    settings = sample_settings(context)
    targets = {name: target.model_dump(exclude={"test"}) for name, target in config.targets.items()}
    settings |= {"encoder": config.encoder.model_dump(exclude={"device"}), "targets": targets, "labels": config.labels}
    if config.direct():
        settings["direct"] = config.direct()
    digests = {f"targets.{name}": content.digest() for name, content in read_targets(spark, config).items()}
    sample = runs.input_version(spark, config.table(schemas.SAMPLE_TABLE))
    return StageKey.of("rank", settings, sample=sample, **digests)
