"""Exit codes and messages of the command line: exit 2 and one line for no Java, an old Java, an invalid configuration or input."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import settings, write_config

from betr_spark import cli
from betr_spark.cli import pipeline_commands


def betr_spark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "betr_spark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def config(tmp_path: Path, encoder: Path, targets: Path) -> Path:
    return write_config(tmp_path / "conf.yaml", settings(tmp_path / "docs", tmp_path / "out", encoder, targets))


def fake_java(folder: Path, version: str) -> str:
    folder.mkdir()
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_no_java_is_said_in_one_line(config: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = betr_spark("run", "--config", str(config), PATH=str(tmp_path / "bin"), JAVA_HOME="")
    assert "no `java` found by PATH; a JDK 17 or later is required" in one_line(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("version", "said"), [("11.0.2", "version 11"), ("1.8.0_292", "version 8")])
def test_an_old_java_is_said_in_one_line(config: Path, tmp_path: Path, version: str, said: str) -> None:
    done = betr_spark("check", "--config", str(config), PATH=fake_java(tmp_path / "bin", version), JAVA_HOME="")
    assert said in one_line(done)


def test_wrong_configuration_is_said_without_starting_spark(config: Path) -> None:
    done = betr_spark("run", "--config", str(config), "--set", "minhash.band=3", PATH="/nowhere")
    assert one_line(done) == "error: config.minhash.band: unknown key; did you mean 'bands'?"


def test_a_wrong_input_ends_with_exit_2_and_nothing_written(config: Path, tmp_path: Path) -> None:
    done = betr_spark("run", "--config", str(config))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(tmp_path / "docs") in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline_commands, "load", fail)
    cli.main(["check", "--config", "conf.yaml"])


def test_a_bug_keeps_its_traceback_whatever_its_text_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="MALFORMED"):
        raising(TypeError("MALFORMED: PATH_NOT_FOUND file:/docs/a.parquet"), monkeypatch)


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), monkeypatch)
    assert capsys.readouterr().err.startswith("error: a disk is full (No space left on device)")


def test_help_and_version_need_neither_java_nor_spark() -> None:
    assert "--dry-run" in betr_spark("run", "--help", PATH="/nowhere").stdout
    assert betr_spark("version", PATH="/nowhere").stdout.strip() == "0.1.0"
