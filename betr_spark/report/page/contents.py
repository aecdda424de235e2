"""The sections of the page in their order, and why one of them is empty."""

from typing import NamedTuple


class Heading(NamedTuple):
    """A section: its id, title, one sentence about what it shows, and what an empty one says."""

    name: str
    title: str
    text: str
    empty: str


HEADINGS = (
    Heading(
        "verdict", "Verdict", "What the selection was asked for, what it has, and what to look at first.",
        "There is no table of this selection yet; `betr-spark select` writes it.",
    ),
    Heading(
        "funnel", "Rows", "Every row of the input: where it was left out and why, down to the selected documents.",
        "The input has not been read yet; `betr-spark features` reads it.",
    ),
    Heading(
        "scores", "Scores", "How many documents have which score, and where the selection cuts.",
        "The selection or its scores do not exist yet; `betr-spark run` computes them.",
    ),
    Heading(
        "what-if", "Other keep rates", "What the scorer would keep if the selection kept more or less.",
        "The selection or its scores do not exist yet; `betr-spark run` computes them.",
    ),
    Heading(
        "sources", "Sources", "The share of each source in the tokens of the corpus and of the selection.",
        "The selection does not exist yet; `betr-spark select` writes it.",
    ),
    Heading(
        "benchmarks", "Benchmarks", "What each benchmark contributed to the ranking, and how far the benchmarks agree.",
        "No sample was ranked by benchmarks; `betr-spark rank` does it if a scorer uses targets. With "
        "`labels.granularity: global` all benchmarks give one ranking, which says nothing about each of them.",
    ),
    Heading(
        "lengths", "Length", "Whether the score prefers short or long documents.",
        "The selection or its scores do not exist yet; `betr-spark run` computes them.",
    ),
    Heading(
        "trust", "Trust in the scorer",
        "How well the scorer agrees with the target ranking on documents that it was not trained on.",
        "No sample was ranked by benchmarks, so there is nothing to compare with; `betr-spark rank` ranks one.",
    ),
    Heading(
        "controls", "Controls and other scorers",
        "How the selection differs from the others, and whether it is closer to the targets.",
        "There is nothing to compare with yet; `betr-spark run` writes the selections and scores.",
    ),
    Heading(
        "duplicates", "Duplicates", "What deduplication removed, from which sources, and examples of pairs.",
        "Duplicates have not been looked for yet; `betr-spark dedup` does it.",
    ),
    Heading(
        "readings", "Readings", "Documents to read: the best, those at the cut, those just rejected, and random ones.",
        "There is no table of this selection yet; `betr-spark select` writes it.",
    ),
    Heading(
        "change", "Change", "What is different from the previous version of the selection.",
        "There is no previous version to compare with, or `betr-spark maintain` deleted its files. A `betr-spark run` that "
        "changes the selection makes one.",
    ),
    Heading(
        "cost", "Cost and provenance", "What each stage took, and what the tables were computed from.",
        "No run is recorded yet; `betr-spark run` records each stage.",
    ),
)  # fmt: skip
