"""`report.outcomes.Outcomes` of one frame that says what became of each document."""

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.report.outcomes import Outcomes


def outcomes_of(rows: DataFrame, selections: Sequence[str] = (), logits: Mapping[str, str] | None = None) -> Outcomes:
    """Split a frame; each selection ranks by the logit of its position, or by the first one.

    Args:
        rows: any of doc_id, source, n_tokens, has_text, removed, left_out, logit_N, and times_N for each selection.
        selections: names.
        logits: columns by scorer.
    """
    missing = {
        "doc_id": F.monotonically_increasing_id().cast("string"), "source": F.lit("a"), "has_text": F.lit(True),
        "removed": F.lit(False), "left_out": F.lit(False),
    }  # fmt: skip
    rows = rows.withColumns({name: of for name, of in missing.items() if name not in rows.columns})
    own = list((logits or {}).values())
    kept = {}
    for number, name in enumerate(selections):
        logit = F.col(own[min(number, len(own) - 1)]) if own else F.lit(None).cast("double")
        columns = ["doc_id", "source", "n_tokens", logit.alias("logit"), F.col(f"times_{number}").alias("times")]
        kept[name] = rows.where(F.col(f"times_{number}") > 0).select(columns)
    return Outcomes(rows, rows, rows.where("removed or left_out"), kept, "words", logits or {})
