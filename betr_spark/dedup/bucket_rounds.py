"""Comparison within buckets in rounds; a task continues with its remaining documents as long as they fit into its memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.bucket_representatives import BucketRepresentatives, Compared, Members

REMAINING_BYTES = 2**26  # of remaining documents that a task keeps for its next round
_ROWS = 4096


class BucketRounds:
    """Compares the documents of buckets, round after round.

    All documents of a bucket are in one stream, and so are those of the smaller buckets that they form. So the next round needs
    no shuffle: it sorts what remains in memory. If that is more than `memory_bytes`, it is left to the caller, who brings the
    documents of each bucket together again.

    Attributes:
        left: Members of the next round for the caller, from the latest call of `compare`.
    """

    def __init__(
        self, *, n_values: int, least_equal: int, enough_equal: int, round_: int, memory_bytes: int = REMAINING_BYTES
    ) -> None:
        """Start before the first bucket; the first four arguments are those of `BucketRepresentatives`.

        Args:
            n_values: values of a signature, P.
            least_equal: pairs with fewer equal values are not returned.
            enough_equal: a document with this many equal values is similar to the representative.
            round_: number of the first round.
            memory_bytes: of remaining documents that are kept; the peak is three times this.
        """
        self._settings = {"n_values": n_values, "least_equal": least_equal, "enough_equal": enough_equal}
        self._round = round_
        self._memory_bytes = memory_bytes
        self._representatives = BucketRepresentatives(**self._settings, round_=round_)
        self._remaining: list[Members] = []
        self._n_bytes = 0
        self._fits = True
        self.left: list[Members] = []

    def compare(self, members: Members) -> Compared:
        """Compare the next documents of a stream that is sorted by bucket, previously kept documents first, rank key."""
        compared = self._representatives.compare(members)
        remaining = _rows(members, compared.remaining)._replace(buckets=compared.next_buckets)
        self._remaining.append(remaining)
        self._n_bytes += sum(column.nbytes for column in remaining)
        self._fits &= self._n_bytes <= self._memory_bytes
        self.left = []
        if not self._fits:
            self.left, self._remaining = self._remaining, []
        return compared

    def later_rounds(self) -> Iterator[tuple[Members, Compared]]:
        """Compare what remains until nothing does; nothing if it was left to the caller. Yields members and their result."""
        while sum(len(some.buckets) for some in self._remaining):
            members = Members._make(np.concatenate(columns) for columns in zip(*self._remaining, strict=True))
            members = _rows(members, _order(members))
            self._remaining = []
            self._round += 1
            representatives = BucketRepresentatives(**self._settings, round_=self._round)
            for start in range(0, len(members.buckets), _ROWS):
                some = Members._make(column[start : start + _ROWS] for column in members)
                compared = representatives.compare(some)
                self._remaining.append(_rows(some, compared.remaining)._replace(buckets=compared.next_buckets))
                yield some, compared


def _rows(members: Members, rows: NDArray[np.integer[Any]]) -> Members:
    return Members._make(np.take(column, rows, axis=0) for column in members)


def _order(members: Members) -> NDArray[np.int64]:
    """Rows by bucket, previously kept documents first, rank key."""
    high, middle = np.ascontiguousarray(members.rank_keys[:, :16]).view(">u8").reshape(-1, 2).T
    low = np.ascontiguousarray(members.rank_keys[:, 16:]).view(">u4").reshape(-1)
    return np.lexsort((low, middle, high, ~members.previously_kept, members.buckets))
