"""All stages in the data's order; what each would do, without doing it."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.dedup import stage as dedup
from betr_spark.features import stage as features
from betr_spark.ranking import stage as ranking
from betr_spark.ranking.estimate import time_to_embed
from betr_spark.selection import stage as selection
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun
from betr_spark.training import stage as scorer

_logger = logging.getLogger(__name__)

STAGES: dict[str, Callable[[SparkSession, Config], list[StageRun]]] = {
    "rank": ranking.run,
    "train": scorer.run,
    "features": features.run,
    "dedup": dedup.run,
    "select": selection.run,
}


class Planned(NamedTuple):
    """What a stage would do: `work` is False where its output is up to date; `why` says what it waits for."""

    stage: str
    work: bool
    why: str


def run_all(spark: SparkSession, config: Config) -> list[StageRun]:
    """Run every stage; finished ones are skipped and say so."""
    runs = []
    for name, stage in STAGES.items():
        _logger.info("%s: started", name)
        found = stage(spark, config)
        for done in found:
            if done.skipped:  # a stage that works says so itself
                _logger.info("%s: skipped, up to date", done.stage)
        if not found:
            _logger.info("%s: nothing to do with these settings", name)
        runs += found
    return runs


def plan(spark: SparkSession, config: Config) -> list[Planned]:
    """Tell what `run_all` would do now. Nothing is written; behind a stage that has work, every later one has too."""
    planned: list[Planned] = []
    worked: list[str] = []
    for stage, path, find in _outputs(config):
        group = stage.partition("/")[0]
        earlier = [other for other in worked if other != group]
        if earlier:
            planned.append(Planned(stage, True, f"after {earlier[-1]}"))
            worked.append(group)
            continue
        wanted = find(spark, config)
        if _is_current(spark, config, stage, path, wanted):
            planned.append(Planned(stage, False, "up to date"))
        else:
            planned.append(
                Planned(stage, True, "other settings or input" if delta.exists(spark, path) else "not made yet")
            )
            worked.append(group)
    return planned


def outlook(spark: SparkSession, config: Config) -> list[str]:
    """Say what `run_all` would do, a line a stage, and how long embedding would take: a few documents are embedded to know."""
    lines = []
    for stage in plan(spark, config):
        lines.append(f"{stage.stage}: {'would run' if stage.work else 'skipped'} ({stage.why})")
        if stage.stage == "rank" and stage.work and config.needs_target_ranking():
            lines.append(f"  {time_to_embed(spark, config)}")
    return lines


def _outputs(config: Config) -> Iterator[tuple[str, str, Callable[[SparkSession, Config], StageKey]]]:
    if config.needs_sample():
        table = schemas.RANKED_SAMPLE_TABLE if config.needs_target_ranking() else schemas.SAMPLE_TABLE
        yield "rank", config.table(table), ranking.key
    for name in config.trained_scorers():
        yield f"train/{name}", scorer.folder(config, name), partial(scorer.key, name=name)
    yield "features", config.table(schemas.FEATURES_TABLE), features.key
    yield "dedup", config.table(schemas.DUPLICATES_TABLE), dedup.key
    for name in config.selections:
        yield f"select/{name}", config.table(f"selected/{name}"), partial(selection.key, name=name)


def _is_current(spark: SparkSession, config: Config, stage: str, path: str, wanted: StageKey) -> bool:
    if stage.startswith("train/"):
        made = scorer.trained(spark, config, stage.removeprefix("train/"))
    else:
        made = runs.made_by(spark, path)
    complete = stage != "features" or delta.exists(spark, config.table(schemas.QUARANTINE_TABLE))
    return complete and made is not None and made.key == wanted.key
