"""Compression of JSON Lines files: Spark decompresses by the name of a file alone, so name and content must agree."""

from pyspark.sql import SparkSession

from betr_spark.spark.jvm import java_class

_FIRST_BYTES = {  # name of the format, and the suffix that Spark decompresses it by
    b"\x1f\x8b": ("gzip", ".gz"),
    b"BZh": ("bzip2", ".bz2"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
    b"\xfd7zXZ\x00": ("xz", ""),
    b"PK\x03\x04": ("zip", ""),
    b"7z\xbc\xaf\x27\x1c": ("7z", ""),
    b"\x04\x22\x4d\x18": ("lz4", ""),
    b"Rar!": ("rar", ""),
    b"PAR1": ("Parquet", ""),
    b"\xff\xfe": ("UTF-16", ""),
    b"\xfe\xff": ("UTF-16", ""),
}
_FORMATS = {suffix: name for name, suffix in _FIRST_BYTES.values() if suffix}
_OTHER_SUFFIXES = (".xz", ".lzma", ".7z", ".zip", ".tar", ".tgz", ".rar", ".br", ".lzo", ".z")
_LONGEST = max(map(len, _FIRST_BYTES))
_READABLE = "Spark reads .gz, .bz2 and .zst, and files without compression"


def compression_problem(spark: SparkSession, file: str) -> str | None:
    """Say why the content of a file cannot be read as lines of text, from its name and first bytes; None if it can.

    Args:
        spark: the session.
        file: URI of the file.
    """
    path = java_class(spark, "org.apache.hadoop.fs.Path")(java_class(spark, "java.net.URI")(file))
    stream = path.getFileSystem(spark._jsc.hadoopConfiguration()).open(path)  # noqa: SLF001
    try:
        start = bytes(stream.readNBytes(_LONGEST))
    finally:
        stream.close()
    return problem_of_start(file, start)


def problem_of_start(file: str, start: bytes) -> str | None:
    """Say why the content of a file cannot be read as lines of text; None if it can.

    Args:
        file: name of the file.
        start: its first bytes.
    """
    name = file.lower()
    actual, suffix = next((known for first, known in _FIRST_BYTES.items() if start.startswith(first)), ("", ""))
    if actual and not suffix:
        return f"{actual} data; {_READABLE}"
    if refused := next((ending for ending in _OTHER_SUFFIXES if name.endswith(ending)), None):
        return f"files that end in {refused} cannot be read; {_READABLE}"
    expected = next((kind for ending, kind in _FORMATS.items() if name.endswith(ending)), "")
    if actual and actual != expected:
        return f"compressed with {actual}; its name must end in {suffix}"
    if expected and not actual:
        return f"not compressed with {expected}, but its name says so"
    return None
