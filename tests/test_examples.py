"""The examples for schedulers: their commands and options exist, and the schedulers' own code takes the files.

The schedulers' packages are not in the project's environment. `make examples` installs them into an environment of their own and
sets BETR_SPARK_EXAMPLES_PYTHON; without it the tests that need them are skipped. BETR_SPARK_CRD names a file with the Spark
operator's custom resource definition of ScheduledSparkApplication.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml
from typer.testing import CliRunner

from betr_spark.cli import app
from betr_spark.spark.session import DELTA_PACKAGE

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "docs/examples"
HELPERS = Path(__file__).parent / "examples"
CRON_FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
FAKE = """#!{python}
import json, os, pathlib, sys
command, calls, codes = sys.argv[1], pathlib.Path(os.environ["FAKE_CALLS"]), pathlib.Path(os.environ["FAKE_CODES"])
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
left = json.loads(codes.read_text())
code = left[command].pop(0) if left.get(command) else 0
codes.write_text(json.dumps(left))
print("a log line of " + command, file=sys.stderr)
print(json.dumps({{"errors": ["x"], "exit_code": code}} if code else {{"command": command}}))
sys.exit(code)
"""


def load(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def crontab_lines() -> list[tuple[list[str], str]]:
    """Schedule fields and command of each line."""
    text = (EXAMPLES / "crontab").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#") and not re.match(r"\w+=", line)]
    return [(line.split(maxsplit=5)[:5], line.split(maxsplit=5)[5]) for line in lines]


def dag_tasks() -> dict[str, dict[str, Any]]:
    """Arguments of each call of the DAG's operator, without those that are expressions."""
    tree = ast.parse((EXAMPLES / "airflow_dag.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    tasks = [
        {k.arg: ast.literal_eval(k.value) for k in call.keywords if not isinstance(k.value, ast.Call)}
        for call in calls
        if call.func.id == "BetrSpark"
    ]
    return {task["task_id"]: task for task in tasks}


def betr_spark_arguments() -> Iterator[tuple[str, list[str]]]:
    """Arguments of each `betr-spark` or `jobs/run.py` in the examples."""
    for _, command in crontab_lines():
        tokens = list(shlex.shlex(command, posix=True, punctuation_chars=True))
        start = tokens.index("betr-spark") + 1
        yield "crontab", tokens[start : next(i for i, token in enumerate(tokens) if i > start and token in {">", ">>"})]
    for task in dag_tasks().values():
        yield "airflow", [task["command"], "--config", "x", "--json", "--log-format", "json", *task.get("options", [])]
    for task in load("databricks_job.json")["tasks"]:
        yield "databricks", task["spark_python_task"]["parameters"]
    (step,) = load("emr_step.json")
    yield "emr", step["Args"][step["Args"].index("s3://BUCKET/betr-spark/run.py") + 1 :]
    yield "kubernetes", manifest()["spec"]["template"]["arguments"]


def manifest() -> Any:
    return yaml.safe_load((EXAMPLES / "spark_application.yaml").read_text(encoding="utf-8"))


def assert_cron(fields: list[str]) -> None:
    assert len(fields) == 5
    for field, (low, high) in zip(fields, CRON_FIELDS, strict=True):
        for part in field.split(","):
            values = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", part)
            assert values, field
            assert all(low <= int(value) <= high for value in values.groups() if value), field


def fake_betr_spark(folder: Path) -> dict[str, str]:
    """Write a `betr-spark` that records its arguments and exits with the codes of $FAKE_CODES; the environment to run it in."""
    (folder / "bin").mkdir()
    program = folder / "bin/betr-spark"
    program.write_text(FAKE.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    (folder / "codes").write_text("{}", encoding="utf-8")
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return {**kept, "PATH": path, "FAKE_CALLS": str(folder / "calls"), "FAKE_CODES": str(folder / "codes")}


def calls_of(environment: dict[str, str]) -> list[list[str]]:
    return [json.loads(line) for line in Path(environment["FAKE_CALLS"]).read_text(encoding="utf-8").splitlines()]


def python_with(*modules: str) -> str:
    """A Python that has the modules; skips the test if there is none."""
    python = str(Path(os.environ.get("BETR_SPARK_EXAMPLES_PYTHON", sys.executable)).absolute())
    code = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in {modules}))"
    if subprocess.run([python, "-c", code], check=False).returncode:
        pytest.skip(f"{', '.join(modules)}: not installed; run `make examples`")
    return python


def validated(*arguments: str, needs: tuple[str, ...]) -> dict[str, Any]:
    """The answer of tests/examples/validate.py, which found no problem."""
    command = [python_with(*needs), str(HELPERS / "validate.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["problems"] == [], answer["version"]
    return answer


@pytest.mark.parametrize(
    ("example", "arguments"), [*betr_spark_arguments()], ids=lambda value: value[:1] and str(value)
)
def test_commands_and_options_exist(example: str, arguments: list[str]) -> None:
    command, *options = arguments
    # --help comes first, so that no option has an effect; an unknown option is an error all the same.
    help_text = CliRunner().invoke(app, [command, "--help", *options])
    assert help_text.exit_code == 0, help_text.output
    names = [option for option in options if option.startswith("--")]
    assert "--config" in names
    assert set(names) <= set(re.findall(r"--[a-z-]+", help_text.stdout))
    if command == "run":
        assert "--wait" in names
        assert options[names.index("--wait") + 1 :]


def test_every_file_is_described() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"} <= set(
        re.findall(r"\]\((.+?)\)", text)
    )


# Cron


def test_the_crontab_has_valid_schedules() -> None:
    lines = crontab_lines()
    assert [shlex.split(command)[4] for _, command in lines] == ["run", "maintain"]
    for fields, command in lines:
        assert_cron(fields)
        assert "%" not in command  # cron replaces it by a line break
        assert "flock" not in command
        subprocess.run(["sh", "-n", "-c", command], check=True)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_line_of_the_crontab_prints_only_if_it_fails(code: int, tmp_path: Path) -> None:
    environment = fake_betr_spark(tmp_path)
    (tmp_path / "codes").write_text(json.dumps({"run": [0, code]}), encoding="utf-8")
    command = crontab_lines()[0][1].replace("/srv/betr-spark", str(tmp_path))
    first, second = (
        subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=environment) for _ in "ab"
    )
    assert first.stdout + first.stderr == ""
    assert (f"exit code {code}," in second.stdout) == (code != 0)
    assert second.stderr == ""
    assert (tmp_path / "betr-spark.log").read_text(encoding="utf-8") == 2 * "a log line of run\n"
    assert ("exit_code" in load_text(tmp_path / "last-run.json")) == (code != 0)


def load_text(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# Airflow


def test_the_dag_has_the_three_commands() -> None:
    assert {name: task["command"] for name, task in dag_tasks().items()} == {
        "check": "check",
        "run": "run",
        "report": "report",
    }


def test_airflow_runs_the_dag_and_retries_by_exit_code(tmp_path: Path) -> None:
    python = python_with("airflow")
    environment = {**fake_betr_spark(tmp_path), "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    (tmp_path / "dags").mkdir()
    dag = tmp_path / "dags/airflow_dag.py"
    dag.write_bytes((EXAMPLES / "airflow_dag.py").read_bytes())
    scenarios = [{}, {"run": [3, 1, 0]}, {"check": [2]}, {"run": [3, 3, 3, 3]}]
    command = [python, str(HELPERS / "run_airflow.py"), str(dag), json.dumps(scenarios)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    retries = dict.fromkeys(("check", "run", "report"), 3)
    assert answer["settings"] == {"schedule": "0 2 * * *", "catchup": False, "max_active_runs": 1, "retries": retries}
    good, retried, user_error, locked = answer["runs"]
    assert good["state"] == retried["state"] == "success"
    assert good["tasks"] == {name: ["success", 1] for name in ("check", "run", "report")}
    assert good["results"] == {name: {"command": name} for name in ("check", "run", "report")}
    assert retried["tasks"] == {**good["tasks"], "run": ["success", 3]}
    assert user_error["state"] == locked["state"] == "failed"
    assert user_error["tasks"] == {
        "check": ["failed", 1],
        "run": ["upstream_failed", 0],
        "report": ["upstream_failed", 0],
    }
    assert locked["tasks"]["run"] == ["failed", 4]
    calls = calls_of(environment)
    assert [call[0] for call in calls] == [
        "check", "run", "report", "check", "run", "run", "run", "report", "check", "check", "run", "run", "run", "run",
    ]  # fmt: skip
    assert all(
        call[1:6] == ["--config", "/etc/betr-spark/mine.yaml", "--json", "--log-format", "json"] for call in calls
    )
    assert all(call[6:] == (["--wait", "1800"] if call[0] == "run" else []) for call in calls)


# Databricks


def test_the_databricks_job_does_one_run_at_a_time() -> None:
    job = load("databricks_job.json")
    assert job["max_concurrent_runs"] == 1
    second, *rest = job["schedule"]["quartz_cron_expression"].split()
    assert second == "0"
    assert_cron([field.replace("?", "*") for field in rest])
    clusters = {cluster["job_cluster_key"] for cluster in job["job_clusters"]}
    assert {task["job_cluster_key"] for task in job["tasks"]} == clusters
    check, run = job["tasks"]
    assert (check["max_retries"], run["max_retries"], run["depends_on"]) == (0, 2, [{"task_key": "check"}])
    assert_local_settings(job["job_clusters"][0]["new_cluster"]["spark_conf"])


def test_the_databricks_sdk_takes_the_job() -> None:
    validated("databricks", str(EXAMPLES / "databricks_job.json"), needs=("databricks.sdk",))


def test_the_init_script_installs_everything_but_spark_and_delta(tmp_path: Path) -> None:
    script = (EXAMPLES / "databricks_init.sh").read_text(encoding="utf-8")
    job = load("databricks_job.json")["job_clusters"][0]["new_cluster"]
    assert job["init_scripts"] == [{"workspace": {"destination": "/Shared/betr-spark/databricks_init.sh"}}]
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@" >>"$0.calls"\n', encoding="utf-8")
    pip.chmod(0o755)
    (tmp_path / "requirements.lock").write_bytes((REPOSITORY / "requirements.lock").read_bytes())
    (tmp_path / "betr_spark-1-py3-none-any.whl").touch()
    listed = tmp_path / "requirements.txt"
    for path, replacement in (
        ("/Workspace/Shared/betr-spark", tmp_path),
        ("/databricks/python/bin/pip", pip),
        ("/tmp/betr-spark-requirements.txt", listed),
    ):
        assert path in script
        script = script.replace(path, str(replacement))
    subprocess.run(["sh", "-c", script], check=True)
    locked = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    dropped = set(locked) - set(listed.read_text(encoding="utf-8").splitlines())
    assert {line.partition("==")[0] for line in dropped} == {"pyspark", "py4j", "delta-spark"}
    calls = Path(f"{pip}.calls").read_text(encoding="utf-8").splitlines()
    assert [call.split()[-1] for call in calls] == [str(listed), str(tmp_path / "betr_spark-1-py3-none-any.whl")]
    assert all("--no-deps" in call for call in calls)


def test_run_py_ends_without_system_exit_if_it_succeeds() -> None:
    code = "import runpy, sys; sys.argv = ['run.py', *sys.argv[1:]]; runpy.run_path('jobs/run.py', run_name='__main__'); print('end')"
    good = subprocess.run(
        [sys.executable, "-c", code, "version"], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "end")
    bad = subprocess.run(
        [sys.executable, "-c", code, "no"], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert (bad.returncode, "end" in bad.stdout) == (2, False)


# EMR


def test_the_step_submits_with_delta_and_the_packaged_environment() -> None:
    (step,) = load("emr_step.json")
    assert (step["Jar"], step["Type"], step["Args"][0]) == ("command-runner.jar", "CUSTOM_JAR", "spark-submit")
    arguments = step["Args"]
    options = {name: arguments[i + 1] for i, name in enumerate(arguments) if name.startswith("--")}
    confs = dict(arguments[i + 1].split("=", 1) for i, name in enumerate(arguments) if name == "--conf")
    assert options["--packages"] == DELTA_PACKAGE
    assert options["--archives"].endswith("/betr-spark-env.tar.gz#environment")
    for name in ("spark.yarn.appMasterEnv.PYSPARK_PYTHON", "spark.executorEnv.PYSPARK_PYTHON"):
        assert confs[name] == "./environment/bin/python"
    assert options["--files"].endswith(f"/{options['--config']}")  # YARN puts it into the driver's working directory
    assert_local_settings(confs)


def test_the_aws_command_line_takes_the_step() -> None:
    answer = validated("emr", str(EXAMPLES / "emr_step.json"), needs=("awscli", "botocore"))
    (step,) = load("emr_step.json")
    assert answer["steps"] == [
        {
            "Name": step["Name"],
            "ActionOnFailure": step["ActionOnFailure"],
            "HadoopJarStep": {"Jar": step["Jar"], "Args": step["Args"]},
        }
    ]


def assert_local_settings(confs: dict[str, str]) -> None:
    """Settings that docs/cluster.md says are worth copying have the values of local mode."""
    text = (REPOSITORY / "conf/local/spark-defaults.conf").read_text(encoding="utf-8")
    local = dict(line.split() for line in text.splitlines() if line.startswith("spark.sql."))
    assert {name: value for name, value in confs.items() if name in local and value != local[name]} == {}
    for name in ("arrow.maxRecordsPerBatch", "arrow.maxBytesPerBatch"):
        assert f"spark.sql.execution.{name}" in confs


# Kubernetes

FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"schedule", "timeZone", "concurrencyPolicy", "successfulRunHistoryLimit", "failedRunHistoryLimit", "template"},
    "spec.template": {
        "type", "pythonVersion", "mode", "sparkVersion", "image", "mainApplicationFile", "arguments", "deps", "hadoopConf",
        "sparkConf", "restartPolicy", "driver", "executor",
    },
    "spec.template.deps": {"packages"},
    "spec.template.restartPolicy": {
        "type", "onFailureRetries", "onFailureRetryInterval", "onSubmissionFailureRetries", "onSubmissionFailureRetryInterval",
    },
    "spec.template.driver": {"cores", "memory", "memoryOverhead", "serviceAccount", "configMaps"},
    "spec.template.executor": {"instances", "cores", "memory", "memoryOverhead", "serviceAccount"},
}  # fmt: skip


def test_the_manifest_has_the_fields_of_the_operator() -> None:
    values = manifest()
    assert (values["apiVersion"], values["kind"]) == ("sparkoperator.k8s.io/v1beta2", "ScheduledSparkApplication")
    for where, names in FIELDS.items():
        part = values
        for name in filter(None, where.split(".")):
            part = part[name]
        assert set(part) == names, where
    spec, template = values["spec"], values["spec"]["template"]
    assert_cron(spec["schedule"].split())
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (template["type"], template["mode"], template["restartPolicy"]["type"]) == ("Python", "cluster", "OnFailure")
    assert all(isinstance(value, str) for value in [*template["arguments"], *template["sparkConf"].values()])
    (config_map,) = template["driver"]["configMaps"]
    assert Path(template["arguments"][template["arguments"].index("--config") + 1]).parent == Path(config_map["path"])
    assert_local_settings(template["sparkConf"])


def test_the_manifest_has_the_versions_of_spark_and_hadoop() -> None:
    template = manifest()["spec"]["template"]
    assert template["sparkVersion"] == pyspark.__version__
    (jar,) = (Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar")
    assert template["deps"]["packages"] == [
        f"org.apache.hadoop:hadoop-aws:{jar.stem.removeprefix('hadoop-client-api-')}"
    ]
    dockerfile = (REPOSITORY / "docker/Dockerfile").read_text(encoding="utf-8")
    assert "WORKDIR /opt/betr-spark" in dockerfile
    assert "COPY jobs jobs" in dockerfile
    assert template["mainApplicationFile"] == "local:///opt/betr-spark/jobs/run.py"


def test_the_operators_schema_takes_the_manifest() -> None:
    crd = os.environ.get("BETR_SPARK_CRD")
    if not crd:
        pytest.skip("BETR_SPARK_CRD: not set; it names a file with the operator's custom resource definition")
    validated("kubernetes", str(EXAMPLES / "spark_application.yaml"), crd, needs=("jsonschema", "yaml"))


def test_no_example_has_a_secret() -> None:
    for path in EXAMPLES.iterdir():
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(
                r"(?i)(AKIA[0-9A-Z]{12}|dapi[0-9a-f]{16}|(password|secret_key|token)\s*[=:]\s*\S)", text
            ), path
