"""Files and folders that get their name when they are complete, on any Hadoop file system."""

from pyspark.errors import IllegalArgumentException
from pyspark.sql import SparkSession

from betr_spark.errors import DataError
from betr_spark.spark.jvm import java_class
from betr_spark.storage.hadoop_files import path_and_system


def parent(spark: SparkSession, path: str) -> str:
    """The folder that a path is in.

    Raises:
        DataError: the path is the root of its file system, or cannot be a path.
    """
    try:
        folder = path_and_system(spark, path)[0].getParent()
    except IllegalArgumentException as error:
        raise DataError(f"'{path}': is no path ({' '.join(str(error).split())[:200]})") from None
    if folder is None:
        raise DataError(f"{path}: is not in a folder")
    return str(folder.toString())


def sibling(spark: SparkSession, path: str, name: str) -> str:
    """The path with another last part; raises what `parent` raises."""
    return str(java_class(spark, "org.apache.hadoop.fs.Path")(parent(spark, path), name).toString())


def rename(spark: SparkSession, path: str, to: str) -> None:
    """Rename a file or folder, within its file system.

    Raises:
        DataError: it was not renamed, for example because there is a file or folder of this name.
    """
    (source, system), (target, _) = path_and_system(spark, path), path_and_system(spark, to)
    if str(system.getUri().getScheme()) == "file":
        system = system.getRawFileSystem()  # leaves Hadoop's checksum file, with which a file cannot be edited
    if system.exists(target) or not system.rename(source, target):
        raise DataError(f"{to}: {path} could not be given this name")
