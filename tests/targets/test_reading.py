"""Folders that Hugging Face `datasets` writes, and targets of several benchmarks."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from betr_spark.config.targets import TargetConfig
from betr_spark.errors import DataError
from betr_spark.targets.reading import Benchmark, read_benchmark, read_content, targets_of


def saved(folder: Path, values: list[str]) -> Path:
    folder.mkdir(parents=True)
    table, packed = pa.table({"q": values}), io.BytesIO()
    with pa.ipc.new_stream(packed, table.schema) as writer:
        writer.write_table(table)
    (folder / "data-00000-of-00001.arrow").write_bytes(packed.getvalue())
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder


def test_a_saved_split_is_read_and_other_folders_are_named(spark: Any, tmp_path: Path) -> None:
    target = TargetConfig(path=str(saved(tmp_path / "d/train", ["x", "y"])), template="{q}")
    examples = targets_of({"b": target}, {"b": read_benchmark(spark, "targets.b", target)})
    assert [(e.row, e.text) for e in examples] == [(0, "x"), (1, "y")]
    with pytest.raises(DataError, match=r"^targets.b.path: .*nowhere: no such file$"):
        read_benchmark(spark, "targets.b", target.model_copy(update={"path": str(tmp_path / "nowhere")}))
    with pytest.raises(DataError, match="is a folder; a file is required"):
        read_content(spark, str(tmp_path / "d"))
    (tmp_path / "d/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(DataError, match="holds the splits train, test; name one of them"):
        read_content(spark, str(tmp_path / "d"))
    for damaged in ("", "[]", "{}", '{"_data_files": 3}'):
        (tmp_path / "d/train/state.json").write_text(damaged)
        with pytest.raises(DataError, match=r"state\.json: damaged: a JSON object with a list '_data_files'"):
            read_content(spark, str(tmp_path / "d/train"))


def test_repeated_examples_and_test_items_are_no_targets() -> None:
    plain = TargetConfig(path="t", template="{q}")
    rows = [b'{"q": "one"}\n{"q": "two"}\n', b'{"q": "ONE"}\n{"q": "three"}\n']
    both = {"a": Benchmark(rows[0], None), "b": Benchmark(rows[1], None)}
    assert [e.text for e in targets_of({"a": plain, "b": plain}, both) if e.benchmark == "b"] == ["three"]
    with pytest.raises(DataError, match="every example of targets.b is also in an earlier benchmark"):
        targets_of({"a": plain, "b": plain}, {**both, "b": Benchmark(b'{"q": "two"}\n', None)})
    held = plain.model_copy(update={"test": "test"})
    with pytest.raises(DataError, match="example 2 of targets.a is item 1 of its test file"):
        targets_of({"a": held}, {"a": Benchmark(rows[0], b'{"q": "Two"}\n')})
