"""The pages: a list of documents, a document, the marks. They work without JavaScript."""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import flask
import jinja2
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from betr_spark.errors import BetrSparkError
from betr_spark.look import requests as asked
from betr_spark.look.export import export_marks
from betr_spark.look.marks import EXPORTS, Marks
from betr_spark.look.recent import Recent
from betr_spark.look.security import Secrets, nonce, protect
from betr_spark.look.tables import EXCERPT, MOST, N_CHARACTERS, PAGE, PART, Tables
from betr_spark.look.views import SAMPLE, Filters, Hit
from betr_spark.report.characters import pieces
from betr_spark.schemas import BY_BENCHMARK, TEXT
from betr_spark.spark.error_messages import user_error

_LISTS, _PAGES, _DOCUMENTS = 32, 64, 16  # results that are kept
_FORM_BYTES = 2**16
_BAD_REQUEST, _NOT_FOUND, _FAILED, _TO_THE_PAGE = 400, 404, 500, 303
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Site:
    """What the pages are made of; results are kept, so that a page that is shown again, as after a mark, runs no query."""

    tables: Tables
    marks: Marks
    lists: Recent[list[Hit]] = dataclasses.field(default_factory=lambda: Recent(_LISTS))
    pages: Recent[dict[Hit, dict[str, Any]]] = dataclasses.field(default_factory=lambda: Recent(_PAGES))
    documents: Recent[dict[str, Any]] = dataclasses.field(default_factory=lambda: Recent(_DOCUMENTS))
    sources: Recent[list[str]] = dataclasses.field(default_factory=lambda: Recent(_LISTS))

    def hits(self, filters: Filters, *, again: bool = False) -> list[Hit]:
        """The documents of a list."""
        return self.lists.get(filters, lambda: self.tables.hits(filters, self.marks.all()), again=again)

    def list_page(self, filters: Filters, page: int, *, again: bool) -> dict[str, Any]:
        """What a page of a list shows; with `again` the query is run again."""
        hits = self.hits(filters, again=again)
        view, first = self.tables.views[filters.view], (page - 1) * PAGE
        shown = hits[first : min(first + PAGE, MOST)]
        key = (filters.view, filters.text, tuple(shown))
        rows = self.pages.get(key, lambda: self.tables.excerpts(view, shown, filters.text) if shown else {})
        scores = self.tables.scores
        return {
            "filters": filters, "page": page, "first": first, "shown": [(hit, rows[hit]) for hit in shown if hit in rows],
            "n_hits": (n_hits := min(len(hits), MOST)), "more": len(hits) > MOST, "last_page": max(1, math.ceil(n_hits / PAGE)),
            "sources": self.sources.get(filters.view, lambda: self.tables.sources(view)),
            "scorers": scores.names if scores else [], "has_score": view.score is not None,
            "benchmarks": list(self.tables.config.targets) if self.tables.has_benchmarks(view) else [],
        }  # fmt: skip

    def document_page(self, filters: Filters, doc_id: str, number: int | None, part: int) -> dict[str, Any] | None:
        """What the page of a document shows; None where the view does not have it."""

        def read() -> dict[str, Any]:
            row = self.tables.document(self.tables.views[filters.view], doc_id, part - 1)
            if row is None:
                return {}
            scores = self.tables.scores
            return {
                "row": row,
                "scores": scores.document(doc_id) if scores else [],
                "places": self.tables.places(doc_id),
            }

        read_before = self.documents.get((filters.view, doc_id, part), read)
        if not read_before:
            return None
        row = read_before["row"]
        facts = {name: value for name, value in row.items() if name not in (TEXT, N_CHARACTERS, BY_BENCHMARK)}
        hits = self.hits(filters) if number is not None else []
        around = {"before": (number or 0) - 1, "after": (number or 0) + 1}
        near = {name: (n, hits[n].doc_id) for name, n in around.items() if 0 <= n < min(len(hits), MOST)}
        return {
            **read_before, "filters": filters, "number": number, "near": near, "facts": facts, "part": part,
            "n_parts": max(1, math.ceil(row[N_CHARACTERS] / PART)), "by_benchmark": row.get(BY_BENCHMARK) or {},
        }  # fmt: skip


def create_app(tables: Tables, marks: Marks, keys: Secrets) -> flask.Flask:
    """Make the application.

    Args:
        tables: to read.
        marks: to read and to add to.
        keys: that requests must have.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _FORM_BYTES
    site = Site(tables, marks)
    _prepare_templates(app, site, keys)
    protect(app, keys)
    _add_errors(app)
    _add_pages(app, site)
    return app


def _prepare_templates(app: flask.Flask, site: Site, keys: Secrets) -> None:
    app.jinja_options = {
        "autoescape": True,
        "undefined": jinja2.StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
    }
    app.jinja_env.filters |= {"pieces": pieces, "as_json": json.dumps, "shown": _shown}
    app.jinja_env.globals |= {
        "nonce": nonce, "form_token": keys.form, "marks": site.marks, "output": site.tables.config.output,
        "views": list(site.tables.views), "selections": site.tables.selections, "address_of": asked.address_of,
        "SAMPLE": SAMPLE, "EXCERPT": EXCERPT, "PAGE": PAGE, "EXPORTS": EXPORTS,
    }  # fmt: skip


def _add_errors(app: flask.Flask) -> None:
    def page(message: str, code: int) -> tuple[str, int]:
        return flask.render_template("error.html", message=message), code

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[str, int]:
        return page(error.description or error.name, error.code or _FAILED)

    @app.errorhandler(asked.RequestError)
    def request(error: asked.RequestError) -> tuple[str, int]:
        return page(str(error), _BAD_REQUEST)

    @app.errorhandler(Exception)
    def other(error: Exception) -> tuple[str, int]:
        known = error if isinstance(error, BetrSparkError) else user_error(error)
        if known is None:
            _logger.exception("look: %s", flask.request.path, exc_info=error)
        code = _BAD_REQUEST if isinstance(error, BetrSparkError) else _FAILED  # such as too few marks for an export
        return page(str(known or "The query failed; the terminal of `betr-spark look` says why."), code)


def _add_pages(app: flask.Flask, site: Site) -> None:
    @app.get("/")
    def first() -> Response:
        return flask.redirect(flask.url_for("documents"), _TO_THE_PAGE)

    @app.get("/documents")
    def documents() -> str:
        given = flask.request.args.to_dict()
        filters = asked.filters_of(given, site.tables)
        shown = site.list_page(filters, asked.page_of(given), again="page" not in given)
        return flask.render_template("documents.html", **shown)

    @app.get("/document")
    def document() -> str:
        given = flask.request.args.to_dict()
        filters, number = asked.filters_of(given, site.tables), asked.number_of(given)
        shown = site.document_page(filters, given.get("id", ""), number, asked.part_of(given))
        if shown is None:
            flask.abort(_NOT_FOUND, f"{filters.view} has no document with this id.")
        return flask.render_template("document.html", **shown)

    @app.post("/mark")
    def mark() -> Response:
        given, form = flask.request.args.to_dict(), flask.request.form
        filters = asked.filters_of(given, site.tables)
        doc_id = asked.doc_id_of(form.get("doc_id", ""))
        site.marks.set(doc_id, asked.mark_of(form.get("mark", "")), view=filters.view)
        return flask.redirect(_back(filters, doc_id, given), _TO_THE_PAGE)

    @app.get("/marks")
    def marked() -> str:
        return flask.render_template(
            "marks.html", exported=None, recent=list(site.marks.all().items())[: -PAGE - 1 : -1]
        )

    @app.post("/export")
    def export() -> str:
        kind = flask.request.form.get("kind", "")
        if kind not in EXPORTS:
            raise asked.RequestError(f"kind: {kind!r} is not one of: {', '.join(EXPORTS)}")
        exported = export_marks(site.tables, site.marks, kind)
        recent = list(site.marks.all().items())[: -PAGE - 1 : -1]
        return flask.render_template("marks.html", exported=exported, recent=recent)


def _back(filters: Filters, doc_id: str, given: Mapping[str, str]) -> str:
    """The page that a mark was made on, at the document."""
    number = asked.number_of(given)
    place: dict[str, Any] = dict(asked.address_of(filters))
    if given.get("from") == "document":
        return flask.url_for("document", **place, id=doc_id, n=number, part=asked.part_of(given))
    return flask.url_for("documents", **place, page=asked.page_of(given), _anchor=f"d{number or 0}")


def _shown(value: Any) -> str:
    """A number or another value of a table, for people."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
