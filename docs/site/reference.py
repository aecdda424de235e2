"""The reference pages, generated from the configuration's models, the table schemas and the command line.

What a key or a column means is written once, in docs/configuration.md and docs/tables.md, or in the docstring of a model; the
types, limits and defaults come from the code. A key or column without a meaning is an error.
"""

import enum
import inspect
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from betr_spark import schemas
from betr_spark.cli import app
from betr_spark.config import Config

GENERATED = "*This page is generated from the code"
LINK = re.compile(r"\]\((?!\w+://)([^)#]*)(#[^)]*)?\)")
TABLES = {  # the columns of `selected/NAME` have no schema of their own: carried columns are between them
    "selected/NAME": "",
    "duplicates": schemas.DUPLICATES,
    "contamination": f"{schemas.CONTAMINATION}, {schemas.ACTION} string",
    "features": f"{schemas.FEATURES}, {schemas.N_LM_TOKENS} int, {schemas.INPUT_FILE} string, {schemas.BATCH} bigint",
    "ranked_sample": schemas.RANKED_SAMPLE,
    "quarantine": schemas.QUARANTINED,
    "evaluations": schemas.EVALUATIONS,
    "tombstones": schemas.TOMBSTONES,
    "runs": schemas.RUNS,
}


def pages(docs: Path) -> dict[str, str]:
    """The text of each page of docs/reference/, by its name."""
    return {"configuration-keys": keys_page(docs), "table-columns": columns_page(docs), "commands": commands_page()}


# -- keys of the configuration


def keys_page(docs: Path) -> str:
    """Every key with its type, limits, default and meaning, a section for each part of the file."""
    rows = rows_in((docs / "configuration.md").read_text(encoding="utf-8"), first="key")
    meanings = {row[0].strip("`"): from_reference(row[-1], "configuration.md") for row in rows}
    schema = Config.model_json_schema()
    lines = [
        "# Configuration keys",
        f"{GENERATED} that checks a configuration.* [Configuration](../configuration.md) explains how the keys work together.",
    ]
    for name, field in Config.model_fields.items():
        lines += [f"## {name}", *described(models_in(field.annotation))]
        rows = list(keys_of(schema, schema["properties"][name], name, name in schema["required"], {}))
        if name == "scorers":
            lines.append("A name for each scorer, and its keys, which depend on `kind`.")
            for kind, rows_of_kind in grouped(rows).items():
                lines += [f"### kind: {kind}", table(rows_of_kind, meanings)]
        else:
            lines.append(table(rows, meanings))
    return "\n\n".join(lines) + "\n"


Row = tuple[str, str, str, str]  # key, type, default, the model's own words


def keys_of(schema: Any, part: Any, key: str, required: bool, words: dict[str, str]) -> Iterator[Row]:
    """Rows of a key, or of the keys below it: of a model, of the values of a mapping, or of each kind of a union."""
    part = {**part, **resolved(schema, part)}
    below = properties_below(schema, part)
    own = words.get(key.rsplit(".", 1)[-1], "")
    if not below or "anyOf" in part or key == "scorers.NAME":
        if not below:
            yield key, type_of(schema, part), default_of(part, required), own
            return
        if "anyOf" in part:
            yield key, "section", default_of(part, required), own
    for name, kind, model in below:
        prefix = f"{key}.NAME" if name else key
        docs = attributes(model.get("description", ""))
        for child, value in model["properties"].items():
            for row in keys_of(schema, value, f"{prefix}.{child}", child in model.get("required", ()), docs):
                yield (f"{kind}:{row[0]}", *row[1:]) if kind else row


def properties_below(schema: Any, part: Any) -> list[tuple[bool, str, Any]]:
    """Models that a part holds: whether in a mapping from names, the kind of a union's member, and the model."""
    if "properties" in part:
        return [(False, "", part)]
    if "patternProperties" in part or isinstance(part.get("additionalProperties"), dict):
        values = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
        members = [resolved(schema, member) for member in values.get("oneOf", [values])]
        return [
            (True, kind_of(member) if "oneOf" in values else "", member) for member in members if "properties" in member
        ]
    options = [resolved(schema, option) for option in part.get("anyOf", [part.get("items", {})])]
    return [(False, "", option) for option in options if "properties" in option]


def kind_of(model: Any) -> str:
    """The value of `kind` of a kind of scorer."""
    return str(model["properties"]["kind"]["const"])


def resolved(schema: Any, part: Any) -> Any:
    """The part itself, or the definition that it refers to."""
    return schema["$defs"][part["$ref"].rsplit("/", 1)[-1]] if "$ref" in part else part


def type_of(schema: Any, part: Any) -> str:
    """A type and its limits in words."""
    part = {**part, **resolved(schema, part)}
    if "anyOf" in part:
        options = [type_of(schema, option) for option in part["anyOf"] if option.get("type") != "null"]
        return " or ".join(options)
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "prefixItems" in part:
        return f"list of {len(part['prefixItems'])}: {type_of(schema, part['prefixItems'][0])}"
    if part.get("type") == "array":
        return f"list of: {type_of(schema, part['items'])}"
    if part.get("type") == "object":
        values = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties", {}))
        return f"mapping of names to: {type_of(schema, values)}" if isinstance(values, dict) else "mapping"
    limits = [
        f"{words} {part[key]:,}" if isinstance(part[key], int) else f"{words} {part[key]:g}"
        for key, words in LIMITS.items()
        if key in part
    ]
    return ", ".join([part.get("type", "any"), *limits])


LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def default_of(part: Any, required: bool) -> str:
    """A default as it is written in YAML."""
    value = part.get("default")
    if required:
        return "required"
    if value is None or value in ([], {}):
        return "none"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def table(rows: list[Row], meanings: dict[str, str]) -> str:
    """A Markdown table of keys; the meaning is that of docs/configuration.md, else the words of the model."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, words in rows:
        meaning = meanings.get(key) or words or meanings.get(same_key(key))
        if not meaning:
            raise ValueError(f"{key}: no meaning in docs/configuration.md, and none in the docstring of its model")
        name = key.replace(".", ".<wbr>")
        lines.append(f"| <code>{name}</code> | {kind} | {default} | {meaning} |")
    return "\n".join(lines)


def same_key(key: str) -> str:
    """The key that another one has its meaning from: models are used in several places."""
    key = re.sub(r"^(scorers\.NAME\.positives|evaluate\.off_target\.NAME)\.", "targets.NAME.", key)
    return re.sub(r"\.phases\.keep\.", ".keep.", key)


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of each kind of scorer."""
    kinds: dict[str, list[Row]] = {}
    for key, *rest in rows:
        kind, _, name = key.partition(":")
        kinds.setdefault(kind, []).append((name, rest[0], rest[1], rest[2]))
    return kinds


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models in an annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def described(models: list[type[BaseModel]]) -> list[str]:
    """The docstring of a part's model without its attributes; none for a part of several kinds."""
    text = inspect.getdoc(models[0]) if len(models) == 1 else None
    return [text.split("\n\nAttributes:")[0]] if text else []


def attributes(docstring: str) -> dict[str, str]:
    """What a docstring's `Attributes:` say of each attribute."""
    _, _, section = docstring.partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}


# -- columns of the tables


def columns_page(docs: Path) -> str:
    """Every column of every table with its type and meaning."""
    lines = [
        "# Table columns",
        f"{GENERATED}: types are those of the schemas.* [Tables](../tables.md) says what each table is for.",
    ]
    for name, ddl in TABLES.items():
        text = section(docs / "tables.md", f"## {name}")
        meanings = {column: row for row in rows_in(text, first="column") for column in re.findall(r"`(\w+)`", row[0])}
        lines += [f"## {name}", "| column | type | meaning |\n|---|---|---|"]
        columns = columns_of(ddl) or dict.fromkeys(schemas.SELECTED_COLUMNS, "")
        for column, type_name in columns.items():
            if column not in meanings:
                raise ValueError(f"{name}.{column}: no row in docs/tables.md")
            row = meanings[column]
            meaning = from_reference(row[2], "tables.md")
            lines[-1] += f"\n| `{column}` | {type_name or row[1]} | {meaning} |"
    return "\n\n".join(lines) + "\n"


def columns_of(ddl: str) -> dict[str, str]:
    """Names and types of a DDL string, whose types may have commas in angle brackets.

    >>> columns_of("doc_id string, by map<string,struct<a:int,b:int>>")
    {'doc_id': 'string', 'by': 'map&lt;string,struct&lt;a:int,b:int&gt;&gt;'}
    """
    columns, depth, start = {}, 0, 0
    for position, character in enumerate(f"{ddl},"):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and not depth and ddl[start:position].strip():
            name, type_name = ddl[start:position].split(maxsplit=1)
            columns[name] = type_name.replace("<", "&lt;").replace(">", "&gt;")
            start = position + 1
    return columns


# -- commands


def commands_page() -> str:
    """Every command with its help text and options."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        f"{GENERATED}: it has what `--help` prints.* [Operation](../operation.md) explains exit codes, JSON and the lease.",
        f"{group.epilog}",
        "\n".join(
            ["| command | what it does |", "|---|---|"]
            + [f"| [`{name}`](#{name}) | {first_line(command)} |" for name, command in sorted(group.commands.items())]
        ),
    ]
    for name, command in sorted(group.commands.items()):
        usage = " ".join(["betr-spark", name, *(usage_of(option) for option in command.params if option.required)])
        lines += [f"## {name}", command.help or "", f"    {usage}", options_of(command)]
    return "\n\n".join(line for line in lines if line) + "\n"


def first_line(command: Any) -> str:
    """The first paragraph of the help text."""
    return escaped((command.help or "").split("\n\n")[0])


def usage_of(option: Any) -> str:
    """A required option or argument with its value."""
    return f"{option.opts[0]} {option.metavar or option.name.upper()}"


def options_of(command: Any) -> str:
    """A table of the options; empty for a command without any."""
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in command.params:
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        value = "" if getattr(option, "is_flag", False) else value_of(option)
        default = "required" if option.required else default_value(option)
        lines.append(f"| {names} | {value} | {default} | {escaped(getattr(option, 'help', '') or '')} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def value_of(option: Any) -> str:
    """The values that an option takes, in words."""
    annotation = option.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in annotation)
    limits = [
        f"{words} {value:g}"
        for words, value in (("at least", option.min), ("at most", option.max))
        if value is not None
    ]
    repeated = ["can be repeated"] if option.multiple else []
    return ", ".join([VALUES.get(annotation, "text"), *limits, *repeated])


VALUES = {int: "integer", float: "number", Path: "path"}


def default_value(option: Any) -> str:
    """A default as it is typed; empty if there is none."""
    value = getattr(option.default, "value", option.default)
    if option.default is None or callable(value) or getattr(option, "is_flag", False) or value in ((), []):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def escaped(text: str) -> str:
    """A help text as one cell of a table."""
    return re.sub(r"([|<*])", r"\\\1", " ".join(text.split()))


# -- Markdown


def rows_in(text: str, *, first: str) -> Iterator[list[str]]:
    """Cells of the body rows of every Markdown table whose first column has this heading."""
    for heading, body in re.findall(r"^(\| .+)\n\|[-|]+\n((?:\|.*\n?)+)", text, re.MULTILINE):
        if heading.split("|")[1].strip() == first:
            yield from ([cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines())


def section(page: Path, heading: str) -> str:
    """The text below a heading, to the next heading of the same depth or a higher one."""
    _, _, text = f"\n{page.read_text(encoding='utf-8')}".partition(f"\n{heading}\n")
    if not text:
        raise ValueError(f"{page.name}: no heading '{heading}'")
    return re.split(rf"\n#{{1,{heading.count('#')}}} ", text)[0]


def from_reference(text: str, page: str) -> str:
    """Links of a page of docs/ as links of a page of docs/reference/."""
    return LINK.sub(lambda link: f"](../{link[1] or page}{link[2] or ''})", text)
