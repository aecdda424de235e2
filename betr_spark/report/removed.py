"""What deduplication removed: sizes of components, the loss of each source, and removed documents beside the kept ones."""

import difflib
import re
from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.report.source_sums import DOCUMENTS, REMOVED_DOCUMENTS, REMOVED_TOKENS, TOKENS, SourceSums
from betr_spark.schemas import (
    COMPONENT_ID,
    COMPONENT_SIZE,
    DOC_ID,
    EVIDENCE,
    EXACT,
    KEPT_DOC_ID,
    KIND,
    NEAR,
    SIMILARITY,
)
from betr_spark.storage import delta

_PAIRS = 10
_MAX_WORDS = 400  # of a text in a diff
_CONTEXT = 12  # equal words that are shown on each side of a difference
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Chinese and Japanese have no spaces: each is a word
_WORDS = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]{{1,100}})")
EQUAL, DELETED, INSERTED, SKIPPED = "equal", "deleted", "inserted", "skipped"
_EXPONENT = "exponent"


class ComponentSizes(NamedTuple):
    """Components of `low` to `high` documents, kept ones included.

    Attributes:
        low: a power of two, 2 or more.
        high: 2 * low - 1.
        components: their number.
        documents: in these components.
        removed: of these documents.
    """

    low: int
    high: int
    components: int
    documents: int
    removed: int


class SourceLoss(NamedTuple):
    """Documents and tokens of a source, and how many of them deduplication removed."""

    source: str
    documents: int
    tokens: int
    removed_documents: int
    removed_tokens: int


class RemovedPair(NamedTuple):
    """A removed near-duplicate and the document that stays for it; `evidence` says where `similarity` comes from."""

    doc_id: str
    kept_doc_id: str
    similarity: float
    evidence: str


class Removed(NamedTuple):
    """Figures of `duplicates`; they are the same for all selections.

    Attributes:
        n_exact: removed exact copies.
        n_near: removed near-duplicates.
        sizes: of the components, by powers of two; powers without a component are left out.
        losses: of the sources with the most tokens, at most `source_sums.N_LARGEST`.
        n_sources: all sources.
        total: of all sources together.
        unit: what tokens are.
        pairs: at most ten near-duplicates, chosen by a hash of the id.
    """

    n_exact: int
    n_near: int
    sizes: list[ComponentSizes]
    losses: list[SourceLoss]
    n_sources: int
    total: SourceLoss
    unit: str
    pairs: list[RemovedPair]

    def ids(self) -> list[str]:
        """Documents whose texts `word_diffs` needs."""
        return list(dict.fromkeys([name for pair in self.pairs for name in (pair.doc_id, pair.kept_doc_id)]))


class Segment(NamedTuple):
    """A part of a diff: words of both texts (`equal`), of the kept one only (`deleted`), of the removed one only (`inserted`).

    `skipped` stands for words that are in both texts and are not shown; its text is their number.
    """

    op: str
    text: str


class WordDiff(NamedTuple):
    """How a removed document differs from the one that stays for it; `is_whole` is false if a text was cut."""

    pair: RemovedPair
    segments: list[Segment]
    is_whole: bool


def removed(spark: SparkSession, config: Config, sums: SourceSums, *, unit: str) -> Removed:
    """Count what deduplication removed; reads no text. Two aggregations of `duplicates`.

    Args:
        spark: the session.
        config: for the output.
        sums: over the sources.
        unit: what tokens are.
    """
    duplicates = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    losses, n_sources, total = source_losses(sums)
    sizes, (n_exact, n_near) = component_sizes(duplicates)
    order = [F.xxhash64(F.lit("report"), DOC_ID), F.col(DOC_ID)]
    near = duplicates.where(F.col(KIND) == NEAR).orderBy(*order).limit(_PAIRS)
    pairs = near.select(DOC_ID, KEPT_DOC_ID, F.col(SIMILARITY).cast("double"), EVIDENCE).collect()
    return Removed(
        n_exact=n_exact, n_near=n_near, sizes=sizes, losses=losses,
        n_sources=n_sources, total=total, unit=unit, pairs=[RemovedPair(*row) for row in pairs],
    )  # fmt: skip


def component_sizes(duplicates: DataFrame) -> tuple[list[ComponentSizes], tuple[int, int]]:
    """Count components by the power of two of their size, and the removed documents: exact copies and near-duplicates.

    Args:
        duplicates: kind, component_id, component_size; one row for each removed document.
    """
    kinds = [F.count_if(F.col(KIND) == kind).alias(kind) for kind in (EXACT, NEAR)]
    components = duplicates.groupBy(COMPONENT_ID).agg(
        F.max(COMPONENT_SIZE).alias(COMPONENT_SIZE), F.count("*").alias(DOCUMENTS), *kinds
    )
    exponent = (F.length(F.bin(COMPONENT_SIZE)) - 1).alias(_EXPONENT)  # exact, unlike a logarithm
    sums = [F.count("*"), F.sum(COMPONENT_SIZE), F.sum(DOCUMENTS), F.sum(EXACT), F.sum(NEAR)]
    rows = components.groupBy(exponent).agg(*sums).collect()  # at most 63
    sizes = [ComponentSizes(2 ** row[0], 2 ** (row[0] + 1) - 1, *map(int, row[1:4])) for row in sorted(rows)]
    return sizes, (sum(int(row[4]) for row in rows), sum(int(row[5]) for row in rows))


def source_losses(sums: SourceSums) -> tuple[list[SourceLoss], int, SourceLoss]:
    """Arrange the sums of removed documents.

    Returns:
        The sources with the most tokens, the number of all sources, and the sum over all sources.
    """
    names = (DOCUMENTS, TOKENS, REMOVED_DOCUMENTS, REMOVED_TOKENS)
    losses = [SourceLoss(source, *[sums.of_source[source][name] for name in names]) for source in sums.largest(TOKENS)]
    return losses, sums.n_sources, SourceLoss("(all)", *[sums.total[name] for name in names])


def word_diffs(figures: Removed, texts: Mapping[str, str]) -> list[WordDiff]:
    """Compare the pairs word by word; a pair without both texts is left out.

    Args:
        figures: for the pairs.
        texts: by id, as `report.texts.texts_of` reads them.
    """
    return [
        WordDiff(pair, *word_diff(texts[pair.kept_doc_id], texts[pair.doc_id]))
        for pair in figures.pairs
        if pair.doc_id in texts and pair.kept_doc_id in texts
    ]


def word_diff(kept: str, other: str, *, max_words: int = _MAX_WORDS) -> tuple[list[Segment], bool]:
    """Compare two texts word by word.

    White space belongs to the word after it, and a difference of white space alone is none; `equal` words are as in `kept`.
    A run of more than 100 characters without white space is several words.

    Args:
        kept: the text that stays.
        other: the one that was removed.
        max_words: of each text, counted from a little before the first difference; the rest is left out.

    Returns:
        The parts in their order, and whether they have both texts to the end.
    """
    left, right = _WORDS.findall(kept), _WORDS.findall(other)
    same = 0
    while same < min(len(left), len(right)) and left[same].strip() == right[same].strip():
        same += 1
    if same == len(left) == len(right):
        return _shortened(left, is_first=False, is_last=True), True
    start = max(0, same - _CONTEXT)
    is_whole = max(len(left), len(right)) - start <= max_words
    left, right = left[start : start + max_words], right[start : start + max_words]
    words = [piece.strip() for piece in left], [piece.strip() for piece in right]
    segments = [Segment(SKIPPED, str(start))] if start else []
    for op, a, a_end, b, b_end in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        if op == "equal":
            segments += _shortened(left[a:a_end], is_first=a == 0, is_last=a_end == len(left) and is_whole)
            continue
        segments += [Segment(DELETED, "".join(left[a:a_end]))] if a < a_end else []
        segments += [Segment(INSERTED, "".join(right[b:b_end]))] if b < b_end else []
    return segments, is_whole


def _shortened(words: list[str], *, is_first: bool, is_last: bool) -> list[Segment]:
    """Equal words without the middle of a long run; before the first and after the last difference without its far end."""
    before, after = 0 if is_first else _CONTEXT, 0 if is_last else _CONTEXT
    n_skipped = len(words) - before - after
    if n_skipped <= _CONTEXT:
        return [Segment(EQUAL, "".join(words))] if words else []
    parts = [(EQUAL, "".join(words[:before])), (SKIPPED, str(n_skipped)), (EQUAL, "".join(words[len(words) - after :]))]
    return [Segment(op, text) for op, text in parts if text]
