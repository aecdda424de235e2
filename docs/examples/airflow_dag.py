"""An Airflow 3 DAG that runs betr-spark every night: check, run, report.

Exit code 2 is a user error: the task fails at once. After 3 (another run holds the output) and 1 (any other failure) Airflow
retries the task, and the same command continues the run that failed.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import BaseOperator, dag
from airflow.sdk.exceptions import AirflowException, AirflowFailException

COMMAND = ["betr-spark"]  # on the worker's PATH, or its full path; on a cluster: ["spark-submit", ..., "jobs/run.py"]
CONFIG = "/etc/betr-spark/mine.yaml"
USER_ERROR, LOCKED = 2, 3


class BetrSpark(BaseOperator):
    """Run one command. Its log lines go to the task's log, its JSON document is the result of the task."""

    def __init__(self, *, command: str, options: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(**settings)
        self.command, self.options = command, list(options)
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ARG002
        """Run the command and return its document."""
        arguments = [*COMMAND, self.command, "--config", CONFIG, "--json", "--log-format", "json", *self.options]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as stdout:
            self.process = subprocess.Popen(arguments, stdout=stdout, stderr=subprocess.PIPE, text=True)
            for line in self.process.stderr or ():
                self.log.info("%s", line.rstrip())
            code = self.process.wait()
            stdout.seek(0)
            document = stdout.read()
        if code == USER_ERROR:
            raise AirflowFailException(f"betr-spark {self.command}: user error; the log has a line for each problem")
        if code == LOCKED:
            raise AirflowException(f"betr-spark {self.command}: another run holds the output; retry later")
        if code != 0:
            raise AirflowException(f"betr-spark {self.command}: exit code {code}")
        return dict(json.loads(document))

    def on_kill(self) -> None:
        """Stop the command when Airflow stops the task."""
        if self.process is not None:
            self.process.terminate()


@dag(
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=15)},
)
def betr_spark_nightly() -> None:
    """Check, run and report one configuration."""
    check = BetrSpark(task_id="check", command="check")
    run = BetrSpark(task_id="run", command="run", options=["--wait", "1800"], execution_timeout=timedelta(hours=12))
    report = BetrSpark(task_id="report", command="report")
    check >> run >> report


nightly = betr_spark_nightly()
