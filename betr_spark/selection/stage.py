"""Stage `select`: rank the survivors by one scorer, keep the budget, join the text of the winners; `selected/NAME`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, RANK
from betr_spark.selection.budget import short_of_budget
from betr_spark.selection.conditions import Conditions
from betr_spark.selection.ranking import Ranking, SelectionInput, rank_survivors
from betr_spark.selection.winners import selected_rows, texts_of_winners
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun

_logger = logging.getLogger(__name__)
_STATISTICS = (RANK, DOC_ID, LOGIT, N_TOKENS)


@dataclass(frozen=True, kw_only=True)
class SelectMetrics(Metrics):
    """Tokens of the eligible survivors and of the kept documents, and the share of the second in the first.

    `repeated_tokens` are those of the kept documents after repetition (`sample`, `phases`).
    """

    survivor_tokens: int | None
    kept_tokens: int | None
    kept_fraction: float | None
    repeated_tokens: int | None = None


class Select(Stage):
    """One selection. All selections that have work share one read of the text (`together`)."""

    def __init__(self, selection: str, unit: str = "words") -> None:
        """Name the selection, and what tokens are, for the summary."""
        super().__init__(f"select/{selection}")
        self.selection, self.unit = selection, unit
        self.ranking: Ranking | None = None
        self.documents: DataFrame | None = None

    def outputs(self, config: Config) -> Sequence[str]:
        """`selected/NAME`."""
        return [config.table(f"selected/{self.selection}")]

    def key(self, context: RunContext) -> StageKey:
        """The rule and the scorer, the carried columns, features and duplicates."""
        config = context.config
        selection = config.selections[self.selection]
        settings = {
            "selection": selection.model_dump(exclude_defaults=True),  # a new setting makes no stage run again
            "scorer": config.scorers.get(selection.scorer),
            "input": config.input.model_dump(exclude={"max_batch_bytes", "tokens"}),
            "benchmark_scorers": config.benchmark_scorers(selection.scorer),
            **config.combined_settings(selection.scorer),
        }
        tables = [schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE]
        tables += [schemas.CONTAMINATION_TABLE] if config.drops_contaminated() else []
        versions = {name: runs.input_version(context.spark, config.table(name)) for name in tables}
        if selection.keep.tokens_of is not None:
            versions["tokens_of"] = Select(selection.keep.tokens_of).key(context).key
        return StageKey.of(self.name, settings, **versions, **self.conditions(context).versions())

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with the annotations, the condition and the columns of quotas."""
        yield from self.conditions(context).problems()

    def reference(self, config: Config) -> str | None:
        """Name of the selection whose tokens are the budget, if there is one."""
        return config.selections[self.selection].keep.tokens_of

    def conditions(self, context: RunContext) -> Conditions:
        """Which documents the selection may keep, and the columns of its quotas."""
        return Conditions(self.selection, context.config.selections[self.selection], context)

    @contextmanager
    def together(self, context: RunContext, stages: Sequence[Stage]) -> Iterator[None]:
        """Rank for all selections that have work, and read the text of all their winners once."""
        pending = [stage for stage in stages if isinstance(stage, Select) and not stage.is_current(context)]
        if not pending:
            yield
            return
        with context.scratch("select") as materialise:
            describe(context.spark, "select: count and order survivors")
            ranked = SelectionInput.of(
                context, [context.config.selections[stage.selection].scorer for stage in pending]
            )
            for stage in sorted(pending, key=lambda stage: stage.reference(context.config) is not None):
                describe(context.spark, f"{stage.name}: cut at the budget")
                stage.ranking = rank_survivors(
                    ranked, stage.conditions(context), materialise=materialise, reference=_kept(stage, pending, context)
                )
            describe(context.spark, "select: read texts")
            documents = texts_of_winners([stage.ranking.rows for stage in pending if stage.ranking], context)
            documents = materialise(documents) if len(pending) > 1 else documents
            for stage in pending:
                stage.documents = documents
            yield
            for stage in pending:
                stage.ranking = stage.documents = None

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Join ranks and texts; the write checks that each text is the one that was scored."""
        ranking, documents = self.ranking, self.documents
        assert ranking is not None
        assert documents is not None
        fraction = ranking.kept_tokens / ranking.survivor_tokens if ranking.survivor_tokens else 0.0
        if not ranking.n_kept:
            _logger.warning("selections.%s: no document is kept, of %d", self.selection, ranking.n_eligible)
        elif short := short_of_budget(
            context.config.selections[self.selection], documents=ranking.n_distinct,
            tokens=ranking.repeated_tokens or ranking.kept_tokens, eligible=ranking.survivor_tokens,
            left=ranking.n_eligible - ranking.n_distinct,
        ):  # fmt: skip
            _logger.warning("selections.%s: %s", self.selection, short)
        rows = selected_rows(ranking, documents, context.config)
        (path,) = self.outputs(context.config)
        yield Result(
            rows_in=ranking.n_documents,
            rows_out=ranking.n_kept,
            dropped={
                "duplicate": ranking.n_duplicates,
                "contaminated": ranking.n_contaminated,
                "no_score": ranking.n_documents - ranking.n_duplicates - ranking.n_contaminated - ranking.n_survivors,
                "where": ranking.n_survivors - ranking.n_eligible,
                "below_cut": ranking.n_eligible - ranking.n_distinct,
            },
            metrics=SelectMetrics(
                survivor_tokens=ranking.survivor_tokens,
                kept_tokens=ranking.kept_tokens,
                kept_fraction=fraction,
                repeated_tokens=ranking.repeated_tokens,
            ),
            commit=lambda run: delta.overwrite(rows, path, user_metadata=run.to_json(), statistics=_STATISTICS),
        )

    def summary(self, run: StageRun) -> list[str]:
        """With the kept tokens and their unit."""
        tokens, lines = run.metrics_as(SelectMetrics).kept_tokens, super().summary(run)
        return lines if tokens is None else [f"{lines[0]}; {tokens:.0f} tokens ({self.unit})"]


def _kept(stage: Select, pending: Sequence[Select], context: RunContext) -> DataFrame | None:
    """The documents of the selection that the stage is a control of: those of this run, or those of its table."""
    reference = stage.reference(context.config)
    if reference is None:
        return None
    for other in pending:
        if other.selection == reference and other.ranking is not None:
            return other.ranking.rows
    return delta.read(context.spark, context.config.table(f"selected/{reference}"))


def stages(config: Config) -> list[Stage]:
    """One stage for each selection of the configuration."""
    return [Select(name, config.input.tokens.unit) for name in config.selections]
