"""Exact copies: documents of equal content hash, represented by one of them."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.schemas import CONTENT_HASH, DOC_ID, SIGNATURE, SOURCE

NEW, REMOVED = "new", "removed"
REPRESENTATIVE, REPRESENTATIVE_ID, COPIES = "representative", "representative_id", "copies"
_FIRST = "first"


def with_copies(documents: DataFrame) -> DataFrame:
    """Find documents of equal content, in one shuffle.

    The representative is the best document that an earlier run kept; without one, the best document that an earlier run
    removed, so that its copies are removed for the same document; without one, the best document.

    Args:
        documents: doc_id, content_hash, rank_key, new (not seen by an earlier run), removed (by an earlier run), signature;
            one row a document; other columns are kept.

    Returns:
        The rows of `documents` with representative (a rank key) and representative_id (its doc_id), both null on a document
        that is the only one of its content, and copies (documents of equal content, this one included). `signature` is null
        on a document that takes no part in the search for near-duplicates: one that has none, that an earlier run removed,
        or that is not the representative.
    """
    same = Window.partitionBy(CONTENT_HASH)
    first = F.min(F.struct(NEW, REMOVED, RANK_KEY, DOC_ID)).over(same)
    grouped = documents.withColumns({_FIRST: first, COPIES: F.count("*").over(same)})
    takes_part = (F.col(RANK_KEY) == F.col(_FIRST)[RANK_KEY]) & ~F.col(REMOVED)
    has_copies = F.col(COPIES) > 1
    return grouped.withColumns(
        {
            SIGNATURE: F.when(takes_part, F.col(SIGNATURE)),
            REPRESENTATIVE: F.when(has_copies, F.col(_FIRST)[RANK_KEY]),
            REPRESENTATIVE_ID: F.when(has_copies, F.col(_FIRST)[DOC_ID]),
        }
    ).drop(_FIRST)


def copies_of(documents: DataFrame) -> DataFrame:
    """Select the documents that are not the only ones of their content.

    Args:
        documents: as `with_copies` gives them.

    Returns:
        doc_id, source, rank_key, representative, representative_id, copies.
    """
    columns = [DOC_ID, SOURCE, RANK_KEY, REPRESENTATIVE, REPRESENTATIVE_ID, COPIES]
    return documents.where(F.col(COPIES) > 1).select(*columns)
