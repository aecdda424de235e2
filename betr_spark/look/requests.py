"""What a request asks for, checked: an address may be typed, or be of another configuration."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping

from betr_spark.look.marks import BAD, GOOD
from betr_spark.look.tables import MOST, PAGE, Tables
from betr_spark.look.views import BEST, LABELS, RANDOM, SAMPLE, UNMARKED, WORST, Filters

ORDERS, MARKED = (BEST, WORST, RANDOM), (GOOD, BAD, UNMARKED)
_MAX_TEXT = 200
_MAX_ID = 4096


class RequestError(ValueError):
    """The request has a value that it cannot have."""


def filters_of(arguments: Mapping[str, str], tables: Tables) -> Filters:
    """The filters of an address; the first view where it names none.

    Raises:
        RequestError: a value is not one of those that are possible.
    """
    given = {field.name: arguments.get(field.name, "") for field in dataclasses.fields(Filters)}
    view = _one_of("view", given["view"] or next(iter(tables.views)), tables.views)
    is_sample = view == SAMPLE
    kept = [sign + name for sign in "+-" for name in tables.selections] if is_sample else []
    if len(given["text"]) > _MAX_TEXT:
        raise RequestError(f"text: at most {_MAX_TEXT} characters are possible")
    return Filters(
        view=view,
        source=given["source"],
        scorer=_one_of("scorer", given["scorer"], tables.scores.names if given["scorer"] and tables.scores else ()),
        low=_number("low", given["low"].strip()),
        high=_number("high", given["high"].strip()),
        benchmark=_one_of("benchmark", given["benchmark"], tables.config.targets),
        text=given["text"],
        mark=_one_of("mark", given["mark"], MARKED),
        label=_one_of("label", given["label"], LABELS if is_sample else ()),
        kept=_one_of("kept", given["kept"], kept),
        order=_one_of("order", given["order"] or BEST, ORDERS),
    )


def address_of(filters: Filters) -> dict[str, str]:
    """The arguments of an address that has these filters."""
    values = {name: value for name, value in dataclasses.asdict(filters).items() if value not in ("", None)}
    if filters.order == BEST:
        del values["order"]
    return {name: f"{value:.17g}" if isinstance(value, float) else str(value) for name, value in values.items()}


def page_of(arguments: Mapping[str, str]) -> int:
    """Number of a page, from 1."""
    return _whole("page", arguments.get("page", "1"), 1, MOST // PAGE)


def number_of(arguments: Mapping[str, str]) -> int | None:
    """Number of a document in its list, from 0; None where the address has none."""
    return _whole("n", arguments["n"], 0, MOST - 1) if arguments.get("n") else None


def part_of(arguments: Mapping[str, str]) -> int:
    """Number of a part of a text, from 1."""
    return _whole("part", arguments.get("part", "1"), 1, 100_000)


def doc_id_of(written: str) -> str:
    """An id from a form, which has it as a JSON string: forms change line breaks."""
    try:
        doc_id = json.loads(written)
    except ValueError:
        doc_id = None
    if not isinstance(doc_id, str) or not 0 < len(doc_id) <= _MAX_ID:
        raise RequestError(f"doc_id: a JSON string of 1 to {_MAX_ID} characters is required")
    return doc_id


def mark_of(written: str) -> str | None:
    """A mark from a form; None takes a mark back."""
    return None if _one_of("mark", written, MARKED) in ("", UNMARKED) else written


def _one_of(name: str, value: str, possible: Collection[str]) -> str:
    if value and value not in possible:
        raise RequestError(f"{name}: {value!r} is not one of: {', '.join(possible) or '(none)'}")
    return value


def _number(name: str, written: str) -> float | None:
    try:
        number = float(written) if written else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise RequestError(f"{name}: {written!r} is not a number")
    return number


def _whole(name: str, written: str, low: int, high: int) -> int:
    if not written.isdecimal() or len(written) > 9 or not low <= int(written) <= high:
        raise RequestError(f"{name}: {written!r} is not a whole number from {low} to {high}")
    return int(written)
