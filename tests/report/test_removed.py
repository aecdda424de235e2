"""What deduplication removed: counts by hand, diffs of short texts, and a finished run."""

from pathlib import Path
from typing import Any

from outcome_frames import outcomes_of

from betr_spark.config import load_config
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.outcomes import outcomes
from betr_spark.report.removed import (
    DELETED,
    EQUAL,
    INSERTED,
    SKIPPED,
    ComponentSizes,
    Segment,
    SourceLoss,
    component_sizes,
    removed,
    source_losses,
    word_diff,
    word_diffs,
)
from betr_spark.report.source_sums import source_sums
from betr_spark.report.texts import texts_of
from betr_spark.storage import delta


def test_components_are_counted_by_powers_of_two(spark: Any) -> None:
    rows = [("a", 2), ("b", 3), ("b", 3), ("c", 4), ("c", 4), ("c", 4), ("d", 7), *[("e", 2**30)] * 5]
    kinds = [(*row, "exact" if row[0] == "e" else "near") for row in rows]
    table = spark.createDataFrame(kinds, "component_id string, component_size bigint, kind string")
    sizes, counts = component_sizes(table)
    assert counts == (5, 7)
    assert sizes == [
        ComponentSizes(2, 3, 2, 5, 3),
        ComponentSizes(4, 7, 2, 11, 4),
        ComponentSizes(2**30, 2**31 - 1, 1, 2**30, 5),
    ]


def test_losses_are_those_of_the_largest_sources_and_of_all(spark: Any) -> None:
    rows = [
        ("1", "x", 10),
        ("2", "x", 20),
        ("3", None, 5),
        ("4", None, 6),
        *[(f"s{n}", f"s{n:02d}", 1) for n in range(30)],
    ]
    marked = [(source, n_tokens, doc_id in ("2", "3", "s7"), True) for doc_id, source, n_tokens in rows]
    documents = spark.createDataFrame(marked, "source string, n_tokens int, removed boolean, has_text boolean")
    losses, n_sources, total = source_losses(source_sums(outcomes_of(documents)))
    assert losses[:3] == [
        SourceLoss("x", 2, 30, 1, 20), SourceLoss("(none)", 2, 11, 1, 5), SourceLoss("s00", 1, 1, 0, 0),
    ]  # fmt: skip
    assert (len(losses), n_sources, total) == (20, 32, SourceLoss("(all)", 34, 71, 3, 26))


def test_a_diff_has_the_words_of_both_texts() -> None:
    kept, other = "One  two\nthree four", "One two 3 four five"
    assert word_diff(kept, other) == (
        [
            Segment(EQUAL, "One  two"), Segment(DELETED, "\nthree"), Segment(INSERTED, " 3"), Segment(EQUAL, " four"),
            Segment(INSERTED, " five"),
        ],
        True,
    )  # fmt: skip
    segments, _ = word_diff("東京は雨", "東京は晴れ")
    assert segments == [Segment(EQUAL, "東京は"), Segment(DELETED, "雨"), Segment(INSERTED, "晴れ")]
    assert word_diff("", "") == ([], True)


def test_a_diff_skips_what_is_equal_and_is_bounded() -> None:
    same = " ".join(f"w{n}" for n in range(1000))
    segments, is_whole = word_diff(f"{same} a {same} b", f"{same} c {same} b")
    assert segments[0] == Segment(SKIPPED, "988")
    assert segments[1].text.split() == [f"w{n}" for n in range(988, 1000)]
    assert segments[2:4] == [Segment(DELETED, " a"), Segment(INSERTED, " c")]
    assert (segments[-2].op, segments[-1].op, is_whole) == (SKIPPED, EQUAL, False)
    assert sum(len(segment.text.split()) for segment in segments) < 50
    whole, is_whole = word_diff(f"{same[:400]} a", f"{same[:400]} c")
    assert ([segment.op for segment in whole], is_whole) == ([SKIPPED, EQUAL, DELETED, INSERTED], True)
    unbroken, is_whole = word_diff("x" * 1_000_000, "x" * 999_999 + "y")
    assert sum(len(segment.text) for segment in unbroken) < 5000
    segments, _ = word_diff(same, same.replace(" ", "  "))
    assert segments == [Segment(EQUAL, " ".join(f"w{n}" for n in range(12))), Segment(SKIPPED, "988")]


def test_pairs_of_a_finished_run_have_diffs_and_one_scan_gives_their_texts(spark: Any, finished: Path) -> None:
    context = RunContext(spark, load_config(finished / "conf.yaml"))
    with outcomes(spark, context.config, []) as documents:
        sums = source_sums(documents)
    figures = removed(spark, context.config, sums, unit="words")
    assert removed(spark, context.config, sums, unit="words").pairs == figures.pairs
    rows = delta.read(spark, context.config.table("duplicates")).toPandas()
    near = rows[rows.kind == "near"]
    assert (figures.n_exact, figures.n_near) == (len(rows) - len(near), len(near))
    assert sum(part.removed for part in figures.sizes) == figures.total.removed_documents == len(rows)
    assert figures.total.documents == delta.read(spark, context.config.table("features")).count()
    assert len(figures.pairs) == min(10, len(near)) > 1
    assert {(pair.doc_id, pair.kept_doc_id) for pair in figures.pairs} <= {
        *zip(near.doc_id, near.kept_doc_id, strict=True)
    }
    texts = texts_of(context, [*figures.ids(), "unknown"])
    assert set(texts) == set(figures.ids())
    diffs = word_diffs(figures, texts)
    assert [diff.pair for diff in diffs] == figures.pairs
    changed = [segment.text.strip() for diff in diffs for segment in diff.segments if segment.op in (DELETED, INSERTED)]
    assert "changed" in changed  # the fixture's near copies have this word
    cut = texts_of(context, figures.ids()[:1], max_characters=7)
    assert cut == {name: texts[name][:7] for name in cut}
    assert texts_of(context, []) == {}
    assert texts_of(context, ["unknown"]) == {}
