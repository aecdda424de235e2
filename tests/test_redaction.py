"""Credentials are taken out of messages, log lines, tracebacks and records, and refused in the configuration."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import settings

from betr_spark import logs, redaction
from betr_spark.config import load_config
from betr_spark.errors import ConfigError, DataError
from betr_spark.redaction import has_credentials, is_secret_setting, redacted

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"


@pytest.mark.parametrize(
    ("text", "without"),
    [
        (f"s3a://AKIA42:{SECRET}@bucket/docs: no such file", "s3a://***@bucket/docs: no such file"),
        ("s3://AKIA42@bucket/docs", "s3://***@bucket/docs"),
        ("hdfs://me:pass@namenode:8020/docs", "hdfs://***@namenode:8020/docs"),
        (f"--conf spark.hadoop.fs.s3a.secret.key={SECRET} --conf a=b", "--conf spark.hadoop.fs.s3a.secret.key=*** --conf a=b"),
        (f"fs.s3a.access.key: {SECRET}, x", "fs.s3a.access.key: ***, x"),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SECRET_ACCESS_KEY=***"),
        ("https://account/c/f?sv=1&sig=abc%2B&se=2", "https://account/c/f?sv=1&sig=***&se=2"),
    ],
)  # fmt: skip
def test_credentials_are_taken_out(text: str, without: str) -> None:
    assert redacted(text) == without


@pytest.mark.parametrize(
    "text",
    [
        "encoder.max_tokens: 3 is too small; selections.a.keep.tokens=5, tokens: 7",
        "hdfs://namenode:8020/user/me@home: no such file",
        "abfss://container@account.dfs.core.windows.net/docs",
        "fs.s3a.aws.credentials.provider=org.example.Provider",
        "spark.driver.memory=4g",
        "input.path: s3a://bucket/docs: no such file or folder (time 12:30, me@example)",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text) == text
    assert not has_credentials(text.partition("://")[0][-5:] + "://" + text.partition("://")[2])


def test_values_of_secret_variables_and_settings_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_values", set())
    redaction.remember_environment(
        {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1", "SHORT_TOKEN": "table"}
    )
    encoded = SECRET.replace("/", "%2F").replace("+", "%2B")
    assert redacted(f"a {SECRET} b {encoded} table eu-central-1") == "a *** b *** table eu-central-1"
    assert is_secret_setting("fs.azure.account.key.store.dfs.core.windows.net")
    assert is_secret_setting("spark.hadoop.fs.s3a.bucket.lake.session.token")
    assert not is_secret_setting("fs.s3a.assumed.role.credentials.provider")


def refused(folder: Path, **more: Any) -> str:
    values = settings(Path("docs"), Path("out"), Path("model"), Path("targets"))
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump({**values, **more}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return str(error.value)


@pytest.mark.parametrize("place", [f"s3a://AKIA42:{SECRET}@lake/x", "s3a://AKIA42:short@lake/x", "s3a://AKIA42@lake/x"])
def test_a_path_with_credentials_is_refused_without_repeating_them(tmp_path: Path, place: str) -> None:
    said = refused(tmp_path, output=place)
    assert said.startswith("config.output: a path with credentials in it; remove them")
    assert "\n" not in said
    assert not any(part in said for part in ("AKIA42", "short", SECRET[:8]))
    target = {"a.b": {"path": place, "template": "{x}"}}
    assert refused(tmp_path, targets=target).startswith('config.targets."a.b".path: a path with credentials in it')
    scorer = {"kind": "teacher", "path": place}
    assert refused(tmp_path, scorers={"s": scorer}, selections={}).startswith("config.scorers.s.path: a path with cred")


def test_an_override_is_not_repeated_with_its_credentials(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("input: {path: docs}\noutput: out\nscorers: {}\n", encoding="utf-8")
    for override in (f"output=s3a://K:{SECRET}@b/x", f"s3a://K:{SECRET}@b/x", f"output: x: s3a://K:{SECRET}@b=["):
        done = subprocess.run(
            [sys.executable, "-m", "betr_spark", "check", "--config", str(path), "--set", override],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert SECRET[:8] not in done.stderr + done.stdout


def test_errors_log_lines_and_tracebacks_have_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    place = f"s3a://AKIA42:{SECRET}@lake/x"
    assert str(DataError(f"{place}: no such file")) == "s3a://***@lake/x: no such file"
    assert ConfigError(f"a: {place}").problems == ("a: s3a://***@lake/x",)
    root, package = logging.getLogger(), logging.getLogger("betr_spark")
    before = root.handlers[:], root.level, package.level, sys.excepthook
    try:
        for form in logs.Format:
            logs.configure(form)
            logging.getLogger("betr_spark.test").info("reading %s", place, extra={"path": place})
        error = ValueError(place)
        sys.excepthook(type(error), error, None)
    finally:
        root.handlers, sys.excepthook = before[0], before[3]
        root.setLevel(before[1])
        package.setLevel(before[2])
    printed = capsys.readouterr().err
    assert printed.count("s3a://***@lake/x") == 4
    assert SECRET[:8] not in printed
    assert "ValueError: s3a://***@lake/x" in printed
