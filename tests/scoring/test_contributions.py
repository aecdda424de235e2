"""What n-grams add to a logit, against the kernel that scores the corpus, for each kind of table."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.scoring.contributions import SHIFT, Explanation, LogitExplainer, tolerance
from betr_spark.scoring.dsir import LogRatioTable
from betr_spark.scoring.ngram_table import NgramTable, Table, stack
from betr_spark.scoring.score import score
from betr_spark.training.linear import RankedDocument, on_line, train_on_order
from betr_spark.training.records import Labelled

WORDS = ["</s>", "a", "b", "é", "漢字", "s>", "label__1", "costarring", "a" * 40]
OTHERS = ["unknown", "__label__1", "</s>", "__label", "😀", "\u200b", "A", "B.", "--", "\x7f"]
SPACES = [" ", "\n", "\t", "\0", "\x85", "\xa0", "\u2028", "\u3000", "  "]
SHIFT_OF_LINEAR = -2.5
BUCKETS = 7  # so few that pairs share buckets
pieces = st.one_of(st.sampled_from(WORDS), st.sampled_from(OTHERS), st.sampled_from(SPACES), st.text(max_size=3))
texts = st.lists(pieces, max_size=40).map("".join)


def table(word_ngrams: int, *, words: list[str] = WORDS) -> NgramTable:
    draw = np.random.default_rng(word_ngrams)
    weights = draw.normal(size=len(words)).astype(np.float32), draw.normal(size=BUCKETS).astype(np.float32)
    return NgramTable.build(words, *weights, word_ngrams=word_ngrams)


def log_ratios(*, per_feature: bool) -> LogRatioTable:
    target, raw = (np.random.default_rng(seed).integers(0, 50, BUCKETS) for seed in (1, 2))
    return LogRatioTable.fit(target, raw, per_feature=per_feature)


def scored(text: str, tables: list[Table]) -> list[float | None]:
    """The logits that `features` stores; null without a word."""
    words, logits = score(*as_buffers([text]), stack(tables))
    return [float(logit) if words[0] else None for logit in logits[0]]


def check(explanation: Explanation, logit: float | None) -> None:
    if logit is None:
        assert (explanation.logit, list(explanation.contributions)) == (None, [])
        return
    total = explanation.intercept + sum(part.value for part in explanation.contributions)
    assert explanation.logit == pytest.approx(total, abs=1e-9)
    assert abs(total - logit) <= tolerance(logit)
    values = [part.value for part in explanation.contributions]
    assert values == sorted(values, reverse=True)
    assert len({part.ngram for part in explanation.contributions}) == len(values)


def kinds() -> list[Table]:
    """Tables of 1 to 4 words, without `</s>`, of a linear model with its shift, and log-ratios."""
    without_end = [table(1, words=["a", "b"]), table(2, words=["a", "b", "costarring"])]
    linear = on_line(table(2), (1.75, SHIFT_OF_LINEAR))
    return [
        *[table(n) for n in (1, 2, 3, 4)], *without_end, linear, log_ratios(per_feature=True),
        log_ratios(per_feature=False),
    ]  # fmt: skip


TABLES = kinds()
STACKED = stack(TABLES)
EXPLAINERS = [LogitExplainer(each) for each in TABLES]
SHIFTED = LogitExplainer(TABLES[6], {"settings": {SHIFT: SHIFT_OF_LINEAR}})


@given(texts)
def test_contributions_add_up_to_the_logit_of_every_kind(text: str) -> None:
    words, logits = score(*as_buffers([text]), STACKED)
    stored = [float(logit) if words[0] else None for logit in logits[0]]
    for explainer, logit in zip(EXPLAINERS, stored, strict=True):
        check(explainer.explain(text), logit)
    shifted = SHIFTED.explain(text)
    assert shifted.intercept == SHIFT_OF_LINEAR
    check(shifted, stored[6])


@pytest.mark.parametrize("length", [3_000, 60_000])
def test_long_texts(length: int) -> None:
    pick = random.Random(length)
    text = " ".join(pick.choice([*WORDS, *OTHERS]) for _ in range(length))
    for each in (table(2), log_ratios(per_feature=True), log_ratios(per_feature=False)):
        check(LogitExplainer(each).explain(text), scored(text, [each])[0])


def test_the_tolerance_is_1e_5_but_for_logits_that_float32_rounds_more() -> None:
    assert [tolerance(logit) for logit in (0.0, -3.5, 60.0, -120.0)] == [1e-5] * 4
    assert tolerance(-3000.0) == 2.0**-12


def test_pairs_that_share_a_bucket_are_entries_of_their_own() -> None:
    one_bucket = NgramTable.build(["a"], np.array([2.0], np.float32), np.array([0.5], np.float32), word_ngrams=2)
    found = LogitExplainer(one_bucket).explain("a b a b")
    assert found.logit == pytest.approx((2 * 2.0 + 4 * 0.5) / 6)
    parts = {part.ngram: (part.times, round(part.value * 6, 9)) for part in found.contributions}
    assert parts == {"a": (2, 4.0), "a b": (2, 1.0), "b a": (1, 0.5), "b </s>": (1, 0.5)}
    ratios = LogRatioTable(np.array([-0.25], np.float32), per_feature=False)
    found = LogitExplainer(ratios).explain("The end, the END")
    parts = {part.ngram: (part.times, part.value) for part in found.contributions}
    assert parts == {
        "the": (2, -0.5), "end": (2, -0.5), ",": (1, -0.25), "the end": (2, -0.5), "end ,": (1, -0.25), ", the": (1, -0.25),
    }  # fmt: skip


def test_raised_and_lowered_begin_with_the_strongest_and_leave_out_the_other_sign() -> None:
    weights = np.array([3, -1, 2, -4, 0], np.float32)
    found = LogitExplainer(NgramTable.build(list("abcde"), weights, np.empty(0, np.float32), word_ngrams=1)).explain(
        "a b c d e a"
    )
    assert [(part.ngram, part.times) for part in found.raised(10)] == [("a", 2), ("c", 1)]
    assert [part.ngram for part in found.lowered(10)] == ["d", "b"]
    assert ([part.ngram for part in found.raised(1)], [part.ngram for part in found.lowered(1)]) == (["a"], ["d"])
    assert found.lowered(0) == []


def test_the_shift_of_a_linear_scorer_is_its_intercept() -> None:
    """So an n-gram that training has not seen contributes nothing, whether `scorer.json` has the shift or not."""
    pick = random.Random(3)
    shares = sorted((pick.random() for _ in range(400)), reverse=True)
    made_up = [
        " ".join(f"{'g' if pick.random() < share else 'b'}{pick.randrange(30)}" for _ in range(40)) for share in shares
    ]
    labels = np.array([share > 0.5 for share in shares[::4]], np.int8)
    ranked = [RankedDocument(text, i < 40, []) for i, text in enumerate(made_up)]
    (fitted,) = train_on_order(ranked, [[]], Labelled(made_up[::4], labels), [], name="s")
    assert isinstance(fitted.table, NgramTable)
    older = {name: value for name, value in fitted.settings.items() if name != SHIFT}
    for settings in (fitted.settings, older):
        explainer = LogitExplainer(fitted.table, {"settings": settings})
        found = explainer.explain(f"never seen before {made_up[0]}")
        check(found, scored(f"never seen before {made_up[0]}", [fitted.table])[0])
        assert found.intercept == pytest.approx(fitted.settings[SHIFT], abs=1e-6)
        assert found.intercept != 0
        unseen = [part for part in found.contributions if part.ngram in ("never seen", "seen before")]
        assert [part.value for part in unseen] == pytest.approx([0, 0], abs=1e-9)
        assert all(part.ngram.startswith("g") for part in found.raised(5))
