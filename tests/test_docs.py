"""The documentation agrees with the code: keys, defaults, columns, commands, links, and the walks through the code."""

import ast
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from test_architecture import ROOMS

from betr_spark import schemas
from betr_spark.cli import app
from betr_spark.config import Config
from betr_spark.config.scorers import ScorerConfig

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "betr_spark"
README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]
NOT_PLAIN = re.compile(
    r"\b(wanted|wants|anew|mends?|held against|for want of|stands? in|so too|is to be had|teacher's|merit)\b",
    re.IGNORECASE,
)
TABLES = {
    "selected/NAME": ", ".join(f"{name} string" for name in schemas.SELECTED_COLUMNS),
    "duplicates": schemas.DUPLICATES,
    "features": f"{schemas.FEATURES}, {schemas.INPUT_FILE} string, {schemas.BATCH} bigint",
    "ranked_sample": schemas.RANKED_SAMPLE,
    "quarantine": schemas.QUARANTINED,
    "evaluations": schemas.EVALUATIONS,
    "tombstones": schemas.TOMBSTONES,
    "runs": schemas.RUNS,
}


def section(page: Path, heading: str) -> str:
    """The text below a heading, to the next heading of the same depth or a higher one."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(heading)
    depth = len(heading.split(maxsplit=1)[0])
    ends = [i for i, line in enumerate(lines) if i > start and re.match(rf"#{{1,{depth}}} ", line)]
    return "\n".join(lines[start + 1 : ends[0] if ends else None])


def rows_of(text: str) -> list[list[str]]:
    """Cells of the body rows of every Markdown table in a text."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0] and not set(row[0]) <= {"-", "|"}]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models in the arguments of an annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the configuration with its default; NAME for the name in a mapping. A scorer's kinds share their keys."""
    for name, field in model.model_fields.items():
        key, annotation = f"{prefix}{name}", field.annotation
        is_mapping = typing.get_origin(annotation) is dict
        submodels = models_in(annotation)
        if submodels and not is_mapping and not isinstance(annotation, types.UnionType):
            yield from keys_of(submodels[0], f"{key}.")
        elif is_mapping and submodels and key != "evaluate.off_target":
            for submodel in submodels:
                yield from keys_of(submodel, f"{key}.NAME.")
        elif key == "evaluate.off_target":
            yield f"{key}.NAME", None
        elif key == "decontaminate":
            yield key, field.default
            yield from keys_of(submodels[0], f"{key}.")
        else:
            yield key, {} if field.default_factory is dict else field.get_default(call_default_factory=False)


def written(default: Any) -> str:
    """A default as docs/configuration.md writes it."""
    if default is PydanticUndefined:
        return "required"
    if default is None or (isinstance(default, tuple | dict) and not default):
        return "none"
    if isinstance(default, str):
        return f"`{default}`" if default else '`""`'
    return f"`{json.dumps(default)}`"


def test_every_key_has_a_row_with_its_default() -> None:
    documented = {}
    for row in rows_of((REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")):
        key = row[0].strip("`")
        documented.setdefault(key, row[2] if key.startswith("scorers.") else row[1])
    expected = list(keys_of(Config))
    missing = {key for key, _ in expected} - set(documented)
    unknown = {key for key in documented if "." in key and "/" not in key} - {key for key, _ in expected}
    wrong = [
        f"{key}: {written(default)}, documented as {documented[key]}"
        for key, default in expected
        if key in documented and key != "scorers.NAME.kind" and written(default) not in documented[key]
    ]
    assert (missing, unknown, wrong) == (set(), set(), [])


def test_the_kinds_of_scorers_are_documented() -> None:
    members = typing.get_args(typing.get_args(ScorerConfig)[0])
    kinds = {typing.get_args(member)[1].tag for member in members}
    documented = {row[0].strip("`") for row in rows_of((REPOSITORY / "docs/scorers.md").read_text(encoding="utf-8"))}
    assert kinds <= documented
    for kind in kinds:
        section(REPOSITORY / "docs/scorers.md", f"## {kind}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml[^\n]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        mapping = yaml.safe_load(block)
        if "input" in mapping:
            Config.model_validate(mapping)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"(?:^ {4}|`)(?:\.venv/bin/)?betr-spark ([^`#\n]+)", text, re.MULTILINE):
        name, *arguments = line.split()
        if name == "COMMAND":
            continue
        assert name in commands, line
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options, line


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_row(table: str) -> None:
    columns = [column.split()[0] for column in re.sub(r"<[^()]*?>+", "", TABLES[table]).split(", ")]
    text = section(REPOSITORY / "docs/tables.md", f"## {table}")
    documented = {name for row in rows_of(text) for name in re.findall(r"`(\w+)`", row[0])}
    assert set(columns) <= documented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link


def test_every_page_is_in_the_index() -> None:
    index = REPOSITORY / "docs/index.md"
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", index.read_text(encoding="utf-8")))
    assert linked == {page.relative_to(index.parent).as_posix() for page in PAGES if page not in (README, index)}


def test_the_readme_is_short() -> None:
    assert 600 <= len(README.read_text(encoding="utf-8").split()) <= 900


def test_the_packages_are_listed_in_the_order_of_their_imports() -> None:
    text = section(REPOSITORY / "docs/architecture.md", "## Packages")
    listed = [name for row in rows_of(text)[1:] for name in re.findall(r"`(\w+)(?:/|\.py)`", row[0])]
    assert listed == [room for room in ROOMS if room != "pipeline.stage"]
    present = {path.stem for path in PACKAGE.iterdir() if path.name[0] not in "_." and path.suffix in {"", ".py"}}
    assert set(listed) == present


def names_in(path: Path) -> set[str]:
    """Functions, classes and methods of a module; a method with and without its class."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            names |= methods | {f"{node.name}.{method}" for method in methods}
    return names


def test_every_stop_of_the_walks_exists() -> None:
    text = section(REPOSITORY / "docs/architecture.md", "## A new engineer's walk")
    walks = [rows_of(part)[1:] for part in text.split("\n### ")[1:]]
    assert [len(walk) for walk in walks] == [10, 10, 10]
    stops = [(row[1].strip("`"), row[2].strip("`")) for walk in walks for row in walk]
    missing = [
        f"{file}: {name}" for file, name in stops
        if not (PACKAGE / file).exists() or name not in names_in(PACKAGE / file)
    ]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "Makefile"], ids=lambda path: path.name)
def test_words_are_plain(path: Path) -> None:
    assert [match[0] for match in NOT_PLAIN.finditer(path.read_text(encoding="utf-8"))] == []
