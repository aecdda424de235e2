"""Figures of `dedup-eval` and their text."""

from typing import NamedTuple

from betr_spark.intervals import Rate


class Share(NamedTuple):
    """A share: `n` of the `of` pairs with a similarity in [low, high)."""

    low: float
    high: float
    n: int
    of: int

    def __str__(self) -> str:
        """Give the band, the counts and the interval."""
        band = f"[{self.low:.2f}, {'1.00]' if self.high > 1 else f'{self.high:.2f})'}"
        return f"{band:13} {Rate.of_counts(self.n, self.of)}"

    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson); (0, 1) without pairs."""
        rate = Rate.of_counts(self.n, self.of)
        return rate.low, rate.high


class Evaluation(NamedTuple):
    """Figures of one deduplication. Two documents are similar if their true similarity is at least `dedup.similarity`.

    Attributes:
        n_documents: distinct documents.
        n_sampled: sampled documents.
        precision: of the sampled documents that were removed as near-duplicates, those that are similar to the kept document;
            by recorded similarity.
        recall: of the similar pairs of a sampled document and any document, those that are not both kept; by true similarity.
        n_components: sampled components.
        inside: of the pairs inside these components, those that are similar.
        both_kept: of the similar pairs inside these components, those that are both kept.
    """

    n_documents: int
    n_sampled: int
    precision: list[Share]
    recall: list[Share]
    n_components: int
    inside: Share
    both_kept: Share

    def lines(self, similarity: float) -> list[str]:
        """Return the figures as lines of text."""
        sample = f"{self.n_sampled} of {self.n_documents} distinct documents"
        inside = f"{self.inside.n} of {self.inside.of} pairs are similar"
        return [
            f"similar: a true similarity of at least {similarity:g}",
            "precision: removed near-duplicates that are similar to the kept document, by recorded similarity",
            *(f"  {share}" for share in self.precision),
            f"recall: similar pairs of a sampled document ({sample}) and any document, not both kept, by true similarity",
            *(f"  {share}" for share in self.recall),
            f"{self.n_components} sampled components: {inside}; both documents are kept in {self.both_kept.n} of them",
        ]
