"""Jinja templates of targets, which are often taken from somewhere else: in Jinja's sandbox, with limits to time and memory."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from betr_spark.errors import DataError
from betr_spark.targets.limits import limited

_MAX_S, _MAX_BYTES = 10.0, 10**9  # of one example
_MAX_POWER_BITS = 10_000


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox without powers of thousands of digits: Python computes one in a step that no signal interrupts."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_POWER_BITS:
            raise OverflowError(f"a power of more than {_MAX_POWER_BITS} bits")
        return super().call_binop(context, operator, left, right)


def jinja_renderer(template: str, benchmark: str) -> Callable[[Mapping[str, Any], str], str]:
    """Return the function that makes the text of a row, given the row's place for messages.

    Raises:
        ValueError: the template is malformed.
    """
    try:
        with limited(seconds=_MAX_S, n_bytes=_MAX_BYTES):  # constant expressions are computed here
            compiled = _Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from None
    except Exception as error:  # noqa: BLE001 - such as Python's own limit of nested blocks
        raise ValueError(_in_one_line(error)) from None

    def render(row: Mapping[str, Any], where: str) -> str:
        try:
            with limited(seconds=_MAX_S, n_bytes=_MAX_BYTES):
                return str(compiled.render(row))
        except Exception as error:  # noqa: BLE001 - a template's expression can raise anything
            raise DataError(f"{where}: targets.{benchmark}.jinja: {_in_one_line(error)}") from None

    return render


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
