"""The page as one HTML file: templates, drawings and how numbers are written."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from betr_spark.report.characters import visible
from betr_spark.report.page.contents import HEADINGS
from betr_spark.report.page.drawing import short
from betr_spark.report.page.drawings import drawn
from betr_spark.report.page.gather import PageFigures

MAX_BYTES = 3_000_000
_LIMITS = (2_000, 500)  # characters of a document's text


def render(page: PageFigures, drawings: Sequence[Mapping[str, Markup]] | None = None) -> bytes:
    """Write the page. If it would be larger than 3 MB, it has shorter texts, then fewer selections, and says so.

    Args:
        page: its figures.
        drawings: of each selection, by name; drawn now if they are not given.
    """
    n_all = len(page.selections)
    if drawings is None:
        drawings = [drawn(position, each.scores, each.trust) for position, each in enumerate(page.selections)]
    for n_shown in [n_all, *(n for n in (n_all // 2, n_all // 4, n_all // 8, 1) if 0 < n < n_all)]:
        for limit in _LIMITS:
            content = _html(page._replace(selections=page.selections[:n_shown]), limit, n_all, drawings).encode(
                "utf-8", "replace"
            )
            if len(content) <= MAX_BYTES:
                return content
    return content


def _html(page: PageFigures, limit: int, n_all: int, drawings: Sequence[Mapping[str, Markup]]) -> str:
    environment = Environment(
        loader=PackageLoader("betr_spark.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "count": lambda value: f"{value:,}", "short": short, "share": share, "number": number, "lift": lift,
        "change": lambda value: f"{100 * value:+.2f} %", "visible": visible, "code": code, "capital": capital, "time": time,
    }  # fmt: skip
    style, _, _ = environment.loader.get_source(environment, "style.css")  # type: ignore[union-attr]
    positions = {selection.name: position for position, selection in enumerate(page.selections)}
    template = environment.get_template("page.html")
    return template.render(
        page=page, headings=HEADINGS, style=Markup(style), drawings=drawings, positions=positions, limit=limit,  # noqa: S704
        n_not_shown=n_all - len(page.selections),
    )  # fmt: skip


def share(value: float) -> str:
    """A share as a percentage with three digits; shares near 0 and 1 are not rounded to them.

    >>> [share(value) for value in (0, 0.1, 0.12345, 0.00012, 0.00000012, 0.99999, 1)]
    ['0 %', '10 %', '12.3 %', '0.012 %', '< 0.001 %', '> 99.9 %', '100 %']
    """
    if 0 < value < 1e-5:
        return "< 0.001 %"
    if 0.999 < value < 1:
        return "> 99.9 %" if value >= 0.9995 else f"{100 * value:.1f} %"
    return f"{100 * value:.3g} %" if value >= 0.001 or not value else f"{100 * value:.2g} %"


def number(value: float) -> str:
    """A number with four digits.

    >>> [number(value) for value in (0.123456, 12345.6, -3.0, 1e-7, float("nan"), float("inf"))]
    ['0.1235', '12,346', '-3', '1e-07', '–', '∞']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def lift(value: float) -> str:
    """A ratio with two decimals, or three digits.

    >>> [lift(value) for value in (0.001, 0.5, 12.345, 1234.5)]
    ['0.00', '0.50', '12.3', '1,234']
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def code(text: str) -> Markup:
    """Mark what is between backticks as code; everything is escaped."""
    parts: list[Any] = re.split(r"`([^`]+)`", visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if position % 2 else escape(part) for position, part in enumerate(parts)
    )


def time(milliseconds: int) -> str:
    """A time in UTC.

    >>> time(0)
    '1970-01-01 00:00 UTC'
    """
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
