"""`decontam-eval`: the documents and the test items in which, and of which, leaks are planted; writes nothing."""

from pyspark.sql import functions as F

from betr_spark.config import Config, DecontaminateConfig
from betr_spark.contamination.detection import contaminated_texts
from betr_spark.contamination.evaluation import Evaluation, evaluate
from betr_spark.contamination.index import build_index
from betr_spark.contamination.test_files import read_items
from betr_spark.corpus.tombstones import without_forgotten
from betr_spark.errors import ConfigError
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, REASON, TEXT

_MAX_CHARACTERS = 20_000  # of a document, which bounds what the driver holds


def check(config: Config) -> DecontaminateConfig:
    """Return the settings.

    Raises:
        ConfigError: there are none.
    """
    if config.decontaminate is None:
        raise ConfigError("config.decontaminate: is missing; `betr-spark decontam-eval` requires it")
    return config.decontaminate


def measure(context: RunContext, *, documents: int, seed: int) -> Evaluation:
    """Plant test items in a sample of the input, and look for them. Reads the text of the corpus once; needs no finished run.

    The detector runs on the driver: the same code and settings as in the stage `decontaminate`.

    Args:
        context: of a configuration with `decontaminate`.
        documents: number of documents, drawn by a hash of the id; of each, the first 20,000 characters.
        seed: of the samples of documents and items, and of the places of the leaks.

    Raises:
        ConfigError, DataError: the input, a test file or its template is wrong.
    """
    spark, config, settings = context.spark, context.config, check(context.config)
    items = read_items(spark, config)
    index = build_index(items, n_min=settings.ngram[0], n_max=settings.ngram[1])
    usable = without_forgotten(context.input.documents(), config).where(F.col(REASON).isNull())
    drawn = usable.orderBy(F.xxhash64(F.lit(seed), DOC_ID), DOC_ID).limit(documents)
    rows = drawn.select(DOC_ID, F.substring(TEXT, 1, _MAX_CHARACTERS).alias(TEXT)).collect()  # bounded
    return evaluate(
        {row[DOC_ID]: row[TEXT] for row in rows},
        items,
        lambda texts: contaminated_texts(texts, index, min_coverage=settings.min_coverage),
        ngram=settings.ngram,
        seed=seed,
    )
