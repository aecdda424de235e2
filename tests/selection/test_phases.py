"""Phases: tokens exact to one document, repeats within the limit, ranks that continue."""

import random
from typing import Any

import pytest

from betr_spark.config import SelectionConfig
from betr_spark.errors import DataError
from betr_spark.selection.budget import Budget, with_order, within_budget
from betr_spark.selection.kept import Kept
from betr_spark.selection.phases import split_into_phases

SCHEMA = "doc_id string, logit double, n_tokens int, n_bytes int"
BROAD = {"name": "broad", "tokens": 700}
FINAL = {"name": "final", "tokens": 300, "keep": {"token_fraction": 0.1}}


def materialise(frame: Any) -> Any:
    return frame.localCheckpoint()


def configured(**more: Any) -> SelectionConfig:
    values = {"scorer": "a", "keep": {"token_fraction": 0.5}, "phases": [BROAD, FINAL], "max_repeats": 8, **more}
    return SelectionConfig.model_validate(values)


def split(frame: Any, selection: SelectionConfig, n_tokens: int) -> list[Any]:
    def keep(eligible: Any, phase: Any) -> Any:
        return within_budget(eligible, Budget.of(phase.keep or selection.keep, n_tokens=n_tokens))

    return split_into_phases(frame, selection, keep, where="selections.s.phases", materialise=materialise)


@pytest.fixture(scope="module")
def ordered(spark: Any) -> Any:
    pick = random.Random(3)
    rows = [(f"d{i}", pick.choice([0.5, 1.5, float(i)]), pick.randint(1, 20), 9) for i in range(100)]
    return with_order(spark.createDataFrame(rows, SCHEMA).repartition(3)).persist()


@pytest.mark.parametrize("disjoint", [False, True])
def test_each_phase_reads_its_tokens_and_repeats_evenly(ordered: Any, disjoint: bool) -> None:
    n_tokens = sum(row["n_tokens"] for row in ordered.collect())
    selection = configured(disjoint=disjoint)
    broad, final = (phase.collect() for phase in split(ordered, selection, n_tokens))
    for rows, tokens, name in ((broad, 700, "broad"), (final, 300, "final")):
        read = sum(row["n_tokens"] * row["repeat_count"] for row in rows)
        assert tokens - 20 < read <= tokens
        assert {row["phase"] for row in rows} == {name}
        counts = {row["repeat_count"] for row in rows}
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1
    best = {row["doc_id"] for row in final}
    assert (best & {row["doc_id"] for row in broad} == set()) == disjoint
    assert min(row["logit"] for row in final) >= max(
        row["logit"] for row in ordered.collect() if row["doc_id"] not in best
    )


def test_the_same_documents_are_repeated_for_any_partitions(ordered: Any) -> None:
    selection = configured()

    def counts(frame: Any) -> list[Any]:
        return [
            sorted((row["doc_id"], row["repeat_count"]) for row in p.collect()) for p in split(frame, selection, 900)
        ]

    assert counts(ordered) == counts(ordered.repartition(7))


def test_ranks_continue_from_phase_to_phase(ordered: Any) -> None:
    kept = Kept.none()
    for part in split(ordered, configured(), 900):
        kept = kept.followed_by(part, materialise=materialise)
    assert kept.rows is not None
    rows = kept.rows.orderBy("rank").collect()
    assert [row["rank"] for row in rows] == list(range(1, kept.n_rows + 1))
    assert [row["phase"] for row in rows] == sorted(row["phase"] for row in rows)
    logits = {name: [row["logit"] for row in rows if row["phase"] == name] for name in ("broad", "final")}
    assert all(values == sorted(values, reverse=True) for values in logits.values())
    assert kept.repeated_tokens == sum(row["n_tokens"] * row["repeat_count"] for row in rows)


def test_too_many_repeats_and_an_empty_phase_are_named(ordered: Any) -> None:
    with pytest.raises(
        DataError, match=r"selections.s.phases: a document would be repeated \d+ times over all phases, max_re"
    ):
        split(ordered, configured(max_repeats=1), 900)
    huge = {"name": "broad", "tokens": 10**15}
    with pytest.raises(DataError, match="would be repeated [0-9]{10,} times"):
        split(ordered, configured(phases=[huge]), 900)
    empty = {"name": "broad", "tokens": 5, "keep": {"documents": 0}}
    with pytest.raises(DataError, match=r"selections.s.phases.broad: no document is left for this phase, 5 tokens are"):
        split(ordered, configured(phases=[empty, FINAL]), 900)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"phases": [BROAD, BROAD]}, "two phases have the same name"),
        ({"phases": [], "disjoint": True}, "max_repeats and disjoint: only possible with phases"),
        ({"keep": {"tokens_of": "other"}}, "phases: cannot be given with sample or keep.tokens_of"),
        ({"phases": [{**FINAL, "keep": {"tokens_of": "x"}}]}, "phases.final.keep: tokens_of is not possible"),
        (
            {"phases": [{**FINAL, "keep": {"min_score": 0.5}}], "max_fraction": {"source": 0.5}},
            "phases.final.keep: quota",
        ),
    ],
)
def test_wrong_phases_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configured(**more)
