"""`betr-spark evaluate`: models trained on what each scorer puts first, and on random documents; table `evaluations`."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import RANDOM_SCORER, Config
from betr_spark.config.evaluate import EvaluateConfig
from betr_spark.config.scorers import RandomScorer
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import ConfigError, DataError
from betr_spark.evaluate.benefit import GENERAL, OFF_TARGET, TARGET, Change, Items, LanguageModel, Tokens, changes
from betr_spark.evaluate.byte_pairs import encode, train_tokenizer
from betr_spark.evaluate.kneser_ney import KneserNey
from betr_spark.evaluate.plot import plot
from betr_spark.pipeline.stage import Result, RunContext, Stage, problems_of
from betr_spark.schemas import DOC_ID, N_WORDS, REASON, TEXT
from betr_spark.scoring.logit import logit_of
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.runs import StageKey
from betr_spark.targets.examples import examples_of
from betr_spark.targets.reading import Benchmark, examples_and_items, read_benchmark, read_content

PLOT = "evaluation.png"
_MOST_CHARACTERS = 200_000  # of a document of the pool
_TOKENIZER_TEXTS = 5_000
_GENERAL_ONE_IN = 5  # of a corpus that is smaller than slice and pool, at most
_ORDER, _HASH = "order", "hash"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pool:
    """Documents in the order of a hash: ordinary text, the other texts, and each scorer's ranking of these, the best first."""

    general: list[str]
    texts: list[str]
    rankings: dict[str, NDArray[np.int64]]


def scorers_of(config: Config) -> list[str]:
    """Scorers to evaluate: those of the selections, but for random ones, which are the controls."""
    names = dict.fromkeys(selection.scorer for selection in config.selections.values())
    return [n for n in names if n != RANDOM_SCORER and not isinstance(config.scorers.get(n), RandomScorer)]


def check(config: Config) -> None:
    """Tell whether there is something to evaluate, and something to evaluate it on.

    Raises:
        ConfigError: there is not.
    """
    if not scorers_of(config):
        raise ConfigError("config.selections: none with a scorer other than random, so there is nothing to evaluate")
    if not any(target.test for target in config.targets.values()):
        raise ConfigError("config.targets: none has a `test` file; held-out items are what models are evaluated on")
    if taken := [name for name in config.evaluate.off_target if name in (*config.targets, GENERAL)]:
        raise ConfigError(f"config.evaluate.off_target.{taken[0]}: items of this name are evaluated already")


def caveats(config: Config) -> list[str]:
    """What to know of a finished evaluation: its models, what was not measured, what may not be concluded."""
    settings, unmeasured = config.evaluate, [name for name, target in config.targets.items() if not target.test]
    shape = settings.transformer
    model = f"{settings.order}-gram models (modified Kneser-Ney)"
    if settings.model == "transformer":
        model = f"transformers of {shape.layers} layers, width {shape.width}, context {shape.context}"
    trained = f"read by {model} trained on equal numbers of byte pairs ({settings.vocabulary} in the vocabulary)"
    lines = [f"{trained}; a check of direction, not a forecast of a large model's accuracy"]
    return lines + [f"not measured, for want of a `test` file: {', '.join(unmeasured)}"] * bool(unmeasured)


class Evaluate(Stage):
    """Trains small language models on what each selection's scorer ranks first, and reads held-out items with them."""

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
        tests = {f"items.{name}": target.test for name, target in config.targets.items() if target.test}
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
            "targets": {name: target.model_dump() for name, target in config.targets.items()},
            "input": config.input.model_dump(exclude={"max_batch_bytes"}),
        }
        return StageKey.of(self.name, settings, **versions, **items)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with off-target files."""
        for name, off in context.config.evaluate.off_target.items():
            yield from problems_of(lambda n=name, o=off: examples_of(n, o, read_content(context.spark, o.path)))  # type: ignore[misc]

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Draw the pool, train and read for each budget, plot."""
        spark, config = context.spark, context.config
        check(config)
        names, settings = scorers_of(config), config.evaluate
        (path,) = self.outputs(config)
        items = _items(spark, config)
        pool = _pool(spark, config, names)
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
        """Draw the plot again where it was deleted."""
        if not hadoop_files.exists(context.spark, context.config.table(PLOT)):
            _draw(context.spark, context.config, read(context.spark, context.config))


def _draw(spark: SparkSession, config: Config, found: Sequence[Change]) -> None:
    picture = io.BytesIO()
    plot(found, picture)
    hadoop_files.write_bytes(spark, config.table(PLOT), picture.getvalue())


def _check_budgets(budgets: Sequence[float], tokens: Tokens, rankings: Mapping[str, NDArray[np.int64]]) -> None:
    """Tell before any model is trained whether each ranking has the tokens of each budget."""
    total = sum(map(len, tokens))
    for budget in budgets:
        wanted = round(budget * total)
        if wanted < 1:
            raise DataError(f"evaluate.budgets: {budget}: no token of the pool's {total}; a larger fraction is wanted")
        for name, order in rankings.items():
            there = sum(len(tokens[document]) for document in order.tolist())
            if there < wanted:
                raise DataError(
                    f"evaluate.budgets: {budget}: {wanted} tokens are wanted, the documents that {name} scores have {there}"
                )


def read(spark: SparkSession, config: Config) -> list[Change]:
    """Read what a finished evaluation found."""
    rows = delta.read(spark, config.table(schemas.EVALUATIONS_TABLE)).drop("verdict").collect()  # sets x selections
    return [Change(*row) for row in rows]


def _trained(settings: EvaluateConfig, documents: Tokens) -> LanguageModel:
    if settings.model == "ngram":
        return KneserNey(documents, order=settings.order, n_vocabulary=settings.vocabulary)
    from betr_spark.evaluate.transformer import Transformer  # noqa: PLC0415 - torch, where it is wanted

    return Transformer(documents, settings=settings.transformer, n_vocabulary=settings.vocabulary)


def _items(spark: SparkSession, config: Config) -> list[tuple[str, str, list[str]]]:
    """Held-out items: name, kind, texts, at most `evaluate.items` of a file, the first ones."""
    found = []
    for name, target in config.targets.items():
        if target.test:
            _, items = examples_and_items(name, target, read_benchmark(spark, target))
            found.append((name, TARGET, [item.text for item in items[: config.evaluate.items]]))
    for name, off in config.evaluate.off_target.items():
        texts = [item.text for item in examples_of(name, off, read_content(spark, off.path))]
        found.append((name, OFF_TARGET, texts[: config.evaluate.items]))
    if few := [name for name, _, texts in found if len(texts) < 2]:
        raise DataError(f"evaluate: {few[0]} has one held-out item; two are the least that an interval can be made of")
    return found


def _sizes(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.array([len(text.encode("utf-8", "replace")) for text in texts], np.int64)


def _pool(spark: SparkSession, config: Config, names: Sequence[str]) -> _Pool:
    """Draw the general slice and the pool by a hash; the driver holds their texts, as many as the settings say."""
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE)).where(F.col(N_WORDS) > 0)
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE)).select(DOC_ID)
    survivors = features.join(removed, on=DOC_ID, how="left_anti")
    logits = [logit_of(config, name).alias(schemas.logit_column(name)) for name in names]
    rows = survivors.select(
        DOC_ID, F.xxhash64(F.lit("evaluation"), DOC_ID).alias(_ORDER), F.xxhash64(DOC_ID).alias(_HASH), *logits
    )
    drawn = rows.orderBy(_ORDER, DOC_ID).limit(config.evaluate.general + config.evaluate.documents)
    documents = InputSnapshot.scored(spark, config).documents().where(F.col(REASON).isNull())
    texts = documents.select(DOC_ID, F.substring(TEXT, 1, _MOST_CHARACTERS).alias(TEXT))
    found: pa.Table = texts.join(F.broadcast(drawn), on=DOC_ID, how="inner").toArrow()
    ids, drawn_at = found.column(DOC_ID).to_pylist(), found.column(_ORDER).to_pylist()
    rows_in_order = sorted(range(len(ids)), key=lambda row: (drawn_at[row], ids[row]))
    single = [
        row for row, last in zip(rows_in_order, [-1, *rows_in_order], strict=False) if last < 0 or ids[row] != ids[last]
    ]
    n_general, wanted = config.evaluate.general, config.evaluate.general + config.evaluate.documents
    if len(single) < wanted and n_general > len(single) // _GENERAL_ONE_IN:
        n_general = len(single) // _GENERAL_ONE_IN
        if n_general < 2:
            least = 2 * _GENERAL_ONE_IN
            raise DataError(
                f"evaluate: the corpus has {len(single)} documents after deduplication; {least} are the least"
            )
        _logger.warning("evaluate.general: %d, 1 in %d of the documents there are", n_general, _GENERAL_ONE_IN)
    texts_found = found.column(TEXT).to_pylist()
    pool = single[n_general:]
    by_id = np.empty(len(pool), np.int64)
    by_id[sorted(range(len(pool)), key=lambda place: ids[pool[place]])] = np.arange(len(pool))
    hashes = found.column(_HASH).to_numpy()[pool]
    rankings = {}
    for name in names:
        logit = found.column(schemas.logit_column(name)).to_numpy()[pool]
        order = np.lexsort([by_id, hashes, -logit])
        rankings[name] = order[~np.isnan(logit[order])]
    return _Pool([texts_found[row] for row in single[:n_general]], [texts_found[row] for row in pool], rankings)
