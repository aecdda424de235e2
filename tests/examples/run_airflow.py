"""Run docs/examples/airflow_dag.py by Airflow's `dag.test`, once for each scenario; print what happened as JSON, in the last line.

Started by tests/test_examples.py with the Python of an environment that has Airflow: `run_airflow.py DAG_FILE SCENARIOS`. DAG_FILE
is in the folder `dags` of AIRFLOW_HOME. A scenario maps commands to the exit codes of their tries; a command without codes exits
with 0. `betr-spark` on PATH is a fake that takes the next code from the file $FAKE_CODES.
"""

import importlib.util
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import airflow
from airflow.utils.db import upgradedb as upgrade_database


def main() -> None:
    """Print Airflow's version, the DAG's settings, and for each scenario the state, the tasks' states and tries, and their results."""
    file, scenarios = sys.argv[1], json.loads(sys.argv[2])
    upgrade_database()
    spec = importlib.util.spec_from_file_location("airflow_dag", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = module.nightly
    settings = {"schedule": dag.schedule, "catchup": dag.catchup, "max_active_runs": dag.max_active_runs}
    settings["retries"] = {task.task_id: task.retries for task in dag.tasks}
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    runs = []
    for number, codes in enumerate(scenarios):
        Path(os.environ["FAKE_CODES"]).write_text(json.dumps(codes), encoding="utf-8")
        run = dag.test(logical_date=datetime(2026, 1, 1 + number, tzinfo=UTC))
        instances = {instance.task_id: instance for instance in run.get_task_instances()}
        tasks = {name: [str(instance.state), instance.try_number] for name, instance in instances.items()}
        results = {name: instance.xcom_pull(task_ids=name) for name, instance in instances.items()}
        runs.append({"state": str(run.state), "tasks": tasks, "results": results})
    print(json.dumps({"version": airflow.__version__, "settings": settings, "runs": runs}))


if __name__ == "__main__":
    main()
