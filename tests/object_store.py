"""An S3 store on this machine (moto's server), its objects over plain HTTP, and a proxy that can take it away."""

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple, Self

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
ENDPOINT = "spark.hadoop.fs.s3a.endpoint"
SETTINGS = {
    f"{ENDPOINT}.region": "us-east-1",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    "spark.hadoop.fs.s3a.aws.credentials.provider": "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider",
}

# The server checks no signature; it tells requests with one from those of strangers, who may not read.
SIGNATURE = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
SIGNED = {"Authorization": SIGNATURE, "Content-Type": "application/octet-stream"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Answer(NamedTuple):
    status: int
    body: bytes


class Store:
    """A bucket of a server that checks no credentials, for requests of the test itself."""

    def __init__(self, server: Path, bucket: str) -> None:
        self.port, self.bucket = free_port(), bucket
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [server, "-H", "127.0.0.1", "-p", str(self.port)], stdout=self.output, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 120
        while self.request("GET", "").status == 0:
            assert time.monotonic() < deadline, "the server did not start in two minutes"
            assert self._process.poll() is None, "the server has ended"
            time.sleep(0.2)
        assert self.request("PUT", "").status == 200

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self.output.close()

    def request(self, method: str, key: str, body: bytes | None = None, *, query: str = "") -> Answer:
        url = f"http://127.0.0.1:{self.port}/{self.bucket}/{urllib.parse.quote(key)}{query}"
        request = urllib.request.Request(url, data=body, method=method, headers=SIGNED)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())
        except OSError:
            return Answer(0, b"")

    def control(self, path: str, body: bytes) -> None:
        """A request to moto's own interface."""
        url = f"http://127.0.0.1:{self.port}/moto-api/{path}"
        urllib.request.urlopen(urllib.request.Request(url, data=body, headers=SIGNED), timeout=60)

    def upload(self, folder: Path, prefix: str) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                answer = self.request("PUT", f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
                assert answer.status == 200, answer

    def names(self, prefix: str = "") -> list[str]:
        keys: list[str] = []
        more: str | None = ""
        while more is not None:
            query = {"list-type": "2", "prefix": prefix, **({"continuation-token": more} if more else {})}
            answer = self.request("GET", "", query=f"?{urllib.parse.urlencode(query)}")
            if answer.status == 500:  # moto cannot list while another thread adds a key
                continue
            page = ET.fromstring(answer.body)
            keys += [str(key.text) for key in page.iter(f"{NAMESPACE}Key")]
            more = page.findtext(f"{NAMESPACE}NextContinuationToken")
        return keys

    def download(self, prefix: str, folder: Path) -> Path:
        for key in self.names(prefix):
            if not key.endswith("/"):
                file = folder / key
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.request("GET", key).body)
        return folder / prefix.rstrip("/")


class Proxy:
    """Passes connections on to a port, until it is told to break them and to refuse new ones."""

    def __init__(self, port: int) -> None:
        self._target, self.port = port, free_port()
        self._down, self._stopped = threading.Event(), threading.Event()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.accepted = 0
        self._listen()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.down()

    def down(self) -> None:
        self._down.set()

    def up(self) -> None:
        self._down.clear()

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(128)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            if self._down.is_set():
                if self._listener is not None:  # a port that nobody listens on refuses connections
                    self._listener.close()
                    self._listener = None
                time.sleep(0.02)
                continue
            if self._listener is None:
                self._listen()
            assert self._listener is not None
            if select.select([self._listener], [], [], 0.05)[0]:
                client, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()
        if self._listener is not None:
            self._listener.close()

    def _pass_on(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            other = {client: server, server: client}
            while not self._down.is_set():
                for readable in select.select(list(other), [], [], 0.05)[0]:
                    data = readable.recv(1 << 16)
                    if not data:
                        return
                    other[readable].sendall(data)


def configured(conf: Path, folder: Path, *, endpoint: int, jars: Path, **more: str) -> Path:
    """A copy of a Spark configuration, with the settings of a store; no credentials are in it."""
    folder.mkdir(parents=True)
    for file in conf.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    values = {**SETTINGS, ENDPOINT: f"http://127.0.0.1:{endpoint}", "spark.driver.extraClassPath": f"{jars}/*", **more}
    with (folder / "spark-defaults.conf").open("a", encoding="utf-8") as defaults:
        defaults.writelines(f"{name} {value}\n" for name, value in values.items())
    return folder


def without_credentials(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")} | {
        "AWS_EC2_METADATA_DISABLED": "true", "HOME": environment.get("HOME", os.sep)
    }  # fmt: skip
