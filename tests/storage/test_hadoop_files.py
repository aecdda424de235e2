"""Small files: a reader never finds a part or nothing; the probe of an output touches nothing above it."""
# ruff: noqa: N802 - Hadoop's names

from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError

from betr_spark.errors import DataError
from betr_spark.spark.jvm import java_class
from betr_spark.storage import hadoop_files
from betr_spark.storage.hadoop_files import check_writable, read_bytes
from betr_spark.storage.small_files import write_bytes


def test_a_rename_that_fails_leaves_the_former_file(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "new/große datei.json")
    write_bytes(spark, path, b"former")

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            write_bytes(spark, path, b"new")
    assert read_bytes(spark, path) == b"former"
    write_bytes(spark, path, b"new")
    assert read_bytes(spark, path) == b"new"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["große datei.json"]


def test_a_file_that_hadoop_wrote_is_replaced_with_its_checksum(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "scorer.json"
    hadoop_path, system = hadoop_files.path_and_system(spark, str(path))
    stream = system.create(hadoop_path, True)
    stream.write(b"written by an earlier version")
    stream.close()
    assert (tmp_path / ".scorer.json.crc").exists()
    write_bytes(spark, str(path), b"new")
    assert read_bytes(spark, str(path)) == b"new"


@pytest.fixture
def mounted(spark: Any, tmp_path: Path) -> str:
    """A folder under another scheme than file:, whose files FileContext renames."""
    configuration = spark._jsc.hadoopConfiguration()
    configuration.set("fs.viewfs.mounttable.tests.link./data", tmp_path.as_uri())
    return "viewfs://tests/data"


def test_another_file_system_renames_over_the_former_file(spark: Any, mounted: str, tmp_path: Path) -> None:
    path = f"{mounted}/scorer.json"
    write_bytes(spark, path, b"former")
    write_bytes(spark, path, b"new")
    assert read_bytes(spark, path) == b"new"
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == ["scorer.json"]
    (tmp_path / "folder/inside").mkdir(parents=True)
    with pytest.raises(Py4JJavaError, match="rename"):  # over a folder that is not empty
        write_bytes(spark, f"{mounted}/folder", b"new")
    assert (tmp_path / "folder/inside").is_dir()
    assert not (tmp_path / "folder.part").exists()


class Store:
    """Stands for an object store's client: records what is asked of it, and refuses all above the output."""

    def __init__(self, spark: Any, *, output: str, fail: bool = False) -> None:
        self._spark, self._output, self._fail = spark, output, fail
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []

    def _check(self, call: str, path: Any) -> str:
        name = str(path.toString())
        self.calls.append(f"{call} {name}")
        if not name.startswith(self._output):
            reason = "403 Forbidden"
            denied = self._spark._jvm.java.nio.file.AccessDeniedException(name, None, reason)
            self._spark._jvm.java.util.concurrent.CompletableFuture.failedFuture(denied).get()
        return name

    def makeQualified(self, path: Any) -> Any:
        return path

    def exists(self, path: Any) -> bool:
        name = self._check("exists", path)
        return any(file == name or file.startswith(f"{name}/") for file in self.files)

    def listStatus(self, path: Any) -> list[str]:
        name = self._check("list", path)
        return [file for file in self.files if file.startswith(f"{name}/")]

    def delete(self, path: Any, recursive: bool) -> None:
        assert not recursive
        self.files.pop(self._check("delete", path), None)

    def create(self, path: Any, overwrite: bool) -> "Upload":
        return Upload(self, self._check("create", path), fail=self._fail)

    def getFileStatus(self, path: Any) -> Any:
        self._check("status", path)
        return type("Status", (), {"isFile": lambda _: False})()


class Upload:
    """An object that becomes visible when it is closed."""

    def __init__(self, store: Store, name: str, *, fail: bool) -> None:
        self._store, self._name, self._fail, self._content = store, name, fail, b""

    def write(self, content: bytes) -> None:
        self._content += content[:1] if self._fail else content
        if self._fail:
            raise OSError("the buffer's disk is full")

    def hasCapability(self, name: str) -> bool:
        return name == "fs.capability.outputstream.abortable"

    def abort(self) -> None:
        self._store.calls.append(f"abort {self._name}")

    def close(self) -> None:
        self._store.files[self._name] = self._content


def use(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def opened(spark: Any, path: str) -> tuple[Any, Any]:  # the tests have no client of S3
        return java_class(spark, "org.apache.hadoop.fs.Path")(path), store

    monkeypatch.setattr(hadoop_files, "path_and_system", opened)


def test_an_object_is_uploaded_once_and_nothing_is_deleted(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "s3a://bucket/team/out/scorer.json"
    store = Store(spark, output="s3a://bucket/team/out")
    use(monkeypatch, store)
    write_bytes(spark, path, b"former")
    write_bytes(spark, path, b"new")
    assert store.files == {path: b"new"}
    assert store.calls == [f"create {path}"] * 2
    broken = Store(spark, output="s3a://bucket/team/out", fail=True)
    broken.files[path] = b"former"
    use(monkeypatch, broken)
    with pytest.raises(OSError, match="disk is full"):
        write_bytes(spark, path, b"new")
    assert (broken.files, broken.calls[-1]) == ({path: b"former"}, f"abort {path}")


def test_the_probe_needs_no_right_above_the_output(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    output = "s3a://bucket/team/out"
    store = Store(spark, output=output)
    use(monkeypatch, store)
    check_writable(spark, output)
    assert store.files == {}
    changes = [call for call in store.calls if call.startswith(("create ", "delete "))]
    assert len(changes) == 3  # the probe, twice, and the folder that it needed
    assert all(call.split()[1].startswith(output) for call in changes)
    store.files[f"{output}/runs/a.parquet"], store.calls = b"", []
    check_writable(spark, output)
    assert list(store.files) == [f"{output}/runs/a.parquet"]
    assert all(call.split()[1].startswith(output) for call in store.calls)


def test_an_output_that_cannot_be_written_is_named(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as caught:
        check_writable(spark, "s3a://bucket/out")
    assert str(caught.value).startswith(
        "output: s3a://bucket/out: cannot be written (Hadoop: Class org.apache.hadoop.fs.s3a"
    )
    store = Store(spark, output="s3a://bucket/team/out")
    use(monkeypatch, store)
    with pytest.raises(DataError) as caught:
        check_writable(spark, "s3a://bucket/another")
    assert "s3a://bucket/another: cannot be read or written (access denied: " in str(caught.value)


def test_children_have_names_of_any_kind(spark: Any, tmp_path: Path) -> None:
    names = ["a, b.json", "c[d]", "grüße 1", "line\nbreak"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert hadoop_files.children(spark, str(tmp_path)) == sorted([*names, "folder"])
    assert hadoop_files.children(spark, str(tmp_path / "folder")) == []
    assert hadoop_files.children(spark, str(tmp_path / "none")) == []


def test_the_probe_leaves_no_folder(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"output: .*file is a file; a folder is required"):
        check_writable(spark, str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"output: .*file/out: cannot be written \(.*Parent path is not a directory"):
        check_writable(spark, str(tmp_path / "file/out"))
    check_writable(spark, str(tmp_path / "out"))
    check_writable(spark, str(tmp_path / "new/deep/out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]
    assert list((tmp_path / "out").iterdir()) == []
