"""A store on this machine with the corpus and the targets in it, and the pipeline in processes of its own."""

import os
import random
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import settings, write_config, write_parquet
from object_store import Store, configured, without_credentials

BUCKET = "lake"
OUT = f"s3a://{BUCKET}/out"


class Credentials:
    """Random ones, so that a search finds nothing else."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        self.key = "AKIA" + "".join(pick.choices(string.ascii_uppercase + string.digits, k=16))
        letters = "".join(pick.choices(string.ascii_letters + string.digits, k=36))
        self.secret = f"{letters[:12]}/{letters[12:24]}+{letters[24:]}"

    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def found_in(self, content: bytes) -> bool:
        encoded = self.secret.replace("/", "%2F").replace("+", "%2B")
        return any(word.encode() in content for word in (self.key, self.secret, encoded, self.secret.partition("/")[0]))


class Lake:
    """The store, and how processes of the pipeline reach it; everything that they print or write locally is kept."""

    def __init__(
        self, store: Store, credentials: Credentials, jars: Path, conf: Path, folder: Path, config: Path
    ) -> None:
        self.store, self.credentials, self.config, self.folder = store, credentials, config, folder
        self._jars, self._conf, self._confs = jars, conf, 0
        self.printed: list[str] = []

    def environment(self, *, endpoint: int | None = None, **more: str) -> dict[str, str]:
        """Of a process: a configuration of Spark without credentials, which are in the environment."""
        self._confs += 1
        local = {"spark.hadoop.hadoop.tmp.dir": f"{self.folder}/hadoop", "spark.local.dir": f"{self.folder}/local"}
        folder = self.folder / f"conf-{self._confs}"
        conf = configured(self._conf, folder, endpoint=endpoint or self.store.port, jars=self._jars, **local, **more)
        clean = without_credentials(dict(os.environ))
        return {
            **clean,
            **self.credentials.environment(),
            "SPARK_CONF_DIR": str(conf),
            "TMPDIR": str(self.folder / "tmp"),
            "JDK_JAVA_OPTIONS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",  # no sizes that a JVM warns of on stdout
        }

    def start(self, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "betr_spark", arguments[0], "--config", str(self.config), *arguments[1:]]
        (self.folder / "tmp").mkdir(exist_ok=True)
        files = [tempfile.TemporaryFile("w+", dir=self.folder) for _ in range(2)]  # pipes would have to be read  # noqa: SIM115
        process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=files[0], stderr=files[1], text=True
        )
        process.stdout, process.stderr = files[0], files[1]  # type: ignore[assignment]
        return process

    def end(self, process: subprocess.Popen[str], *, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        code, texts = process.wait(timeout), []
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.seek(0)
            texts.append(stream.read())
            stream.close()
        self.printed += texts
        return subprocess.CompletedProcess(process.args, code, *texts)

    def run(self, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return self.end(self.start(*arguments, environment=environment))

    def copy(self, prefix: str, target: str, *names: str) -> None:
        for key in self.store.names(prefix):
            rest = key.removeprefix(prefix)
            if not names or rest.partition("/")[0] in names:
                self.store.request("PUT", f"{target}{rest}", self.store.request("GET", key).body)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, small_spark: dict[str, str], corpus: Any, encoder: Path, targets: Path) -> Iterator[Lake]:  # fmt: skip
    if not {"S3_JARS", "MOTO_SERVER"} <= set(os.environ):
        pytest.skip("needs the jars of S3A and a store: make test-s3")
    folder = tmp_path_factory.mktemp("lake")
    path = write_parquet(folder / "docs", corpus, files=3)
    with Store(Path(os.environ["MOTO_SERVER"]), BUCKET) as store:
        store.upload(path, "docs")
        store.upload(targets, "targets")
        values = settings(Path("docs"), Path("out"), encoder, targets)
        values["input"]["path"], values["output"] = f"s3a://{BUCKET}/docs", OUT
        for name, file in (("cooking", "cooking.jsonl"), ("sailing", "sailing.jsonl")):
            values["targets"][name]["path"] = f"s3a://{BUCKET}/targets/{file}"
        work = tmp_path_factory.mktemp("s3")
        config = write_config(work / "conf.yaml", values)
        conf = Path(small_spark["SPARK_CONF_DIR"])
        yield Lake(store, Credentials(random.randrange(2**32)), Path(os.environ["S3_JARS"]), conf, work, config)


@pytest.fixture(scope="session")
def finished_on_s3(lake: Lake) -> Lake:
    """The store with `out`, the output of a whole run."""
    done = lake.run("run", environment=lake.environment())
    assert done.returncode == 0, done.stderr
    return lake
