"""Validation errors of the configuration, one line for each."""

import difflib
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

# Parts of pydantic's paths that are no keys of the file.
_NOT_KEYS = {"float", "int", "constrained-float", "constrained-int", "literal['auto']", "[key]"}


def validation_problems(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Yield one line for each problem: the key from `root` down, what was found and what is required."""
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":  # follows from another problem
            continue
        location = [str(part) for part in problem["loc"] if part not in _NOT_KEYS]
        is_scorer = location[:1] == ["scorers"] and problem["type"] != "union_tag_invalid"
        keys = [part for i, part in enumerate(location) if not (is_scorer and i == 2)]  # scorers.NAME.KIND.key
        key = ".".join(["config", *(f'"{part}"' if "." in part else part for part in keys)])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _suggestion(location, root)
        elif problem["type"] == "missing":
            message = "missing"
        elif problem["type"] == "union_tag_invalid":
            key, context = f"{key}.kind", problem["ctx"]
            message = f"'{context['tag']}' is not one of {context['expected_tags'].replace(chr(39), '')}"
        elif problem["type"] != "value_error":
            message = f"{message}, found {problem['input']!r:.80}"
        yield f"{key}: {message}"


def _suggestion(location: list[str], root: type[BaseModel]) -> str:
    """Name the key that was probably meant, from the model that has the unknown one."""
    model: Any = root
    for part in location[:-1]:
        model = _submodel(model, part)
        model = _submodel(model, part) if isinstance(model, types.UnionType) else model
    known = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys are {', '.join(known)}"


def _submodel(model: Any, key: str) -> Any:
    """Return the type of a field, of a dict's values, of a union's kind, or of what may be None."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        return model.model_fields[key].annotation if key in model.model_fields else None
    if typing.get_origin(model) is Annotated:  # a union of models by kind
        members = [typing.get_args(member) for member in typing.get_args(typing.get_args(model)[0])]
        return next((member for member, tag in members if tag.tag == key), None)
    if isinstance(model, types.UnionType):
        return next((member for member in model.__args__ if member is not type(None)), None)
    return typing.get_args(model)[-1] if typing.get_origin(model) is dict else None
