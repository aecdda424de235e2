"""The configuration's file: YAML and overrides into one mapping."""

from pathlib import Path
from typing import Any

import yaml

from betr_spark.errors import ConfigError


def read_mapping(path: str | Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Read a YAML file and apply `key.sub=value` overrides, whose values are YAML.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or an override is not of that form.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    raw = _parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a mapping of keys is wanted, found {type(raw).__name__}")
    for override in overrides:
        _apply_override(raw, override)
    return raw


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which plain YAML silently keeps the last."""

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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: 'key.sub=value' is wanted")
    where = raw
    for part in parts[:-1]:
        child = where.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: '{part}' is not a mapping")
        where = child
    where[parts[-1]] = _parse_yaml(value, f"--set {override}")
