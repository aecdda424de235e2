"""The lease: one writer at a time, whatever happens to the other ones."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from betr_spark.errors import LockedError
from betr_spark.storage import lease, processes
from betr_spark.storage.lease import FOLDER, break_lease, current, hold, is_live, wait_until_free
from betr_spark.storage.lease_record import Holder


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.fixture
def this(spark: Any) -> Holder:
    return Holder.this(spark, "run-1", "run")


def elsewhere(spark: Any, output: str, **changes: Any) -> Holder:
    """Leave the record of a run on another machine."""
    holder = replace(Holder.this(spark, "run-0", "features"), host="far-away", processes=[], **changes)
    path = Path(output) / FOLDER / f"{1:020d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(holder.to_json())
    return holder


def test_a_second_run_is_told_who_holds_the_output(spark: Any, output: str, this: Holder) -> None:
    with hold(spark, output, this) as held:
        held.enter("dedup")
        started = time.monotonic()
        with pytest.raises(LockedError) as error, hold(spark, output, replace(this, run_id="run-2")):
            pass
        assert time.monotonic() - started < 5
        for part in (
            output,
            this.host,
            str(os.getpid()),
            "run-1",
            "stage dedup",
            "`betr-spark run`",
            "--wait",
            "unlock",
        ):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        held.check()
    with hold(spark, output, replace(this, run_id="run-2")):
        assert [file.name for file in (Path(output) / FOLDER).iterdir()] == [f"{2:020d}.json"]


def test_a_run_that_fails_leaves_its_error_and_the_lease_is_free(spark: Any, output: str, this: Holder) -> None:
    with pytest.raises(ValueError, match="no such"), hold(spark, output, this):
        raise ValueError("no such column\nsecond line")
    record = current(spark, output)
    assert record is not None
    assert record.ended
    assert record.holder
    assert record.holder.error == "ValueError: no such column"
    wait_until_free(spark, output)


def test_a_run_waits_for_the_one_before_it(spark: Any, output: str, this: Holder) -> None:
    taken, order = threading.Event(), []

    def first() -> None:
        with hold(spark, output, this):
            taken.set()
            time.sleep(1.5)
            order.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    taken.wait(10)
    with hold(spark, output, replace(this, run_id="run-2"), wait_s=20):
        order.append("second starts")
    thread.join()
    assert order == ["first ends", "second starts"]


def test_of_many_runs_at_once_one_gets_the_output(spark: Any, output: str, this: Holder) -> None:
    holding, most, refused = [0], [0], []
    barrier, lock = threading.Barrier(8), threading.Lock()

    def attempt(number: int) -> None:
        barrier.wait()
        try:
            with hold(spark, output, replace(this, run_id=f"run-{number}")) as held:
                with lock:
                    holding[0] += 1
                    most[0] = max(most[0], holding[0])
                time.sleep(0.3)
                held.check()
                with lock:
                    holding[0] -= 1
        except LockedError:
            refused.append(number)

    for _ in range(3):
        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[0] == 1
        barrier.reset()
    assert refused


def test_a_run_does_not_take_the_lease_from_one_that_was_faster(
    spark: Any, output: str, this: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_free, faster = wait_until_free, contextlib.ExitStack()

    def then_another_takes_it(*arguments: Any, **options: Any) -> Any:
        number = found_free(*arguments, **options)
        monkeypatch.setattr(lease, "wait_until_free", found_free)
        faster.enter_context(hold(spark, output, replace(this, run_id="faster")))
        return number

    monkeypatch.setattr(lease, "wait_until_free", then_another_takes_it)
    with faster:
        with pytest.raises(LockedError, match="run faster"), hold(spark, output, this):
            pass
        record = current(spark, output)
        assert record is not None
        assert record.number == 1


def test_a_run_elsewhere_that_does_not_renew_its_lease_loses_it(
    spark: Any, output: str, this: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(spark, output)
    with pytest.raises(LockedError, match="far-away"):
        wait_until_free(spark, output)
    monkeypatch.setattr(lease, "EXPIRES_S", 0.5)
    time.sleep(1)
    with hold(spark, output, this):
        pass


def test_a_lease_from_a_clock_that_is_ahead_expires_for_those_who_wait(
    spark: Any, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(spark, output)
    ahead = time.time() + 3600
    os.utime(Path(output) / FOLDER / f"{1:020d}.json", (ahead, ahead))
    monkeypatch.setattr(lease, "EXPIRES_S", 1.5)
    with pytest.raises(LockedError):
        wait_until_free(spark, output)
    wait_until_free(spark, output, wait_s=10)


def test_a_record_that_is_not_complete_is_held_until_it_is_old(
    spark: Any, output: str, this: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(spark, output)
    (Path(output) / FOLDER / f"{1:020d}.json").write_bytes(b"")
    with pytest.raises(LockedError, match="another run"):
        wait_until_free(spark, output)
    monkeypatch.setattr(lease, "EXPIRES_S", 0.5)
    time.sleep(1)
    with hold(spark, output, this):
        pass


def test_a_run_whose_processes_are_dead_holds_nothing(spark: Any, output: str, this: Holder) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = processes.identity(process.pid)
    if not name:
        pytest.skip("no /proc")
    holder = elsewhere(spark, output)
    path = Path(output) / FOLDER / f"{1:020d}.json"
    path.write_bytes(replace(holder, processes=[name]).to_json())
    with pytest.raises(LockedError):
        wait_until_free(spark, output)
    process.kill()
    process.wait()
    record = current(spark, output)
    assert record
    assert not is_live(record, now=time.time())
    with hold(spark, output, this):
        pass


def test_a_killed_run_whose_jvm_has_not_ended_yet_is_waited_for(spark: Any, output: str, this: Holder) -> None:
    both = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    names = [processes.identity(process.pid) for process in both]
    if not all(names):
        pytest.skip("no /proc")
    holder = elsewhere(spark, output)
    (Path(output) / FOLDER / f"{1:020d}.json").write_bytes(replace(holder, processes=names).to_json())
    both[0].kill()
    both[0].wait()
    end = threading.Timer(2.0, lambda: (both[1].kill(), both[1].wait()))
    end.start()
    with hold(spark, output, this):
        pass
    end.join()


def test_a_suspended_run_stops_before_it_writes_again(spark: Any, output: str, this: Holder) -> None:
    with hold(spark, output, this) as held:
        broken = break_lease(spark, output, replace(this, run_id="run-9", command="unlock"))
        assert broken
        assert broken.run_id == "run-1"
        with hold(spark, output, replace(this, run_id="run-2")) as second:
            with pytest.raises(LockedError, match="run run-2"):
                held.check()
            held.enter("select")  # a late heartbeat
            second.check()
    assert break_lease(spark, output, this) is None


def test_a_heartbeat_renews_the_record(spark: Any, output: str, this: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    with hold(spark, output, this):
        time.sleep(1)
        record = current(spark, output)
    assert record
    assert record.holder
    assert record.holder.renewals >= 3
