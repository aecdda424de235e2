"""Who may use the page: the person who started it, in a browser on this machine or through a tunnel to it.

The server listens on 127.0.0.1. Other users of the machine can connect too, so every request needs the secret that is a part of
the printed address; a cookie keeps it. The Host header must name this machine, or a page of the web could reach the server by a
name of its own (DNS rebinding). A request that changes something needs a token that only the page's own forms have.
"""

import hmac
import secrets
from typing import NamedTuple
from urllib.parse import urlsplit

import flask
from werkzeug.wrappers import Response

HOSTS = ("127.0.0.1", "localhost")
_REFUSED = 403


class Secrets(NamedTuple):
    """Of one server; `token` is in its address, `form` in its forms."""

    token: str
    form: str

    @classmethod
    def new(cls) -> "Secrets":
        """Draw both."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24))


def protect(app: flask.Flask, keys: Secrets) -> None:
    """Check every request of an application, and add the headers that tell the browser what a page may do."""

    @app.before_request
    def check() -> Response | None:
        request = flask.request
        if not _is_local(request.environ.get("HTTP_HOST", "")):
            flask.abort(_REFUSED, "The host name of the address is not 127.0.0.1 or localhost.")
        if request.method == "GET" and _same(request.args.get("token"), keys.token):
            arguments = {**(request.view_args or {}), **request.args.to_dict()}
            arguments.pop("token")
            answer = flask.redirect(flask.url_for(request.endpoint or "first", **arguments), 303)
            answer.set_cookie(_cookie(), keys.token, httponly=True, samesite="Lax")
            return answer
        if not _same(request.cookies.get(_cookie()), keys.token):
            flask.abort(_REFUSED, "Open the whole address that `betr-spark look` printed.")
        if request.method == "POST" and not _same(request.form.get("form_token"), keys.form):
            flask.abort(_REFUSED, "The form is of another server; load the page again.")
        return None

    @app.after_request
    def headers(answer: Response) -> Response:
        policy = "default-src 'none'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        answer.headers["Content-Security-Policy"] = f"{policy}; style-src 'nonce-{nonce()}'"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["X-Frame-Options"] = "DENY"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        answer.headers["Cache-Control"] = "no-store"
        return answer


def nonce() -> str:
    """The number that the style of this answer carries, so that no style in a text has an effect."""
    if "nonce" not in flask.g:
        flask.g.nonce = secrets.token_urlsafe(16)
    return str(flask.g.nonce)


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in HOSTS
    except ValueError:
        return False


def _same(given: str | None, secret: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), secret.encode())


def _cookie() -> str:
    """Cookies are shared by all ports of a host, so each server has a name of its own."""
    return f"betr_spark_look_{flask.request.environ.get('SERVER_PORT', '')}"
