"""Files and folders that get their name when they are complete, on any Hadoop file system."""

from pyspark.sql import SparkSession

from betr_spark.errors import DataError
from betr_spark.spark.jvm import java_class
from betr_spark.storage.hadoop_files import path_and_system


def sibling(spark: SparkSession, path: str, name: str) -> str:
    """The path with another last part.

    Raises:
        DataError: the path is the root of its file system.
    """
    hadoop_path, _ = path_and_system(spark, path)
    parent = hadoop_path.getParent()
    if parent is None:
        raise DataError(f"{path}: is not a folder in another one")
    return str(java_class(spark, "org.apache.hadoop.fs.Path")(parent, name).toString())


def rename(spark: SparkSession, path: str, to: str) -> None:
    """Rename a file or folder, within its file system.

    Raises:
        DataError: it was not renamed, for example because there is a file or folder of this name.
    """
    (source, system), (target, _) = path_and_system(spark, path), path_and_system(spark, to)
    if system.exists(target) or not system.rename(source, target):
        raise DataError(f"{to}: {path} could not be given this name")
