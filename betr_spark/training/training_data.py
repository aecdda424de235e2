"""What each kind of scorer is made of: labelled texts, a fitted log-ratio, or a model that is there already."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.config.scorers import ClassifierScorer, DsirScorer, FastTextScorer, FittedScorer, TeacherScorer
from betr_spark.corpus.documents import quoted
from betr_spark.errors import ArtifactError, DataError, SchemaError
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.ranking.labels import BENCHMARKS, benchmark_labels, with_labels, with_split
from betr_spark.schemas import DOC_ID, LABEL, SCORE, SPLIT, TEXT, TRAIN
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.targets.examples import examples_of
from betr_spark.targets.reading import read_benchmark, read_content, read_targets, targets_of
from betr_spark.training.fasttext_file import check_model_file
from betr_spark.training.fold import fold


def versions(spark: SparkSession, scorer: FittedScorer) -> dict[str, str]:
    """Versions of what a scorer is made of besides the ranked sample, for its key."""
    if isinstance(scorer, FastTextScorer):
        return {"model": hadoop_files.version(spark, scorer.path)}
    if isinstance(scorer, TeacherScorer):
        if scorer.format == "delta":
            return {"teacher": f"{delta.table_id(spark, scorer.path)}:{runs.input_version(spark, scorer.path)}"}
        return {"teacher": hadoop_files.fingerprint(hadoop_files.listing(spark, scorer.path))}
    if isinstance(scorer, ClassifierScorer) and scorer.positives is not None:
        return {"positives": read_benchmark(spark, scorer.positives).digest()}
    return {}


def labelled(spark: SparkSession, config: Config, name: str, ranked: DataFrame, texts: DataFrame) -> DataFrame:
    """Documents to train and validate on: doc_id, text, label, split.

    Args:
        spark: the session.
        config: for targets and the scorer.
        name: of a scorer that fastText is trained for.
        ranked: the ranked sample.
        texts: doc_id, text; of the sample.
    """
    scorer = config.scorers[name]
    if isinstance(scorer, TeacherScorer):
        scored = _teacher_scores(spark, scorer, name).join(texts.select(DOC_ID), on=DOC_ID, how="left_semi")
        count = scored.count()
        if not count:
            raise DataError(f"scorers.{name}.path: {scorer.path}: no document of the sample has a score")
        order = [F.desc(SCORE), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        labels = with_labels(scored, order, n_documents=count, positive_fraction=scorer.positive_fraction)
    elif isinstance(scorer, ClassifierScorer):
        return _positives_against_sample(spark, config, name, scorer, texts)
    else:
        labels = ranked
    return labels.where(F.col(LABEL).isNotNull()).select(DOC_ID, LABEL, SPLIT).join(texts, on=DOC_ID, how="inner")


def labelled_by_benchmark(config: Config, ranked: DataFrame, texts: DataFrame) -> DataFrame:
    """Documents to train and validate a head a benchmark on: doc_id, text, label, benchmarks (their numbers), split.

    Those of `ranked` that have a label, and those that are among the best of a benchmark.
    """
    fraction = config.labels.positive_fraction
    best = benchmark_labels(ranked, list(config.targets), n_documents=ranked.count(), positive_fraction=fraction)
    rows = ranked.join(best, on=DOC_ID, how="left").where(F.col(LABEL).isNotNull() | F.col(BENCHMARKS).isNotNull())
    own = F.coalesce(BENCHMARKS, F.array().cast("array<int>")).alias(BENCHMARKS)
    split = F.coalesce(SPLIT, F.lit(TRAIN)).alias(SPLIT)
    return rows.select(DOC_ID, LABEL, own, split).join(texts, on=DOC_ID, how="inner")


def _teacher_scores(spark: SparkSession, scorer: TeacherScorer, name: str) -> DataFrame:
    where = f"scorers.{name}.path: {scorer.path}"
    read = delta.read(spark, scorer.path) if scorer.format == "delta" else spark.read.parquet(scorer.path)
    if lacking := [column for column in (scorer.id, scorer.score) if column not in read.columns]:
        raise SchemaError(f"{where}: no column '{lacking[0]}'; found {', '.join(read.columns)}")
    score = F.col(quoted(scorer.score)).cast("double")
    rows = read.select(F.col(quoted(scorer.id)).cast("string").alias(DOC_ID), score.alias(SCORE))
    return rows.where(score.isNotNull() & ~F.isnan(score)).groupBy(DOC_ID).agg(F.max(SCORE).alias(SCORE))


def _positives_against_sample(
    spark: SparkSession, config: Config, name: str, scorer: ClassifierScorer, texts: DataFrame
) -> DataFrame:
    """Distinct positives, and as many documents of the sample, chosen by a hash."""
    if scorer.positives is not None:
        found = examples_of(f"scorers.{name}.positives", scorer.positives, read_content(spark, scorer.positives.path))
    else:
        found = targets_of(config.targets, read_targets(spark, config))
    unique = sorted({example.text for example in found})  # examples: few, whatever the corpus
    rows = [(f"positive-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}", text, 1) for text in unique]
    positives = spark.createDataFrame(rows, f"{DOC_ID} string, {TEXT} string, {LABEL} int")
    mixed = F.xxhash64(F.lit(f"negative {scorer.seed}"), DOC_ID)
    negatives = texts.orderBy(mixed, DOC_ID).limit(len(rows)).select(DOC_ID, TEXT, F.lit(0).alias(LABEL))
    return with_split(positives.unionByName(negatives))


def examples_by_benchmark(spark: SparkSession, config: Config) -> dict[str, list[str]]:
    """Texts of the targets' examples, those that the sample is ranked by, in the order of the configuration."""
    found: dict[str, list[str]] = {name: [] for name in config.targets}
    for example in targets_of(config.targets, read_targets(spark, config)):
        found[example.benchmark].append(example.text)
    return found


def fitted_ratio(spark: SparkSession, config: Config, scorer: DsirScorer, texts: DataFrame) -> LogRatioTable:
    """Fit DSIR's log-ratio: the examples of all targets against the sample."""
    examples = as_buffers([text for texts in examples_by_benchmark(spark, config).values() for text in texts])
    n_buckets = scorer.buckets

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = np.zeros(n_buckets, np.int64)
        for batch in batches:
            counts += bucket_counts(*as_buffers(batch.column(TEXT).to_pylist()), n_buckets=n_buckets)
        yield pa.RecordBatch.from_arrays([pa.array([counts.tobytes()], pa.binary())], ["counts"])

    parts = (
        texts.select(TEXT).coalesce(spark.sparkContext.defaultParallelism).mapInArrow(count, "counts binary").collect()
    )
    raw = sum((np.frombuffer(row["counts"], np.int64) for row in parts), np.zeros(n_buckets, np.int64))
    target = bucket_counts(*examples, n_buckets=n_buckets)
    return LogRatioTable.fit(target, raw, per_feature=scorer.normalize == "mean")


def folded_model(spark: SparkSession, scorer: FastTextScorer, name: str) -> NgramTable:
    """Fold a user's fastText model.

    Raises:
        ArtifactError: it is none, is cut short, or does not fold.
    """
    import fasttext  # noqa: PLC0415 - the driver alone needs it

    with tempfile.TemporaryDirectory(prefix="betr-spark-model-") as folder:
        local = Path(folder) / "model.bin"
        hadoop_files.fetch(spark, scorer.path, local)
        where = f"scorers.{name}.path: {scorer.path}"
        check_model_file(local, name=where)
        try:
            return fold(fasttext.load_model(str(local)), positive=scorer.label)
        except ArtifactError as error:
            raise ArtifactError(f"{where}: {error}") from None
        except (MemoryError, OSError, RuntimeError, ValueError) as error:  # bytes that no fastText wrote
            raise ArtifactError(f"{where}: not a fastText model that can be read ({error})") from None
