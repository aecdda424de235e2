"""The exceptions of the JVM that are behind an error: their classes, conditions and messages."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.errors.exceptions.captured import CapturedException

_MAX_CAUSES = 20


class Cause(NamedTuple):
    """One exception of a chain of causes in the JVM."""

    class_names: tuple[str, ...]
    """Its class, then the superclasses."""
    message: str
    condition: str | None
    """Spark's (and Delta's) name of the error, such as FAILED_READ_FILE.NO_HINT."""
    parameters: dict[str, str]
    file: str | None
    """The file that a java.nio exception names."""

    def is_a(self, *prefixes: str) -> bool:
        """Tell whether its class or a superclass is one of these, or lies in a package that is."""
        return any(name == p or (p.endswith(".") and name.startswith(p)) for name in self.class_names for p in prefixes)

    def has(self, condition: str) -> bool:
        """Tell whether its condition is this one, or a sub-condition of it."""
        return self.condition is not None and f"{self.condition}.".startswith(f"{condition}.")


def causes(error: BaseException) -> list[Cause]:
    """List the JVM's exceptions of an error, the outermost first; empty for an error that did not come from the JVM.

    Follows `__cause__` in Python and `getCause()` in the JVM.
    """
    chain: list[Cause] = []
    for exception in python_chain(error):
        if isinstance(exception, Py4JJavaError):
            thrown = exception.java_exception
        elif isinstance(exception, CapturedException):
            thrown = exception._origin  # noqa: SLF001 - its public methods stop at the outermost cause
        else:
            continue
        try:
            chain.extend(_cause(java_exception) for java_exception in _java_chain(thrown))
        except Py4JError:  # the JVM has ended
            break
    return chain


def python_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the outermost first."""
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__


def _java_chain(thrown: Any) -> Iterator[Any]:
    for _ in range(_MAX_CAUSES):
        if thrown is None:
            return
        yield thrown
        thrown = thrown.getCause()


def _cause(thrown: Any) -> Cause:
    names, java_class = [], thrown.getClass()
    while java_class is not None:
        names.append(str(java_class.getName()))
        java_class = java_class.getSuperclass()
    condition, parameters = None, {}
    if is_instance_of(SparkContext._gateway, thrown, "org.apache.spark.SparkThrowable"):  # noqa: SLF001
        utils = SparkContext._jvm.PythonErrorUtils  # type: ignore[union-attr]  # noqa: SLF001
        condition, parameters = utils.getCondition(thrown), dict(utils.getMessageParameters(thrown))
    file = thrown.getFile() if "java.nio.file.FileSystemException" in names else None
    return Cause(tuple(names), str(thrown.getMessage() or ""), condition, parameters, file)
