"""Configuration: everything wrong is said at once, by key."""

from pathlib import Path

import pytest

from betr_spark.config import Config, load_config
from betr_spark.errors import ConfigError

GOOD = """
input: {path: docs.parquet}
output: out
targets: {gsm8k: {path: t.jsonl, template: "{question}"}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "conf.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_three_keys_are_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert (config.sample.documents, config.minhash.bands, config.minhash.rows) == (10_000, 14, 8)
    assert list(config.trained_scorers()) == ["betr"]
    assert config.selections["betr-10"].keep.token_fraction == 0.1


def test_all_problems_at_once_each_with_its_key(tmp_path: Path) -> None:
    text = GOOD + "minhash: {band: 3}\nsample: {documents: many}\nselections: {a: {scorer: betr, keep: {}}}\n"
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert "config.minhash.band: unknown key; did you mean 'bands'?" in lines
    assert any(line.startswith("config.sample.documents: ") and "'many'" in line for line in lines)
    assert any(line.startswith("config.selections.a.keep: exactly one of") for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: out", "config.input: missing"),
        (GOOD + "targts: {}", "did you mean 'targets'"),
        (GOOD + "scorers: {random: {}}", "reserved for the control"),
        (GOOD + "scorers: {a: {kind: betr, dimm: 3}}", "config.scorers.a.dimm: unknown key; did you mean 'dim'?"),
        (GOOD + "scorers: {a: {kind: hq}}", "config.scorers.a.kind: 'hq' is not one of betr, classifier, teacher"),
        (GOOD + "scorers: {a: {kind: fasttext, path: m.bin}}", "config.scorers.a.label: missing"),
        ("input: {path: a}\noutput: o", "targets: missing; scorers.betr requires benchmarks"),
        ("input: {path: a, tokens: {tokenizer: t, column: n}}\noutput: o", "config.input.tokens: tokenizer and column"),
        (
            "input: {path: a, tokens: {estimate: 20}}\noutput: o",
            "config.input.tokens: estimate: a tokenizer is required",
        ),
        ("input: {path: a, tokens: {column: a..b}}\noutput: o", "config.input.tokens.column: 'a..b' is not the name"),
        ("input: {path: a}\noutput: o\ntargets: {t: {path: a}}", "config.targets.t: exactly one of template, jinja"),
        (
            "input: {path: a}\noutput: o\nencoder: {backend: onnx, dtype: float16}",
            "config.encoder: dtype: float16 requires backend: torch",
        ),
        (GOOD + "selections: {a: {scorer: btr, keep: {documents: 1}}}", "'btr' is not one of betr, random"),
        (GOOD + "selections: {a: {scorer: betr, keep: {documents: 1, tokens: 2}}}", "found tokens, documents"),
        (GOOD + "selections: {../a: {scorer: betr, keep: {documents: 1}}}", "config.selections"),
        (GOOD + "output: other", "key 'output' is given twice"),
        (GOOD + "dedup: {similarity: 1.5}", "config.dedup.similarity"),
        (GOOD + "dedup: {survivor: none}", "'none' is not one of betr"),
        (GOOD + "scorers: {betr: {lr: slow}}", "config.scorers.betr.lr"),
        (
            "input: {path: a, columns: [a b]}\noutput: o\ntargets: {t: {path: a, template: '{b}'}}",
            "Delta's column names",
        ),
        ("input: {path: a, columns: [u, U]}\noutput: o\ntargets: {t: {path: a, template: '{b}'}}", "columns: 'u'"),
        (
            "input: {path: a, columns: [Detail]}\noutput: o\ntargets: {t: {path: a, template: '{b}'}}",
            "columns: 'Detail'",
        ),
        (GOOD + "scorers: {betr: {dim: 4}}", "config.scorers.betr.dim"),
        (GOOD + "sample: {seed: 100000000000000000000}", "config.sample.seed"),
        ("output: 2024-13-45", "not valid YAML: month"),
        ("[1, 2]", "found list; a mapping of keys is required"),
        ("input: {path", "not valid YAML: line 1, column 13: expected"),
        ("output: !!bool abc", "not valid YAML"),
        (GOOD + f"selections: {{{'a' * 300}: {{scorer: betr, keep: {{documents: 1}}}}}}", "config.selections"),
        ("input: {path: a, max_text_bytes: 1000000000000000000000000}\noutput: o\nscorers: {}", "input.max_text_bytes"),
        ("output: !!timestamp abc", "not valid YAML"),
        ("input: {path: a, columns: [rank]}\noutput: o\ntargets: {t: {path: a, template: '{b}'}}", "columns: 'rank'"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", "\\(")):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read \(No such file or directory\)$"):
        load_config(tmp_path / "nowhere.yaml")


def test_overrides_are_yaml_and_reach_any_depth(tmp_path: Path) -> None:
    only = "targets={qasc: {path: q.jsonl, template: '{q}'}}"
    config = load_config(write(tmp_path, GOOD), ("sample.documents=7", "scorers.betr.lr=0.5", only))
    assert config.sample.documents == 7
    assert config.scorers["betr"].lr == 0.5
    assert list(config.targets) == ["qasc"]
    with pytest.raises(ConfigError, match="'key.sub=value' is required"):
        load_config(write(tmp_path, GOOD), ("sample",))
    with pytest.raises(ConfigError, match="'output' is not a mapping"):
        load_config(write(tmp_path, GOOD), ("output.x=1",))


def test_merge_keys_are_yaml(tmp_path: Path) -> None:
    text = "input: {path: d}\noutput: o\ntargets:\n  a: &a {path: a.jsonl, template: '{q}'}\n  b: {<<: *a, path: b.jsonl}\n"
    config = load_config(write(tmp_path, text))
    assert (config.targets["b"].path, config.targets["b"].template) == ("b.jsonl", "{q}")


def test_the_models_are_frozen(tmp_path: Path) -> None:
    config: Config = load_config(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.output = "elsewhere"  # type: ignore[misc]


def test_heads_are_scorers_of_their_own_names(tmp_path: Path) -> None:
    targets = "{web-q: {path: a, template: '{q}'}, b: {path: b, template: '{q}'}}"
    text = f"input: {{path: d}}\noutput: o\ntargets: {targets}\nscorers: {{s: {{per_benchmark: true}}}}\n"
    config = load_config(write(tmp_path, text + "selections: {w: {scorer: s_web_q, keep: {documents: 3}}}\n"))
    assert config.benchmark_scorers("s") == {"web-q": "s_web_q", "b": "s_b"}
    assert config.scored() == ["s", "s_web_q", "s_b"]
    with pytest.raises(
        ConfigError, match=r"scorers\.s\.per_benchmark: labels\.granularity 'global' does not distinguish benchmarks"
    ):
        load_config(write(tmp_path, text + "labels: {granularity: global}\n"))
    with pytest.raises(ConfigError, match=r"scorers\.s\.per_benchmark: the scorer of benchmark b would be named s_b"):
        load_config(write(tmp_path, text.replace("scorers: {", "scorers: {s_b: {}, ")))


def test_without_scorers_no_benchmark_is_wanted_and_the_longest_copy_stays(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "input: {path: a}\noutput: o\nscorers: {}\n"))
    assert (config.survivor(), config.targets, config.selections) == ("longest", {}, {})
    column = load_config(write(tmp_path, "input: {path: a}\noutput: o\nscorers: {q: {kind: expression, column: c}}\n"))
    assert (column.survivor(), column.scored()) == ("q", ["q"])
