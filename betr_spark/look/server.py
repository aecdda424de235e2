"""The server of the page, for one person: it listens on 127.0.0.1 and nowhere else."""

import socket

import flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from betr_spark.errors import SetupError

HOST = "127.0.0.1"


class _Quiet(WSGIRequestHandler):
    """Writes no line for a request: its address has the token."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


def bind(app: flask.Flask, port: int) -> BaseWSGIServer:
    """Bind a server to a port of this machine, 0 for a free one; `serve_forever` answers requests until Ctrl-C.

    Raises:
        SetupError: the port is in use or not allowed.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise SetupError(
            f"--port: {port} cannot be used ({error.strerror}); name another, or 0 for a free one"
        ) from None
    # A browser opens connections in advance, which would stop a server of one thread.
    with listening:  # the server has a copy
        bound = listening.getsockname()[1]
        return make_server(HOST, bound, app, threaded=True, request_handler=_Quiet, fd=listening.fileno())
