"""The runner: skipping, records, job descriptions, one line for Spark's errors; and how often the text is read."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_parquet

from betr_spark.config import Config
from betr_spark.errors import DataError, LockedError
from betr_spark.pipeline.run import run_all, stages_of
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta
from betr_spark.storage.runs import StageKey


class Numbers(Stage):
    """Writes `n` rows."""

    def __init__(self, n: int = 3, *, fails_with: str | None = None) -> None:
        super().__init__("numbers/some")
        self.n, self.fails_with, self.described = n, fails_with, ""

    def outputs(self, config: Config) -> Sequence[str]:
        return [config.table("numbers")]

    def key(self, context: RunContext) -> StageKey:
        return StageKey.of(self.name, {"n": self.n})

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:
        context_of_jobs = context.spark.sparkContext
        self.described = str(context_of_jobs.getLocalProperty("spark.job.description"))
        if self.fails_with:
            context.spark.read.parquet(self.fails_with).count()
        rows = context.spark.range(self.n)
        (path,) = self.outputs(context.config)
        yield Result(
            rows_in=self.n, rows_out=self.n, commit=lambda run: delta.overwrite(rows, path, user_metadata=run.to_json())
        )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {"input": {"path": str(tmp_path / "docs")}, "output": str(tmp_path / "out"), "scorers": {}}
    )


def recorded(spark: Any, config: Config) -> list[Any]:
    rows: list[Any] = delta.read(spark, config.table("runs")).orderBy("started_at").collect()
    return rows


def test_two_runs_of_a_stage_in_one_process_leave_two_rows(spark: Any, config: Config) -> None:
    for n in (3, 4, 4):
        run_stages(RunContext(spark, config), [Numbers(n)])
    rows = recorded(spark, config)
    assert [row["rows_out"] for row in rows] == [3, 4]
    assert len({row["run_id"] for row in rows}) == 2


def test_a_stage_that_is_up_to_date_is_skipped_and_its_lost_record_written(
    spark: Any, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # killed between the commit of the table and the row in `runs`
        patch.setattr("betr_spark.storage.runs.append", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_stages(RunContext(spark, config), [Numbers()])
    (done,) = run_stages(RunContext(spark, config), [Numbers()])
    assert done.skipped
    assert [row["run_id"] for row in recorded(spark, config)] == [done.run_id]


def test_jobs_carry_the_stage_s_name_and_lose_it_afterwards(spark: Any, config: Config) -> None:
    stage = Numbers()
    run_stages(RunContext(spark, config), [stage])
    assert stage.described == "numbers/some"
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None


def test_an_error_of_spark_is_one_line_and_nothing_is_written(spark: Any, config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        run_stages(RunContext(spark, config), [Numbers(fails_with=str(tmp_path / "nowhere"))])
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path(config.table("numbers")).exists()
    assert not Path(config.table("runs")).exists()


def test_a_program_error_keeps_its_traceback(spark: Any, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("MALFORMED: a word that Spark's errors use too")

    monkeypatch.setattr(delta, "overwrite", broken)
    with pytest.raises(TypeError, match="MALFORMED"):
        run_stages(RunContext(spark, config), [Numbers()])


WORDS = ("river", "bridge", "castle", "garden", "window", "market", "winter", "island")


def test_text_is_read_once_by_the_pass_once_by_all_selections_and_of_undecided_pairs_alone(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts every row that passes from the input's files into any reader, by stage."""
    pick = np.random.default_rng(3)
    base = [" ".join(pick.choice(WORDS, 60)) for _ in range(40)]
    similar = [" ".join(["changed", *text.split()[: -1 - (i % 5)]]) for i, text in enumerate(base[:6])]
    rows = [{"id": f"d{i:03d}", "text": text} for i, text in enumerate([*base, *similar])]
    for part in range(4):  # the near-duplicates and their originals are in the first and the last file alone
        write_parquet(tmp_path / "new", [rows[:10], rows[10:25], rows[25:40], rows[40:]][part])
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "new/part-0.parquet").rename(tmp_path / f"docs/part-{part}.parquet")
    config = Config.model_validate(
        {
            "input": {"path": str(tmp_path / "docs"), "id": "id"},
            "output": str(tmp_path / "out"),
            "targets": {"t": {"path": "none", "template": "{q}"}},
            "selections": {
                "a": {"scorer": "betr", "keep": {"documents": 9}},
                "b": {"scorer": "random", "keep": {"documents": 20}},
            },
        }
    )
    table = NgramTable.build(list(WORDS), np.arange(8, dtype=np.float32), np.zeros(8, np.float32), word_ngrams=2)
    artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
    counts = counted_reads(spark, monkeypatch)
    read: Counter[str] = Counter()
    for command in ("features", "dedup", "select"):
        before = counts.value
        run_all(spark, config, command)
        read[command] = counts.value - before
    print(f"rows of text read by a first run with two selections: {dict(read)} of {len(rows)}")
    assert read["features"] == len(rows)
    assert read["dedup"] in (0, len(rows[:10]) + len(rows[40:]))
    tables = [delta.read(spark, config.table(f"selected/{name}")) for name in ("a", "b")]
    selected = {row["text"] for table in tables for row in table.collect()}
    files = (rows[:10], rows[10:25], rows[25:40], rows[40:])
    read_again = [len(file) for file in files if selected & {row["text"] for row in file}]
    assert len(read_again) > 1
    assert read["select"] == sum(read_again)  # once for both selections
    assert [stage.name for stage in stages_of(config, "select")] == ["select/a", "select/b"]


def counted_reads(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count the rows that InputSnapshot hands out, in whichever task reads them."""
    from betr_spark.corpus.snapshot import InputSnapshot

    counter = spark.sparkContext.accumulator(0)

    def through(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counter.add(batch.num_rows)
            yield batch

    for name in ("documents", "stream"):
        read = getattr(InputSnapshot, name)

        def with_count(self: Any, *arguments: Any, read: Any = read, **options: Any) -> Any:
            frame = read(self, *arguments, **options)
            return frame.mapInArrow(through, frame.schema)

        monkeypatch.setattr(InputSnapshot, name, with_count)
    return counter


def test_of_three_runs_at_once_one_works_one_is_refused_and_one_waits(spark: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "docs", [{"id": f"d{i}", "text": f"document number {i} has a text"} for i in range(20)])
    values = {
        "input": {"path": str(tmp_path / "docs"), "id": "id"},
        "output": str(tmp_path / "out"),
        "scorers": {},
        "selections": {"all": {"scorer": "random", "keep": {"documents": 7}}},
    }
    config = Config.model_validate(values)
    ends: dict[str, Any] = {}

    def attempt(name: str, wait_s: float) -> None:
        try:
            ends[name] = run_stages(RunContext(spark, config, wait_s=wait_s, command=name), stages_of(config))
        except LockedError as error:
            ends[name] = str(error)

    first = threading.Thread(target=attempt, args=("first", 0.0))
    first.start()
    while not (tmp_path / "out/_lease").exists():
        time.sleep(0.01)
    others = [threading.Thread(target=attempt, args=arguments) for arguments in (("second", 0.0), ("third", 120.0))]
    for thread in others:
        thread.start()
    for thread in (first, *others):
        thread.join()
    assert [run.skipped for run in ends["first"]] == [False] * 3
    assert "is locked by `betr-spark first`" in ends["second"]
    assert [run.skipped for run in ends["third"]] == [True] * 3
    assert len(recorded(spark, config)) == 3
    assert delta.read(spark, config.table("selected/all")).count() == 7
    assert not list((tmp_path / "out/_scratch").rglob("*"))
