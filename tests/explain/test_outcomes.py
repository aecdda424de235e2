"""Why selections of every form leave documents out, on a scorer made by hand, against plain Python."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.explain.cut import Missed
from betr_spark.explain.document import explained
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DUPLICATES
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta

N = 40
ALL = [f"i{number:02d}" for number in range(N)]
SELECTIONS: dict[str, dict[str, Any]] = {
    "documents": {"keep": {"documents": 10}},
    "score": {"keep": {"min_score": 0.8}},
    "where": {"keep": {"documents": 5}, "where": "source = 'a'"},
    "quota": {"keep": {"documents": 12}, "quota": {"source": {"a": 0.25, "b": 0.5}}},
    "most": {"keep": {"documents": 12}, "max_fraction": {"source": 0.25}},
    "none": {"keep": {"documents": 0}},
    "control": {"keep": {"tokens_of": "documents"}, "stratified": True, "scorer": "random"},
    "drawn": {"keep": {"tokens": 200}, "sample": {"curve": {}}},
}


def source(number: int) -> str:
    return "abcd"[number % 4]


def words(number: int) -> int:
    return 2 + number % 5


@pytest.fixture(scope="module")
def found(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcomes of each document by selection. A document's logit falls with its number: its word is `wNUMBER`."""
    folder = tmp_path_factory.mktemp("outcomes")
    (folder / "docs").mkdir()
    texts = [" ".join([f"w{number}"] * words(number)) for number in range(N)]
    columns = {"id": ALL, "text": texts, "source": [source(number) for number in range(N)]}
    pq.write_table(pa.table(columns), folder / "docs/part.parquet")
    selections = {name: {"scorer": "betr", **settings} for name, settings in SELECTIONS.items()}
    values: dict[str, Any] = {
        "input": {"path": str(folder / "docs"), "id": "id", "source": "source"}, "output": str(folder / "out"),
        "targets": {"t": {"path": "none", "template": "{q}"}}, "selections": selections,
    }  # fmt: skip
    config = Config.model_validate(values)
    weights = np.linspace(4, -4, N, dtype=np.float32)
    table = NgramTable.build([f"w{number}" for number in range(N)], weights, np.empty(0, np.float32), word_ngrams=1)
    artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
    run_all(spark, config, "features")
    delta.overwrite(spark.createDataFrame([], DUPLICATES), config.table("duplicates"), user_metadata="")
    run_all(spark, config, "select")
    values |= {
        "scorers": {"betr": {}, "new": {}},
        "selections": {**selections, "later": {"scorer": "new", "keep": {"documents": 1}}},
    }
    later = Config.model_validate(values)  # a selection without a table says nothing about the others
    documents, unknown = explained(RunContext(spark, later), ALL)
    assert unknown == []
    return {
        name: {each.doc_id: {o.selection: o for o in each.selections}[name] for each in documents}
        for name in selections
    }


def ids(numbers: list[int]) -> list[str]:
    return [ALL[number] for number in numbers]


def check(outcome: Any, number: int, eligible: list[int], last: int | None, competing: list[int] | None = None) -> None:
    """The document was not kept: `last` is the last kept number of those that compete with it."""
    missed = outcome.missed
    assert (outcome.status, missed.position, missed.n_eligible) == (
        "below_cut",
        eligible.index(number) + 1,
        len(eligible),
    )
    between = [other for other in competing or eligible if (-1 if last is None else last) < other < number]
    assert (missed.by_documents, missed.by_tokens) == (len(between), sum(map(words, between)))
    assert missed.last_kept == (None if last is None else ALL[last])
    if last is not None:
        assert missed.by_logit == pytest.approx(8 / (N - 1) * (number - last), abs=1e-5)


def kept(outcomes: dict[str, Any]) -> list[int]:
    return [int(doc[1:]) for doc, outcome in outcomes.items() if outcome.status == "selected"]


@pytest.mark.parametrize(("name", "n_kept"), [("documents", 10), ("score", None), ("none", 0)])
def test_a_prefix(found: dict[str, Any], name: str, n_kept: int | None) -> None:
    everything = list(range(N))
    if n_kept is None:
        n_kept = sum(1 / (1 + np.exp(-logit)) >= 0.8 for logit in np.linspace(4, -4, N))
    assert kept(found[name]) == everything[:n_kept]
    for number in everything[n_kept:]:
        check(found[name][ALL[number]], number, everything, n_kept - 1 if n_kept else None)
    if name == "score":
        assert "score 0.01799, keep.min_score is 0.8" in found[name][ALL[-1]].why
    if name == "none":
        assert found[name][ALL[0]].why == "outranked: position 1 of 40 eligible documents; no document is kept"


def test_a_condition(found: dict[str, Any]) -> None:
    eligible = list(range(0, N, 4))
    assert kept(found["where"]) == eligible[:5]
    for number in range(N):
        outcome = found["where"][ALL[number]]
        if number % 4:
            assert (outcome.status, outcome.why, outcome.missed) == ("where", "not eligible: where: source = 'a'", None)
        elif number not in eligible[:5]:
            check(outcome, number, eligible, eligible[4])


def test_a_quota_is_a_cut_for_each_group(found: dict[str, Any]) -> None:
    groups = {"a": list(range(0, N, 4)), "b": list(range(1, N, 4)), "rest": sorted([*range(2, N, 4), *range(3, N, 4)])}
    ends = {"a": 3, "b": 6, "rest": 3}
    for name, group in groups.items():
        for place, number in enumerate(group):
            outcome = found["quota"][ALL[number]]
            if place < ends[name]:
                assert outcome.status == "selected"
            else:
                check(outcome, number, list(range(N)), group[ends[name] - 1], group)
                assert "the last kept document of its group" in outcome.why


def test_a_maximum_is_the_cut_of_its_value_or_of_all(found: dict[str, Any]) -> None:
    assert kept(found["most"]) == list(range(12))  # three of each source
    for number in range(12, N):
        check(found["most"][ALL[number]], number, list(range(N)), 11)


def test_a_control_by_source_competes_within_the_source(found: dict[str, Any]) -> None:
    tokens = {name: sum(words(n) for n in range(10) if source(n) == name) for name in "abcd"}
    for name in "abcd":
        mine = [number for number in range(N) if source(number) == name]
        chosen = [number for number in mine if found["control"][ALL[number]].status == "selected"]
        assert sum(map(words, chosen)) <= tokens[name]
        for number in set(mine) - set(chosen):
            missed = found["control"][ALL[number]].missed
            assert missed.by_logit is None or missed.by_logit >= 0
            assert missed.by_documents < len(mine)


def test_repeats_that_are_drawn(found: dict[str, Any]) -> None:
    chosen = kept(found["drawn"])
    assert sum(
        row["repeat_count"] * words(int(doc[1:])) for doc, o in found["drawn"].items() for row in o.rows
    ) in range(190, 201)
    for number in set(range(max(chosen))) - set(chosen):
        assert found["drawn"][ALL[number]].why.startswith("not drawn: position ")


@pytest.mark.parametrize(
    ("keep", "is_longer"), [({"tokens": 10}, True), ({"documents": 2}, False), ({"min_score": 0.8}, False)]
)
def test_the_next_document_of_a_budget_of_tokens_is_longer_than_what_is_left(keep: Any, is_longer: bool) -> None:
    selections = {"s": {"scorer": "random", "keep": keep}}
    config = Config.model_validate({"input": {"path": "i"}, "output": "o", "scorers": {}, "selections": selections})
    missed = Missed(3, 9, None, 0.5, last_kept="a", last_logit=1.0, by_logit=0.5, by_documents=0, by_tokens=0)
    assert missed.why(config.selections["s"], config).endswith("what is left of the budget") == is_longer
