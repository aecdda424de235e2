"""The cache of compiled kernels, in processes of their own: copies find it, changed sources do not, damage does no harm."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mmh3
import numba
import numpy as np
import pytest

import betr_spark
from betr_spark.kernels import compiled_code, murmur3
from betr_spark.kernels.jit import jit

PACKAGE = Path(betr_spark.__file__).parent
DOCUMENT = b"a document of more than sixteen bytes"
HASH = mmh3.hash_bytes(DOCUMENT, 0, x64arch=True).hex()
PROGRAM = f"""
import json, os, sys, numpy as np
before = dict(os.environ)
from betr_spark.kernels import bits, murmur3, token_runs
data = np.frombuffer({DOCUMENT!r}, np.uint8)
hashes = [murmur3.content_hashes(data.view(kind), np.array([0, len(data)])).tobytes().hex() for kind in sys.argv[1:]]
kernels = [value for module in (bits, murmur3, token_runs) for value in vars(module).values() if hasattr(value, "stats")]
print(json.dumps({{
    "hashes": hashes, "file": murmur3.__file__, "folder": murmur3.content_hashes.stats.cache_path,
    "hits": sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels),
    "compiled": sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels),
    "environment_changed": before != dict(os.environ),
}}))
"""


def start(path: Path, variables: dict[str, str], *types: str) -> subprocess.Popen[str]:
    """Start the program with the package at a path; each of the types is an overload."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}}
    variables = {**inherited, "PYTHONPATH": str(path), **variables}
    command = [sys.executable, "-c", PROGRAM, *types]
    return subprocess.Popen(command, env=variables, cwd="/", stdout=subprocess.PIPE, text=True)


def with_cache(folder: Path) -> dict[str, str]:
    return {"NUMBA_CACHE_DIR": str(folder), "XDG_CACHE_HOME": f"{folder}-xdg"}


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(output)


def copy_package(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "betr_spark", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def zipped_package(file: Path) -> Path:
    """Write the package to a zip, as Spark ships code."""
    with zipfile.ZipFile(file, "w") as archive:
        for source in sorted(PACKAGE.rglob("*.py")):
            archive.write(source, source.relative_to(PACKAGE.parent))
    return file


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A cache, filled by a copy of the package that is gone since; and what the program printed."""
    folder = tmp_path_factory.mktemp("first")
    printed = result(start(copy_package(folder / "app-1"), with_cache(folder / "cache"), "uint8"))
    shutil.rmtree(folder / "app-1")
    assert printed["hashes"] == [HASH]
    assert printed["compiled"] >= 4
    assert printed["hits"] == 0
    return folder / "cache", printed


def test_copies_in_other_folders_and_in_a_zip_compile_nothing(tmp_path: Path, first_run: tuple[Path, Any]) -> None:
    """Spark unpacks an archive into a new folder for each application."""
    cache, first = first_run
    copy = copy_package(tmp_path / "container/app-2")
    for file in copy.rglob("*.py"):
        os.utime(file, (1e9, 1e9))
    code_zip = zipped_package(tmp_path / "code.zip")
    for path in (copy, code_zip):
        again = result(start(path, with_cache(cache), "uint8"))
        assert again["file"].startswith(str(path))
        assert again["hashes"] == [HASH]
        assert (again["hits"], again["compiled"]) == (1, 0)
        assert again["folder"] == first["folder"]
        assert again["folder"].startswith(str(cache))
        assert not again["environment_changed"]
    assert not Path(f"{cache}-xdg").exists()


def test_a_change_to_a_kernel_in_another_file_compiles_its_callers_again(
    tmp_path: Path, first_run: tuple[Path, Any]
) -> None:
    copy = copy_package(tmp_path / "app")
    called = copy / "betr_spark/kernels/token_runs.py"
    called.write_text(called.read_text("utf-8").replace("0xFF51AFD7ED558CCD", "0xFF51AFD7ED558CCF"), "utf-8")
    changed = result(start(copy, with_cache(first_run[0]), "uint8"))
    assert changed["hashes"] != [HASH]
    assert changed["folder"] != first_run[1]["folder"]


def test_damaged_files_are_compiled_again_from_a_zip_without_a_home(
    tmp_path: Path, first_run: tuple[Path, Any]
) -> None:
    """An executor may have no home: the cache is in the temporary folder then."""
    code_zip, folder = zipped_package(tmp_path / "code.zip"), tmp_path / f"betr-spark-{os.getuid()}"
    shutil.copytree(first_run[0] / "betr-spark", folder)
    folder.chmod(0o700)
    for file in folder.rglob("*.nbc"):
        file.write_bytes(file.read_bytes()[:100] if "content_hashes" in file.name else b"")
    variables = {"HOME": os.devnull, "TMPDIR": str(tmp_path)}
    damaged, repaired = (result(start(code_zip, variables, "uint8")) for _ in range(2))
    assert damaged["file"].startswith(str(code_zip))
    assert Path(damaged["folder"]).parent == folder
    assert damaged["hashes"] == repaired["hashes"] == [HASH]
    assert damaged["compiled"] >= 4
    assert (repaired["hits"], repaired["compiled"]) == (1, 0)


def test_processes_that_compile_at_the_same_time_leave_a_complete_cache(tmp_path: Path) -> None:
    processes = [start(PACKAGE.parent, with_cache(tmp_path / "cache"), kind) for kind in ("uint8", "int8", "uint8")]
    assert [result(process)["hashes"] for process in processes] == [[HASH]] * 3
    files = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(name.endswith(".nbc") for name in files)
    assert sum(name.startswith("murmur3.content_hashes") for name in files) == 2
    after = result(start(PACKAGE.parent, with_cache(tmp_path / "cache"), "uint8", "int8"))
    assert after["hashes"] == [HASH] * 2
    assert (after["hits"], after["compiled"]) == (2, 0)


def chosen_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Path | None:
    (folder / "tmp").mkdir(exist_ok=True)
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(folder / variables[name]) if variables.get(name) else "")
    monkeypatch.setattr(compiled_code.numba.config, "CACHE_DIR", os.environ["NUMBA_CACHE_DIR"])
    monkeypatch.setattr(compiled_code.tempfile, "tempdir", str(folder / "tmp"))
    return compiled_code.cache_folder.__wrapped__()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"NUMBA_CACHE_DIR": "numba", "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "numba/betr-spark"),
        ({"NUMBA_CACHE_DIR": os.devnull, "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "xdg/betr-spark"),
        ({"HOME": "home"}, "home/.cache/betr-spark"),
        ({"HOME": os.devnull}, f"tmp/betr-spark-{os.getuid()}"),
    ],
)
def test_the_folder_is_the_first_that_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    assert chosen_folder(tmp_path, monkeypatch, **variables) == tmp_path / folder
    assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


CANDIDATES = [
    ({"HOME": os.devnull}, f"tmp/betr-spark-{os.getuid()}"),
    ({"HOME": "home"}, "home/.cache/betr-spark"),
    ({"NUMBA_CACHE_DIR": "numba", "HOME": os.devnull}, "numba/betr-spark"),
]


@pytest.mark.parametrize(("variables", "folder"), CANDIDATES)
@pytest.mark.parametrize("kind", ["others can write to it", "a link", "a file", "another user's"])
def test_a_folder_that_is_not_private_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str, kind: str
) -> None:
    private = tmp_path / folder
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    private.parent.mkdir(parents=True)
    if kind == "a link":
        private.symlink_to(tmp_path / "elsewhere")
    elif kind == "a file":
        private.write_text("")
    else:
        private.mkdir()
        private.chmod(0o777 if kind == "others can write to it" else 0o700)
    if kind == "another user's":
        user = os.getuid()
        monkeypatch.setattr(compiled_code.os, "getuid", lambda: user + 1)
        if folder.startswith("tmp"):
            private.rename(private.with_name(f"betr-spark-{user + 1}"))
    assert chosen_folder(tmp_path, monkeypatch, **variables) != private


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o1777, True)])
def test_a_folder_that_others_can_replace_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, used: bool
) -> None:
    """In a folder that all can write to, such as /tmp, all can rename what is in it, but not where the sticky bit is set."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba").chmod(mode)
    chosen = chosen_folder(tmp_path, monkeypatch, NUMBA_CACHE_DIR="numba", HOME="home")
    assert (chosen == tmp_path / "numba/betr-spark") == used


def test_without_a_folder_each_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_code, "cache_folder", lambda: None)
    kernel = jit(murmur3.rotate_left.py_func)
    assert kernel(np.uint64(1), 3) == 8
    assert kernel.stats.cache_path is None


def test_overloads_saved_from_an_old_view_of_the_cache_do_not_take_each_others_place(tmp_path: Path) -> None:
    """Numba's index gives both the name of number 1: two processes see it empty before either writes."""
    left, right = (compiled_code._OverloadFiles(str(tmp_path), "kernel", None) for _ in range(2))
    left._load_index = right._load_index = dict  # type: ignore[method-assign]
    left.save(("types of the first",), "first code")
    right.save(("types of the second",), "second code")
    reader = compiled_code._OverloadFiles(str(tmp_path), "kernel", None)
    assert reader.load(("types of the first",)) == "first code"
    assert reader.load(("types of the second",)) == "second code"
    assert reader.load(("types of a third",)) is None


def test_a_full_disk_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = compiled_code.KernelCache(murmur3.rotate_left.py_func)
    monkeypatch.setattr(cache._cache_file, "_save_data", fail)
    compiled = numba.njit(nogil=True)(murmur3.rotate_left.py_func)  # what comes from a cache cannot be saved again
    compiled(np.uint64(1), 3)
    overload = next(iter(compiled.overloads.values()))
    cache.save_overload(overload.signature.args, overload)


def test_the_digest_covers_the_modules_of_the_functions_own_package() -> None:
    """dedup's kernels use constants of each other's modules."""
    from betr_spark.dedup import buckets, exhaustive_search

    digests = {
        name: compiled_code.source_digest(name)
        for name in (buckets.__name__, exhaustive_search.__name__, murmur3.__name__)
    }
    assert digests[buckets.__name__] == digests[exhaustive_search.__name__] != digests[murmur3.__name__]
    assert compiled_code.source_digest(__name__) not in digests.values()


def test_code_that_needs_a_module_that_is_not_here_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    files = compiled_code.KernelCache(murmur3.rotate_left.py_func)._cache_file
    monkeypatch.setattr(files, "_load_data", lambda _: pickle.loads(b"cno_such_module\nthing\n."))
    assert files.load("key") is None
