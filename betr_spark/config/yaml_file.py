"""The configuration's file: YAML and `--set` overrides into one mapping."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from betr_spark.errors import ConfigError

# A key of an override: plain, or in quotes where it contains a dot; then a dot or the equals sign.
_PART = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^.="'\s][^.=]*?))\s*(?P<end>[.=])""")


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    raw = _parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: found {type(raw).__name__}; a mapping of keys is required")
    return raw


def overridden(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy with `key.sub=value` overrides, whose values are YAML.

    A key that contains a dot is quoted: `selections."betr-1.5".keep.documents=5`.

    Raises:
        ConfigError: an override is not of that form.
    """
    copied = copy.deepcopy(dict(mapping))
    for override in overrides:
        _apply_override(copied, override)
    return copied


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a repeated key; plain YAML keeps the last one and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if str(key) in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key '{key}' is given twice")
            seen.add(str(key))
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, where: str) -> object:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # PyYAML's constructors raise them for values that a tag or a date cannot have
        raise ConfigError(f"{where}: not valid YAML: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What is wrong with a YAML text, and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None and error.problem is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _apply_override(raw: dict[str, Any], override: str) -> None:
    keys, value = _split_override(override)
    mapping = raw
    for number, key in enumerate(keys[:-1]):
        if key not in mapping:
            _refuse_unquoted(mapping, keys[number:], override)
        child = mapping.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: '{key}' is not a mapping")
        mapping = child
    mapping[keys[-1]] = _parse_yaml(value, f"--set {override}")


def _split_override(override: str) -> tuple[list[str], str]:
    """Split `key."sub.key"=value` into its keys and the text of the value."""
    keys, position = [], 0
    while part := _PART.match(override, position):
        keys.append(next(text for text in part.group("double", "single", "plain") if text is not None))
        position = part.end()
        if part["end"] == "=":
            return keys, override[position:]
    raise ConfigError(
        f"--set {override}: the form 'key.sub=value' is required; quote a key that contains a dot: "
        """--set 'selections."betr-1.5".keep.documents=5'"""
    )


def _refuse_unquoted(mapping: dict[str, Any], keys: list[str], override: str) -> None:
    """Raise ConfigError where the first of `keys`, which were split at dots, are one key of the mapping."""
    for end in range(2, len(keys) + 1):
        whole = ".".join(keys[:end])
        if whole in mapping:
            right = override.replace(whole, f'"{whole}"', 1)
            raise ConfigError(
                f"--set {override}: key '{keys[0]}' not found; quote a key that contains a dot: --set '{right}'"
            )
