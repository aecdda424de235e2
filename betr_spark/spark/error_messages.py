"""Spark's errors as one line."""

import re
import tempfile


def spark_error_line(error: BaseException) -> str | None:
    """Return one line for a failure that the user can mend (an unreadable file, a full disk), None for any other."""
    text = str(error)
    if "No space left on device" in text:
        return (
            "a disk is full (No space left on device): the output's, or that of temporary files, here "
            f"{tempfile.gettempdir()} (TMPDIR, and for Spark's own spark.local.dir, name another)"
        )
    if re.search(r"DELTA_CONCURRENT|DELTA_PROTOCOL_CHANGED|DELTA_METADATA_CHANGED|DELTA_DUPLICATE_.*TRANSACTION", text):
        return "output: another run wrote to the same tables meanwhile; run again when it has ended (nothing is lost)"
    if raised := re.search(r"\[USER_RAISED_EXCEPTION\] ([^\n]*?)(?: SQLSTATE|\n|$)", text):
        return raised[1]
    if raised := re.search(r"^betr_spark\.errors\.\w+Error: ([^\n]+)", text, re.MULTILINE):  # of a Python worker
        return raised[1]
    if not re.search(
        r"PATH_NOT_FOUND|FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|is not a Parquet file|Could not read footer|CANNOT_MERGE|"
        r"DELTA_READ_TABLE|FILE_NOT_EXIST|CANNOT_READ_FILE|MALFORMED|not a gzip file|ZipException|ZstdIOException",
        text,
    ):
        return None
    about = (
        text[text.rfind("Caused by:", 0, text.find("is not a Parquet file")) :] if "is not a Parquet" in text else text
    )
    named = re.search(r"((?:file|s3a|hdfs|gs|abfss?):/[^\s'\",]+[^\s'\",.:;)\]])", about)
    reason = re.search(r"is not a Parquet file[^\n]{0,80}|\[[A-Z_.]+\][^\n]{0,160}", text)
    return (
        f"{named[1] if named else 'input'}: cannot be read ({' '.join((reason[0] if reason else text[:160]).split())})"
    )
