"""The first lines of JSON Lines files, also compressed ones, and their objects."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from betr_spark.errors import DataError

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_BEFORE_JSON = b"\xef\xbb\xbf \r\n\t"
_PART_BYTES, _MAX_BYTES = 2**20, 2**26
_MIN_COMPRESSED = 2**20  # bytes of a compressed file; its reader is up to 64 KiB ahead of the lines


class SampledLines(NamedTuple):
    """Lines of a file.

    Attributes:
        lines: that are not blank.
        bytes_in_file: as many bytes of the file, compressed or not, have these lines; about.
        is_whole: whether they are all lines of the file.
    """

    lines: list[bytes]
    bytes_in_file: int
    is_whole: bool


def sampled_lines(file: str, *, n_lines: int) -> SampledLines:
    """Read the first lines of a file, at least `n_lines` if it has so many, but no more than 64 MiB.

    Raises:
        DataError: the file cannot be read or decompressed.
    """
    codec = next((codec for suffix, codec in _CODECS.items() if file.lower().endswith(suffix)), None)
    parts: list[bytes] = []
    n_read, n_breaks = 0, 0
    try:
        with Path(file).open("rb") as raw:
            stream = raw if codec is None else pa.CompressedInputStream(pa.PythonFile(raw, "r"), codec)
            while n_read < _MAX_BYTES and (n_breaks < n_lines or (codec and raw.tell() < _MIN_COMPRESSED)):
                part = bytes(stream.read(_PART_BYTES))
                if not part:
                    break
                parts.append(part)
                n_read, n_breaks = n_read + len(part), n_breaks + part.count(b"\n")
            is_whole = not stream.read(1)
            position = raw.tell()
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise DataError(f"documents: {file}: cannot be read ({reason})") from None
    lines = b"".join(parts).split(b"\n")
    if not is_whole:
        rest = len(lines.pop())
        position = round(position * (1 - rest / n_read))
    return SampledLines([line for line in lines if line.strip()], position, is_whole)


def objects_of(lines: Sequence[bytes], file: str) -> list[dict[str, Any]]:
    """The objects of lines that have one; other lines go to quarantine in a run.

    Raises:
        DataError: no line is a JSON object.
    """
    objects, reason = list[dict[str, Any]](), "the file has no lines"
    if lines and lines[0].lstrip(_BEFORE_JSON).startswith(b"["):
        lines, reason = [], "is a JSON array"
    for number, line in enumerate(lines):
        try:
            value = json.loads(line.lstrip(_BEFORE_JSON))
        except (ValueError, RecursionError) as error:
            reason = f"line {number + 1} is not valid JSON ({error})"
            continue
        if isinstance(value, dict):
            objects.append(value)
        else:
            reason = f"line {number + 1} is no JSON object"
    if not objects:
        raise DataError(f"documents: {file}: {reason}; JSON Lines has one JSON object in each line")
    return objects
