"""The whole pipeline on an object store (s3a): the same tables as on a local disk, and no credentials anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from whole import tables

pytestmark = pytest.mark.whole


def errors_of(done: Any) -> list[str]:
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def assert_no_credentials(lake: Any) -> None:
    """Search every object of the bucket, every local file that is left, and everything that was printed."""
    for key in lake.store.names():
        assert not lake.credentials.found_in(lake.store.request("GET", key).body), key
    for file in lake.folder.rglob("*"):
        assert not file.is_file() or not lake.credentials.found_in(file.read_bytes()), file
    for text in lake.printed:
        assert not lake.credentials.found_in(text.encode()), text


def test_a_run_on_s3_gives_the_tables_of_a_local_run(finished: Path, finished_on_s3: Any, tmp_path: Path) -> None:
    out = finished_on_s3.store.download("out/", tmp_path)
    assert tables(out) == tables(finished / "out")
    about = [json.loads((folder / "scorers/betr/scorer.json").read_text()) for folder in (out, finished / "out")]
    assert about[0]["sha256"] == about[1]["sha256"]
    left = [key for key in finished_on_s3.store.names("out/") if "/_scratch" in key or ".betr-spark" in key]
    assert left == []


def test_the_other_commands_work_on_s3(finished_on_s3: Any) -> None:
    lake, environment = finished_on_s3, finished_on_s3.environment()
    done = lake.run("run", environment=environment)
    assert "nothing to do" in done.stdout, done.stderr
    status = json.loads(lake.run("status", "--json", environment=environment).stdout)
    assert {stage["state"] for stage in status["stages"]} == {"up to date"}
    plan = json.loads(lake.run("plan", "--json", environment=environment).stdout)
    assert {stage["work"] for stage in plan["stages"]} == {False}
    report = lake.run("report", environment=environment)
    assert "best-50: 50 documents" in report.stdout, report.stderr
    assert "out of date" not in report.stdout
    assert lake.run("dedup-eval", "--documents", "200", environment=environment).returncode == 0
    assert lake.run("check", environment=environment).stdout == "no problem found\n"
    assert_no_credentials(lake)


def test_two_scorers_are_compared_on_s3(finished_on_s3: Any) -> None:
    lake, environment = finished_on_s3, finished_on_s3.environment()
    lake.copy("out/", "two/", "_sample", "_embeddings", "ranked_sample", "scorers")
    settings = ("--set", "output=s3a://lake/two", "--set", "scorers.dsir={kind: dsir}", "--set", "selections={}")
    done = lake.run("run", *settings, environment=environment)
    assert done.returncode == 0, done.stderr
    done = lake.run("compare", *settings, environment=environment)
    assert "betr" in done.stdout, done.stderr


@pytest.mark.parametrize("setting", ["input.path=s3a://no-such-bucket/docs", "output=s3a://no-such-bucket/out"])
def test_a_wrong_bucket_is_one_line(lake: Any, setting: str) -> None:
    done = lake.run("check", "--set", setting, environment=lake.environment())
    assert done.returncode == 2
    assert errors_of(done), done.stderr
    assert all("no-such-bucket" in error for error in errors_of(done)), done.stderr
    print(done.stderr)
    assert_no_credentials(lake)


def test_no_credentials_and_wrong_ones_are_one_line(lake: Any) -> None:
    without = {name: value for name, value in lake.environment().items() if name[:4] != "AWS_"}
    done = lake.run("status", environment={**without, "AWS_EC2_METADATA_DISABLED": "true"})
    assert "unknown" in done.stdout or len(errors_of(done)) == 1, done.stderr
    lake.store.control("reset-auth", b"0")
    try:
        done = lake.run("check", environment=lake.environment())
    finally:
        lake.store.control("reset-auth", b"inf")
    assert done.returncode == 2
    assert len(errors_of(done)) >= 1
    assert_no_credentials(lake)


def test_credentials_in_settings_are_in_no_message(lake: Any) -> None:
    key, secret = lake.credentials.key, lake.credentials.secret
    prefix, simple = "spark.hadoop.fs.s3a", "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
    submit = {f"{prefix}.access.key": key, f"{prefix}.secret.key": secret, f"{prefix}.aws.credentials.provider": simple}
    arguments = " ".join(f"--conf {name}={value}" for name, value in submit.items())
    environment = {name: value for name, value in lake.environment().items() if name[:4] != "AWS_"}
    environment["PYSPARK_SUBMIT_ARGS"] = f"{arguments} --driver-memory 2g pyspark-shell"
    assert lake.run("check", environment=environment).stdout == "no problem found\n"
    done = lake.run("check", "--set", f"input.path=s3a://no-such-bucket/{secret}", environment=environment)
    assert any("no-such-bucket/***" in error for error in errors_of(done)), done.stderr
    assert_no_credentials(lake)


def test_a_path_with_credentials_is_refused(lake: Any) -> None:
    path = f"s3a://{lake.credentials.key}:{lake.credentials.secret}@lake/docs"
    done = lake.run("check", "--set", f"input.path={path}", environment=lake.environment())
    assert done.returncode == 2
    assert errors_of(done)[0].startswith("error: config.input.path: a path with credentials in it; remove them")
    assert_no_credentials(lake)


def test_an_export_to_s3_is_that_of_a_local_disk(finished_on_s3: Any, tmp_path: Path) -> None:
    lake, environment = finished_on_s3, finished_on_s3.environment()
    options = ("--selection", "best-50", "--format", "parquet", "--shard-bytes", "9000")
    for to in ("s3a://lake/train", str(tmp_path / "local")):
        done = lake.run("export", *options, "--to", to, environment=environment)
        assert done.returncode == 0, done.stderr
    local = {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}
    assert len(local) > 2
    assert {f"train/{name}" for name in local} == {key for key in lake.store.names("train/") if not key.endswith("/")}
    assert all(lake.store.request("GET", f"train/{name}").body == content for name, content in local.items())
    assert "up to date" in lake.run("export", *options, "--to", "s3a://lake/train", environment=environment).stdout
    assert_no_credentials(lake)
