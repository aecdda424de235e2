"""`report.outcomes.Outcomes` of one frame that says what became of each document."""

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.report.outcomes import Outcomes
from betr_spark.selection.tally import ALL, DROPPED, KEPT, Part, Populations


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
    dropped, columns = (
        rows.where("removed or left_out"),
        dict(zip(selections, [*own, *own[-1:] * len(selections)], strict=False)),
    )
    parts = [Part(role, frame.select("n_tokens", *own), columns) for role, frame in ((ALL, rows), (DROPPED, dropped))]
    for name, column in columns.items():
        parts.append(Part(KEPT, kept[name].select("n_tokens", F.col("logit").alias(column)), {name: column}))
    return Outcomes(rows, Populations(parts, in_memory=True), dropped, kept, "words", logits or {})
