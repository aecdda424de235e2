"""Classes of the JVM by their full names."""

from typing import Any

from pyspark.sql import SparkSession


def java_class(spark: SparkSession, name: str) -> Any:
    """Return a class of the JVM.

    `spark._jvm.org.apache...` looks up each package as if it were a class, in all jars and once for each imported package.

    Args:
        spark: Session.
        name: Full name; `$` before an inner class.
    """
    return getattr(spark._jvm, name)  # noqa: SLF001
