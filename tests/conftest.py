"""One Spark session for all tests, a small encoder, and a small corpus with what real ones have."""

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from py4j.java_gateway import JavaClass, JVMView

hypothesis.settings.register_profile("kernels", deadline=None)  # the first call compiles
hypothesis.settings.load_profile("kernels")

# The collector with the fewest threads and few collections; one compiler, with room for all that it compiles, costs less than two
# for some minutes of small jobs. Hadoop starts a `chmod` for each file that it writes, which VFORK makes cheaper.
os.environ["JDK_JAVA_OPTIONS"] = (
    "-XX:+UseSerialGC -Xmn600m -XX:MetaspaceSize=320m -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m "
    "-Djdk.lang.Process.launchMechanism=VFORK"
)
os.environ.setdefault("PYSPARK_SUBMIT_ARGS", "--driver-memory 3g pyspark-shell")  # two workers share a machine

SHARED = Path(__file__).parents[2] / "shared"
TOPICS = {
    "kitchen": [
        "flour",
        "butter",
        "oven",
        "simmer",
        "garlic",
        "onion",
        "sauce",
        "bake",
        "whisk",
        "dough",
        "pepper",
        "roast",
    ],
    "harbour": [
        "anchor",
        "tide",
        "vessel",
        "mast",
        "cargo",
        "dock",
        "sailor",
        "current",
        "rope",
        "compass",
        "hull",
        "deck",
    ],
    "orchard": [
        "apple",
        "blossom",
        "graft",
        "prune",
        "harvest",
        "branch",
        "soil",
        "root",
        "ladder",
        "cider",
        "pear",
        "crate",
    ],
}
COMMON = [
    "the",
    "a",
    "of",
    "and",
    "with",
    "in",
    "on",
    "for",
    "from",
    "then",
    "when",
    "it",
    "was",
    "is",
    "are",
    "by",
    "at",
    "as",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
    # Two workers take files in this order, so the longest ones come first; test_kills compares with what test_whole_runs makes.
    order = ["test_whole_runs.py", "test_kinds.py", "test_kills.py", "test_increments.py", "test_direct.py"]
    items.sort(key=lambda item: order.index(item.path.name) if item.path.name in order else len(order))


# For few rows: compiling and replanning take longer than the rows themselves. Processes that tests start use them too.
SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",  # tasks of VACUUM, 10,000 by default
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def _remember_java_classes() -> None:
    """Look up a class of the JVM by name once a session: py4j searches all jars for it, hundreds of times in a pipeline run."""
    look_up = JVMView.__getattr__

    def remembered(view: JVMView, name: str) -> Any:
        value = look_up(view, name)
        if isinstance(value, JavaClass):
            vars(view)[name] = value
        return value

    JVMView.__getattr__ = remembered


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    here = Path.cwd()
    _remember_java_classes()
    os.chdir(tmp_path_factory.mktemp("spark"))  # Spark leaves its warehouse in the working folder
    from betr_spark.spark.session import build_session

    session = build_session("betr-spark tests")
    for name, value in SMALL.items():
        session.conf.set(name, value)
    os.chdir(here)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def small_spark(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment for processes that tests start: the local configuration with `SMALL`."""
    folder = tmp_path_factory.mktemp("conf")
    for file in (Path(__file__).parents[1] / "conf/local").iterdir():
        shutil.copy(file, folder)
    with (folder / "spark-defaults.conf").open("a", encoding="utf-8") as defaults:
        defaults.writelines(f"{name} {value}\n" for name, value in SMALL.items())
    return {**os.environ, "SPARK_CONF_DIR": str(folder)}


def made_up_text(pick: random.Random, topic: str, *, words: int) -> str:
    return " ".join(pick.choice(TOPICS[topic] if pick.random() < 0.5 else COMMON) for _ in range(words))


@pytest.fixture(scope="session")
def corpus() -> list[dict[str, Any]]:
    """600 documents of three sources, with exact copies, near copies, empty and odd ones; unique ids."""
    pick = random.Random(7)
    rows = []
    for index in range(540):
        topic = list(TOPICS)[index % 3]
        text = made_up_text(pick, topic, words=pick.randint(30, 120))
        rows.append({"id": f"d{index:04d}", "source": topic, "text": text, "url": f"u/{index}"})
    for index in range(30):
        rows.append({**rows[index * 5], "id": f"e{index:04d}"})
    for index in range(20):
        words = rows[index * 7]["text"].split()
        words[len(words) // 2] = "changed"
        rows.append({**rows[index * 7], "id": f"n{index:04d}", "text": " ".join(words)})
    odd = [
        "",
        "  \n\t\u3000",
        "one",
        "x\u2028y",
        "__label__1 </s>",
        "漢字かな交じり文の例です。" * 9,
        "a\0b c",
        "é" * 300,
    ]
    for index, text in enumerate(odd):
        rows.append({"id": f"o{index:04d}", "source": "odd", "text": text, "url": "u"})
    pick.shuffle(rows)
    return rows


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of one table of word vectors: fast, and topics lie apart."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *sorted({*COMMON, *(w for topic in TOPICS.values() for w in topic)})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(len(words), 32)).astype(np.float32)
    for axis, topic in enumerate(TOPICS.values()):
        for word in topic:
            vectors[words.index(word), axis] += 8
    folder = tmp_path_factory.mktemp("encoder")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pick = random.Random(11)
    folder = tmp_path_factory.mktemp("targets")
    for name, topic in (("cooking", "kitchen"), ("sailing", "harbour")):
        rows = [{"question": made_up_text(pick, topic, words=12), "answer": TOPICS[topic][i % 12]} for i in range(20)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def write_parquet(folder: Path, rows: list[dict[str, Any]], *, files: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // files)
    for index in range(files):
        part = pa.Table.from_pylist(
            rows[index * size : (index + 1) * size], schema=pa.table({k: [""] for k in rows[0]}).schema
        )
        pq.write_table(part, folder / f"part-{index}.parquet")
    return folder


@pytest.fixture(scope="session")
def finished(spark: Any, tmp_path_factory: pytest.TempPathFactory, corpus: Any, encoder: Path, targets: Path) -> Path:
    """A folder with the corpus in three files, `conf.yaml`, and `out`, the output of a whole run; tests copy what they change."""
    from betr_spark.config import load_config
    from betr_spark.pipeline.run import run_all

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    built = folder / "built"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker builds it, or has built it
        deadline = time.monotonic() + 900
        while not built.exists():
            assert time.monotonic() < deadline, f"{folder}: not built in 15 minutes"
            time.sleep(0.1)
        return folder
    path = write_parquet(folder / "docs", corpus, files=3)
    config = write_config(folder / "conf.yaml", settings(path, folder / "out", encoder, targets))
    run_all(spark, load_config(config))
    built.touch()
    return folder


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], spark: Any) -> Any:
    """Run a command in the tests' session; returns exit code, standard output, error lines."""

    from betr_spark.cli import main

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as status:
            main(arguments)
        out, err = capsys.readouterr()
        return int(status.value.code or 0), out, [line for line in err.splitlines() if line.startswith("error: ")]

    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A configuration of the finished run whose output is a copy."""
    shutil.copytree(finished / "out", tmp_path / "out")
    values = yaml.safe_load((finished / "conf.yaml").read_text(encoding="utf-8"))
    return write_config(tmp_path / "conf.yaml", {**values, "output": str(tmp_path / "out")})


def settings(path: Path, output: Path, encoder: Path, targets: Path, **more: Any) -> dict[str, Any]:
    names = {"cooking": "cooking.jsonl", "sailing": "sailing.jsonl"}
    return {
        "input": {"path": str(path), "id": "id", "source": "source", "columns": ["url"]},
        "output": str(output),
        "targets": {n: {"path": str(targets / f), "template": "{question}\n{answer}"} for n, f in names.items()},
        "sample": {"documents": 300},
        "encoder": {"model": str(encoder)},
        "scorers": {"betr": {"dim": 16, "lr": 1.0, "epochs": 20}},
        "selections": {
            "betr-30": {"scorer": "betr", "keep": {"token_fraction": 0.3}},
            "random-30": {"scorer": "random", "keep": {"token_fraction": 0.3}},
            "best-50": {"scorer": "betr", "keep": {"documents": 50}},
        },
        **more,
    }


def write_config(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
