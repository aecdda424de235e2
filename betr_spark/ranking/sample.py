"""Stage `rank/sample`: the documents that are ranked and trained on; table `_sample` (texts)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import without_test_items
from betr_spark.contamination.test_files import items_key
from betr_spark.corpus.documents import check_unique
from betr_spark.corpus.sampling import sample
from betr_spark.corpus.tombstones import without_forgotten
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.schemas import DOC_ID, REASON, SOURCE, TEXT
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import delta
from betr_spark.storage.runs import StageKey


class Sample(Stage):
    """Draws the sample; in direct mode, the sample is the whole corpus.

    The key does not have the version of the input, because a grown input is not sampled again. In direct mode it has it.
    """

    rebuilds = True

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("rank/sample")

    def outputs(self, config: Config) -> Sequence[str]:
        """`_sample`."""
        return [config.table(schemas.SAMPLE_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The input's path and columns, and the size and seed of the sample."""
        return StageKey.of(self.name, sample_settings(context))

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with the input's files and columns."""
        yield from problems_of(lambda: context.input)

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Draw by a hash of the id."""
        config = context.config
        (path,) = self.outputs(config)
        ids = without_forgotten(context.input.ids(), config)
        ids = (ids.distinct() if config.input.id is None else ids).persist()  # read by the check and by each cut
        try:
            if config.input.id is not None:
                check_unique(ids, f"input.path: {config.input.path}")
            documents = (
                without_forgotten(context.input.documents(), config)
                .where(F.col(REASON).isNull())
                .select(DOC_ID, SOURCE, TEXT)
            )
            n_corpus = ids.count()
            n_documents = n_corpus if config.direct() else min(n_corpus, config.sample.documents)
            drawn = sample(documents, ids, n_documents=n_documents, seed=config.sample.seed, n_ids=n_corpus)
            usable = drawn.where(F.col(TEXT).rlike(r"(?U)[^\s\x00\x1c-\x1f]"))
            if config.input.id is None:
                usable = usable.groupBy(DOC_ID).agg(F.min(SOURCE).alias(SOURCE), F.first(TEXT).alias(TEXT))
            usable = usable.persist()  # counted, then written
            try:
                n_usable = usable.count()
                if n_usable == 0:
                    raise DataError(
                        f"input.path: {config.input.path}: no document with text in a sample of {n_documents}"
                    )
                clean, dropped = without_test_items(usable, config), {"without_text": n_documents - n_usable}
                if config.drops_contaminated():
                    dropped["contaminated"] = n_usable - clean.count()
                yield Result(
                    rows_in=n_corpus,
                    rows_out=n_usable - dropped.get("contaminated", 0),
                    dropped=dropped,
                    commit=lambda run: delta.overwrite(clean, path, user_metadata=run.to_json(), statistics=[DOC_ID]),
                )
            finally:
                usable.unpersist()
        finally:
            ids.unpersist()


def sample_settings(context: RunContext) -> dict[str, Any]:
    """What the sample depends on, for keys."""
    config = context.config
    mapping = config.input.model_dump(include={"path", "format", "id", "text", "source", "max_text_bytes"})
    drawn: object = config.sample
    if config.direct():
        drawn = {"all of": context.input.version}
    without = {"decontaminate": items_key(context.spark, config)} if config.drops_contaminated() else {}
    return {"input": mapping, "sample": drawn, **without}
