"""`betr-spark evaluate`: models trained on what each scorer ranks first, and on random documents; table `evaluations`."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import RANDOM_SCORER, Config
from betr_spark.config.evaluate import EvaluateConfig
from betr_spark.config.scorers import RandomScorer
from betr_spark.errors import ConfigError, DataError
from betr_spark.evaluate.benefit import GENERAL, OFF_TARGET, TARGET, Change, Items, LanguageModel, Tokens, changes
from betr_spark.evaluate.byte_pairs import encode, train_tokenizer
from betr_spark.evaluate.kneser_ney import KneserNey
from betr_spark.evaluate.plot import plot
from betr_spark.evaluate.pool import draw_pool
from betr_spark.extras import require
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.runs import StageKey
from betr_spark.storage.small_files import write_bytes
from betr_spark.targets.choice import parts_of
from betr_spark.targets.examples import examples_of
from betr_spark.targets.reading import Benchmark, examples_and_items, read_benchmark, read_content

PLOT = "evaluation.png"
_TOKENIZER_TEXTS = 5_000
_logger = logging.getLogger(__name__)


def scorers_of(config: Config) -> list[str]:
    """Scorers to evaluate: those of the selections, except random ones, which are the controls."""
    names = dict.fromkeys(selection.scorer for selection in config.selections.values())
    return [n for n in names if n != RANDOM_SCORER and not isinstance(config.scorers.get(n), RandomScorer)]


def check(config: Config) -> None:
    """Check that the packages are installed, and that the configuration has a scorer to evaluate and held-out items.

    Raises:
        ConfigError: no such scorer or items, or two sets of items have the same name.
        SetupError: a package is not installed.
    """
    require("tokenizers", extra="evaluate", subject="evaluate")
    if config.evaluate.model == "transformer":
        require("torch", "transformers", extra="evaluate", subject="evaluate.model: transformer")
    if not scorers_of(config):
        raise ConfigError(
            "config.selections: no selection has a scorer other than random; evaluate requires at least one"
        )
    if not any(target.test_path() for target in config.targets.values()):
        raise ConfigError(
            "config.targets: no target has a `test` file or a `split`; evaluate requires held-out items of at least one"
        )
    if duplicates := [name for name in config.evaluate.off_target if name in (*config.targets, GENERAL)]:
        raise ConfigError(
            f"config.evaluate.off_target.{duplicates[0]}: a target or set has this name; choose another name"
        )


def caveats(config: Config) -> list[str]:
    """Describe a finished evaluation: its models, the limits of its conclusions, and targets that were not measured."""
    settings, unmeasured = config.evaluate, [n for n, target in config.targets.items() if not target.test_path()]
    shape = settings.transformer
    model = f"{settings.order}-gram models (modified Kneser-Ney)"
    if settings.model == "transformer":
        model = f"transformers of {shape.layers} layers, width {shape.width}, context {shape.context}"
    trained = f"evaluated with {model} trained on equal numbers of byte pairs ({settings.vocabulary} in the vocabulary)"
    lines = [f"{trained}; a check of direction, not a forecast of a large model's accuracy"]
    reason = "not measured, because they have no `test` file and no `split`"
    return [*lines, f"{reason}: {', '.join(unmeasured)}"] if unmeasured else lines


class Evaluate(Stage):
    """Trains small language models on what each selection's scorer ranks first, and evaluates them on held-out items."""

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("evaluate")

    def outputs(self, config: Config) -> Sequence[str]:
        """`evaluations`."""
        return [config.table(schemas.EVALUATIONS_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """Settings, scorers, held-out items, features and duplicates."""
        spark, config = context.spark, context.config
        names = (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        versions = {name: runs.input_version(spark, config.table(name)) for name in names}
        tests = {f"items.{name}": path for name, target in config.targets.items() if (path := target.test_path())}
        off_target = {f"off.{name}": target.path for name, target in config.evaluate.off_target.items()}
        items = {
            name: Benchmark(read_content(spark, path), None).digest() for name, path in {**tests, **off_target}.items()
        }
        settings = {
            "evaluate": config.evaluate,
            "scorers": {
                name: config.scorers[name].model_dump() if name in config.scorers else name
                for name in scorers_of(config)
            },
            "combinations": {name: config.combined_settings(name) for name in config.combinations()},
            "targets": {name: target.model_dump() for name, target in config.targets.items()},
            "input": config.input.model_dump(exclude={"max_batch_bytes", "tokens"}),
        }
        return StageKey.of(self.name, settings, **versions, **items)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Problems of off-target files."""
        for name, off in context.config.evaluate.off_target.items():
            yield from problems_of(lambda n=name, o=off: examples_of(n, o, read_content(context.spark, o.path)))  # type: ignore[misc]

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Draw the pool, train and evaluate the models of each budget, and plot."""
        spark, config = context.spark, context.config
        check(config)
        names, settings = scorers_of(config), config.evaluate
        (path,) = self.outputs(config)
        items = _items(spark, config)
        pool = draw_pool(spark, config, names)
        tokenizer = train_tokenizer([*pool.general, *pool.texts[:_TOKENIZER_TEXTS]], n_vocabulary=settings.vocabulary)
        tokens = encode(tokenizer, pool.texts)
        items.append((GENERAL, GENERAL, pool.general))
        sets = [Items(name, kind, encode(tokenizer, texts), _sizes(texts)) for name, kind, texts in items]
        controls = {
            f"{RANDOM_SCORER}-{seed}": np.random.default_rng(seed).permutation(len(tokens))
            for seed in range(settings.seeds)
        }
        _check_budgets(settings.budgets, tokens, pool.rankings)
        results: list[Change] = []
        for budget in dict.fromkeys(settings.budgets):
            n_models, n_tokens = len(names) + settings.seeds, sum(map(len, tokens))
            _logger.info("evaluate: %d models on %g of %d tokens", n_models, budget, n_tokens)
            train = partial(_trained, settings)
            results += changes(tokens, pool.rankings, controls, sets, budget=budget, train=train)
        rows = spark.createDataFrame([(*row, row.verdict) for row in results], schemas.EVALUATIONS)
        _draw(spark, config, results)
        yield Result(
            rows_in=len(pool.general) + len(pool.texts),
            rows_out=len(results),
            commit=lambda run: delta.overwrite(rows.coalesce(1), path, user_metadata=run.to_json()),
        )

    def clean_up(self, context: RunContext, key: StageKey) -> None:  # noqa: ARG002 - part of the protocol
        """Draw the plot again if it was deleted."""
        if not hadoop_files.exists(context.spark, context.config.table(PLOT)):
            _draw(context.spark, context.config, read(context.spark, context.config))


def _draw(spark: SparkSession, config: Config, results: Sequence[Change]) -> None:
    picture = io.BytesIO()
    plot(results, picture)
    write_bytes(spark, config.table(PLOT), picture.getvalue())


def _check_budgets(budgets: Sequence[float], tokens: Tokens, rankings: Mapping[str, NDArray[np.int64]]) -> None:
    """Check before any model is trained that each ranking has the tokens of each budget."""
    total = sum(map(len, tokens))
    for budget in budgets:
        required = round(budget * total)
        if required < 1:
            raise DataError(
                f"evaluate.budgets: {budget}: no token of the pool's {total}; a larger fraction is required"
            )
        for name, order in rankings.items():
            available = sum(len(tokens[document]) for document in order.tolist())
            if available < required:
                raise DataError(
                    f"evaluate.budgets: {budget}: {required} tokens are required, documents scored by {name} have {available}"
                )


def read(spark: SparkSession, config: Config) -> list[Change]:
    """Read the results of a finished evaluation."""
    rows = delta.read(spark, config.table(schemas.EVALUATIONS_TABLE)).drop("verdict").collect()  # sets x selections
    return [Change(*row) for row in rows]


def _trained(settings: EvaluateConfig, documents: Tokens) -> LanguageModel:
    if settings.model == "ngram":
        return KneserNey(documents, order=settings.order, n_vocabulary=settings.vocabulary)
    from betr_spark.evaluate.transformer import Transformer  # noqa: PLC0415 - imports torch

    return Transformer(documents, settings=settings.transformer, n_vocabulary=settings.vocabulary)


def _items(spark: SparkSession, config: Config) -> list[tuple[str, str, list[str]]]:
    """Held-out items: name, kind, texts; of each file the first `evaluate.items`."""
    sets = []
    for name, target in config.targets.items():
        if target.test_path():
            _, items = examples_and_items(name, target, read_benchmark(spark, f"targets.{name}", target))
            sets.append((name, TARGET, [item.text for item in items[: config.evaluate.items]]))
    for name, off in config.evaluate.off_target.items():
        parts = parts_of(name, off, examples_of(name, off, read_content(spark, off.path)))
        texts = [item.text for item in parts.test or parts.train]  # without `split` every row is an item
        sets.append((name, OFF_TARGET, texts[: config.evaluate.items]))
    if too_small := [name for name, _, texts in sets if len(texts) < 2]:
        raise DataError(f"evaluate: {too_small[0]} has one held-out item; an interval requires at least two")
    return sets


def _sizes(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([len(text.encode("utf-8", "replace")) for text in texts], np.int64)
