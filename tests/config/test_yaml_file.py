"""Overrides: keys with dots, what an override may not be, and how a message shows the keys."""

from pathlib import Path

import pytest

from betr_spark.config import load_config
from betr_spark.config.yaml_file import overridden, read_mapping
from betr_spark.errors import ConfigError

TEXT = """
input: {path: docs}
output: out
targets: {t: {path: t.jsonl, template: "{q}"}}
selections:
  betr-1.5: {scorer: betr, keep: {documents: 3}}
  v1.2.3: {scorer: betr, keep: {documents: 3}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "conf.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "conf.yaml"


@pytest.mark.parametrize(
    "override",
    [
        'selections."betr-1.5".keep.documents=5',
        "selections.'betr-1.5'.keep.documents=5",
        '"selections"."betr-1.5".keep = {documents: 5}',
        ' selections . "betr-1.5" . keep . documents =5',
    ],
)
def test_a_key_with_a_dot_is_quoted(path: Path, override: str) -> None:
    selections = load_config(path, (override,)).selections
    assert (selections["betr-1.5"].keep.documents, selections["v1.2.3"].keep.documents) == (5, 3)
    assert len(selections) == 2


def test_a_new_key_with_dots_and_a_value_with_an_equals_sign(path: Path) -> None:
    raw = overridden(read_mapping(path), ('selections."a.b.c".keep.tokens=7', 'targets.t.template=a=b.c="d"'))
    assert raw["selections"]["a.b.c"] == {"keep": {"tokens": 7}}
    assert raw["targets"]["t"]["template"] == 'a=b.c="d"'


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("selections.betr-1.5.keep.documents=5", """'selections."betr-1.5".keep.documents=5'"""),
        ("selections.v1.2.3.scorer=random", """'selections."v1.2.3".scorer=random'"""),
        ("selections.betr-1.5={}", """'selections."betr-1.5"={}'"""),
    ],
)
def test_a_missing_quote_is_shown(path: Path, override: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, (override,))
    assert str(caught.value).startswith(f"--set {override}: key '")
    assert str(caught.value).endswith(f"not found; quote a key that contains a dot: --set {right}")


@pytest.mark.parametrize("override", ["sample", "=1", "a..b=1", ".a=1", 'a."b=1', 'a."b"c=1', ""])
def test_an_override_of_another_form_is_refused(path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="the form 'key.sub=value' is required; quote a key that contains a dot"):
        load_config(path, (override,))


def test_a_message_quotes_a_key_with_a_dot(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, ('selections."betr-1.5".keep.documents=-1',))
    assert str(caught.value).startswith('config.selections."betr-1.5".keep.documents: ')
