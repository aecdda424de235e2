"""The pass as a function of a frame of documents, with or without their texts."""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.in_pass import ItemFinder
from betr_spark.corpus.parquet_texts import TEXT_ROW, TextColumn
from betr_spark.features.one_pass import one_pass
from betr_spark.features.token_counter import TokenCounter
from betr_spark.kernels.minhash import MinHasher
from betr_spark.ranking.direct import with_direct_logits
from betr_spark.schemas import TEST_ITEMS
from betr_spark.scoring.ngram_table import SharedTables


def transform_of(
    config: Config,
    shared_tables: Callable[[], SharedTables],
    token_counter: Callable[[], TokenCounter] | None,
    item_finder: Callable[[], ItemFinder] | None,
    texts: TextColumn | None,
) -> Callable[[DataFrame], DataFrame]:
    """Build what computes the features of documents that the input's stream gives.

    Args:
        config: the scorers and the sketch.
        shared_tables: see `one_pass`.
        token_counter: see `one_pass`.
        item_finder: see `one_pass`.
        texts: reads the texts of documents that come with numbers of rows; None if no documents do.
    """
    sketch, numbers = MinHasher(**config.minhash.model_dump()), [*config.direct(), *config.expressions()]
    lm_tokens = not config.input.tokens.are_words
    schema = schemas.features_schema(config.scored(), config.expressions(), lm_tokens=lm_tokens)
    found = "" if item_finder is None else f", {TEST_ITEMS} array<{schemas.TEST_ITEM}>"
    run_pass = one_pass(
        sketch, config.folded(), shared_tables, numbers=numbers, token_counter=token_counter, item_finder=item_finder
    )

    def read_and_run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        assert texts is not None
        return run_pass(texts.read(batches))

    def transform(documents: DataFrame) -> DataFrame:
        run = read_and_run if TEXT_ROW in documents.columns else run_pass
        return with_direct_logits(documents, config).mapInArrow(run, f"{schema}, {schemas.QUARANTINE}{found}")

    return transform
