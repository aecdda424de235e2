"""Test items in the pass over the text: found with the words that MinHash needs anyway."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from betr_spark.contamination.index import Index
from betr_spark.contamination.matches import sketch_and_find_matches
from betr_spark.contamination.rows import contamination_of
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.minhash import MinHasher, MinHashes
from betr_spark.schemas import DOC_ID


class ItemFinder(NamedTuple):
    """What is looked for: the indexed items, and the share of an item's words that a document must have."""

    items: Index
    min_coverage: float

    def sketch_and_find(self, texts: pa.Array, hasher: MinHasher) -> tuple[MinHashes, pa.Array]:
        """Return what `hasher` returns, and the test items of each document, a list of `schemas.TEST_ITEM` structs.

        Args:
            texts: the documents, without nulls; n of them.
            hasher: the sketch.
        """
        data, offsets = string_buffers(texts)
        sketches, matches = sketch_and_find_matches(data, offsets, hasher, self.items.ngrams)
        numbers = pa.array(np.arange(len(texts)))
        rows = contamination_of(numbers, texts, matches, self.items, min_coverage=self.min_coverage).rows
        names = [name for name in rows.schema.names if name != DOC_ID]
        structs = pa.StructArray.from_arrays([rows.column(name) for name in names], names)
        bounds = np.searchsorted(rows.column(DOC_ID).to_numpy(), np.arange(len(texts) + 1)).astype(np.int32)
        return sketches, pa.ListArray.from_arrays(pa.array(bounds), structs)
