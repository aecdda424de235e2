"""Drawings as inline SVG: matplotlib draws with placeholder colours, which become the page's colours for light and dark."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholders, which no other part of a drawing has, and the variables of the page's style sheet.
INK, MUTED, GRID, SELECTED, REJECTED, ACCENT = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--line", SELECTED: "--selected", REJECTED: "--rejected", ACCENT: "--accent",
}  # fmt: skip
WIDTH, HEIGHT = 6.2, 3.3  # inches, 72 units of the drawing each
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "betr-spark", "text.parse_math": False, "font.size": 11, "axes.titlesize": 11,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK, "xtick.color": MUTED,
    "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.8, "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True,
    "axes.grid.axis": "y", "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 10.5, "axes.facecolor": "none",
    "figure.facecolor": "none", "savefig.facecolor": "none", "xtick.minor.visible": False, "ytick.minor.visible": False,
    "path.simplify": True,
}  # fmt: skip
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(url\(#|xlink:href="#)([^")]+)')
_FONT = re.compile(r"(?<=font-size: )([\d.]+px); font-family: [^;\"]*")
_GEOMETRY = re.compile(r' (?:d|x|y|transform|points|width|height)="[^"]*"')
_LEFT_OUT = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>|<!--.*?-->| transform=\"rotate\(-?0 [^\"]*\)\"", re.DOTALL
)


def draw(
    name: str, title: str, description: str, paint: Callable[["Axes"], None], *, width: float = WIDTH, height: float = HEIGHT
) -> Markup:  # fmt: skip
    """Draw one set of axes.

    Args:
        name: unique on the page; letters, digits and hyphens. Ids inside the drawing begin with it.
        title: for readers who do not see the drawing.
        description: what it shows, for the same readers.
        paint: draws into the axes, with the colours of this module.
        width: in inches of 72 units.
        height: as well.

    Returns:
        An `svg` element.
    """
    import matplotlib as mpl  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    file = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a name; the browser's fonts have it
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue(), name, title, description)


def _inline(svg: str, name: str, title: str, description: str) -> Markup:
    """The `svg` element of a file, with ids of its own and the page's colours and font."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = _LEFT_OUT.sub("", body)
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view is not None
    used = {match[2] for match in _REFERENCE.finditer(body)}
    body = _ID.sub(lambda match: f'id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = _REFERENCE.sub(lambda match: f"{match[1]}{name}-{match[2]}", body).replace("xlink:href=", "href=")
    body = _GEOMETRY.sub(lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), _FONT.sub(r"\1", body))
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"\s*\n\s*", " ", body).replace("<g >", "<g>")
    head = (
        f'<svg viewBox="{view[1]}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>'
    )
    return Markup(f"{head}{body}</svg>")  # noqa: S704 - matplotlib escapes every text of the drawing


def short(value: float) -> str:
    """A number for the tick of an axis: 1,500, 20 k, 3 M.

    >>> [short(value) for value in (0.001, 0.25, 12, 1500, 20_000, 3_500_000, 2e9)]
    ['0.001', '0.25', '12', '1,500', '20 k', '3.5 M', '2 G']
    """
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (size if size > 1e4 else 1e3):.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share for the tick of an axis.

    >>> [percent(share) for share in (0.001, 0.1, 1)]
    ['0.1 %', '10 %', '100 %']
    """
    return f"{100 * share:.3g} %"


def log_ticks(axis: Any, label: Callable[[float], str] = short, ticks: Sequence[float] | None = None) -> None:
    """Label the powers of ten of a logarithmic axis, or the given ticks, without mathematical text."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    axis.set_major_locator(LogLocator(10, numticks=8) if ticks is None else FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_formatter(NullFormatter())


def plain_ticks(axis: Any, label: Callable[[float], str] = short) -> None:
    """Label a linear axis, at most seven ticks."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
