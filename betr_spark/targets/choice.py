"""Which rows of the benchmarks' files are targets: training examples, distinct, and balanced over the benchmarks."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from betr_spark.config.targets import TargetConfig
from betr_spark.errors import DataError
from betr_spark.targets.examples import Example


def distinct(examples: Mapping[str, list[Example]]) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """Drop examples that repeat an earlier one of any benchmark, ignoring white space and case.

    Returns:
        The examples that are left, and how many each benchmark lost.
    """
    seen: set[str] = set()
    left: dict[str, list[Example]] = {}
    for name, all_examples in examples.items():
        left[name] = []
        for example in all_examples:
            if (form := _normal(example.text)) not in seen:
                seen.add(form)
                left[name].append(example)
    return left, {name: len(examples[name]) - len(left[name]) for name in examples}


def check_not_in_test(benchmark: str, target: TargetConfig, train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raise DataError if a target repeats an item of its own benchmark's test file."""
    items = {_normal(item.text): item.row for item in test}
    for example in train:
        if (row := items.get(_normal(example.text))) is not None:
            raise DataError(
                f"{target.path}: example {example.row + 1} of targets.{benchmark} is item {row + 1} of its test file "
                f"{target.test}; targets must be TRAIN examples"
            )


class Parts(NamedTuple):
    """The rows of a benchmark's file: those that may be targets, and those that are test items."""

    train: list[Example]
    test: list[Example]


def parts_of(benchmark: str, target: TargetConfig, examples: list[Example]) -> Parts:
    """Divide the rows of a file by `split`: a row is a test item if the hash of its text is below the share.

    White space and case do not count, so texts that are equal but for these fall together. Without `split` no row is an item.

    Raises:
        DataError: a part has no row.
    """
    if target.split is None:
        return Parts(examples, [])
    parts = Parts([], [])
    for example in examples:
        digest = hashlib.sha256(b"split\0" + _normal(example.text).encode()).digest()
        is_test = int.from_bytes(digest[:8], "big") < target.split.test * 2**64
        parts[is_test].append(example)
    for part, name in zip(parts, ("training example", "test item"), strict=True):
        if not part:
            raise DataError(
                f"{target.path}: targets.{benchmark}.split leaves no {name} of {len(examples)} rows; "
                f"change test: {target.split.test:g}, or give a file with more distinct rows"
            )
    return parts


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def balanced(
    examples: Mapping[str, list[Example]], caps: Mapping[str, int | None], *, unbalanced: Collection[str] = ()
) -> list[Example]:
    """Take the same number from every benchmark: that of the smallest benchmark, or the smallest cap if it is less.

    A hash of the text decides which ones, so the order of the file does not matter; none is repeated.

    Args:
        examples: by benchmark.
        caps: largest number of each benchmark.
        unbalanced: benchmarks that do not take part: their number is their own, up to their own cap.

    Returns:
        Examples by benchmark in the given order, then by row.
    """
    limits = {name: min(len(every), caps[name] or len(every)) for name, every in examples.items()}
    count = min((limit for name, limit in limits.items() if name not in unbalanced), default=0)
    chosen = []
    for name, all_examples in examples.items():
        by_hash = sorted(all_examples, key=lambda e: (hashlib.sha256(e.text.encode()).digest(), e.row))
        chosen += sorted(by_hash[: limits[name] if name in unbalanced else count], key=lambda e: e.row)
    return chosen
