"""The marks of one person: a JSON Lines file that grows by a line for each mark; of a document, the last mark counts."""

import errno
import json
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from betr_spark.config import Config
from betr_spark.errors import ConfigError, DataError

GOOD, BAD = "good", "bad"
TEACHER, CLASSIFIER = "teacher", "classifier"
EXPORTS = (TEACHER, CLASSIFIER)  # kinds of scorers that marks are exported for
_MARKS = (GOOD, BAD, None)  # None takes a mark back
_DOC_ID, _MARK, _VIEW, _AT = "doc_id", "mark", "view", "marked_at"
_logger = logging.getLogger(__name__)


def check_place(file: Path, config: Config) -> None:
    """Refuse a file that could not be written, that a stage would read as a part of the input, or that `maintain` deletes.

    Raises:
        ConfigError: its folder does not exist, it is a folder, or it is inside `input.path` or `output`.
    """
    if not file.parent.is_dir():
        raise ConfigError(f"--marks: {file}: the folder {file.parent} does not exist; create it")
    if file.is_dir():
        raise ConfigError(f"--marks: {file} is a folder; a file is required")
    for key, path in (("input.path", config.input.path), ("output", config.output)):
        scheme = re.match(r"(\w[\w+.-]*):", path)
        if scheme is not None and scheme[1] != "file":
            continue
        here = unquote(re.sub(r"^file:(//)?", "", path)) if scheme else path
        plain = re.split(r"[*?\[{]", here)[0]
        folder = Path(plain) if plain == here else Path(plain + "x").parent  # of a glob, the part before it
        if file.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"--marks: {file} is inside {key}, {path}; name a file in another folder")


class Marks:
    """The marks of a file, which is created by the first mark.

    A mark is one write at the end of the file, and is on the disk before `set` returns. A line that a full disk cut is dropped.
    """

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            DataError: a line is not a mark.
        """
        self.file, self._lock = file, threading.Lock()
        self._marks: dict[str, str] = {}
        self._cut_at: int | None = None  # where an unfinished last line begins
        self._size_read, self._lacks_break = 0, False
        for doc_id, mark in self._read():
            self._remember(doc_id, mark)

    def of(self, doc_id: str) -> str | None:
        """The mark of a document."""
        return self._marks.get(doc_id)

    def all(self) -> Mapping[str, str]:
        """A copy: document to mark."""
        with self._lock:
            return dict(self._marks)

    def counts(self) -> tuple[int, int]:
        """Numbers of good and of bad documents."""
        counts = Counter(self.all().values())
        return counts[GOOD], counts[BAD]

    def set(self, doc_id: str, mark: str | None, *, view: str) -> None:
        """Mark a document, or take its mark back (None).

        Args:
            doc_id: of the document.
            mark: `good`, `bad` or None.
            view: where the document was read, for people.

        Raises:
            OSError: the mark could not be written; it does not count.
            ValueError: there is no such mark.
        """
        if mark not in _MARKS:
            raise ValueError(f"mark: good, bad or None is required, found {mark!r}")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({_DOC_ID: doc_id, _MARK: mark, _VIEW: view, _AT: at}) + "\n"
        with self._lock:
            self._append(line.encode())
            self._remember(doc_id, mark)

    def _remember(self, doc_id: str, mark: str | None) -> None:
        self._marks.pop(doc_id, None)
        if mark is not None:
            self._marks[doc_id] = mark

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if self._cut_at is not None and size == self._size_read:  # nobody else has written meanwhile
                os.ftruncate(descriptor, size := self._cut_at)
            line = b"\n" + line if self._lacks_break and size == self._size_read else line
            self._cut_at, self._lacks_break = None, False
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self) -> Iterator[tuple[str, str | None]]:
        content = self.file.read_bytes() if self.file.exists() else b""
        end, self._size_read = content.rfind(b"\n") + 1, len(content)
        if end < len(content) and _is_json(content[end:]):
            end, self._lacks_break = len(content), True
        elif end < len(content):
            _logger.warning("%s: the last line is not complete and is left out", self.file)
            self._cut_at = end
        for number, line in enumerate(content[:end].splitlines(), start=1):
            try:
                values = json.loads(line)
                doc_id, mark = values[_DOC_ID], values[_MARK]
            except (ValueError, KeyError, TypeError):
                doc_id, mark = None, None
            if not isinstance(doc_id, str) or mark not in _MARKS:
                required = 'an object with "doc_id" and "mark" ("good", "bad" or null) is required'
                raise DataError(
                    f"--marks: {self.file}: line {number}: {required}; name another file, or remove the line"
                )
            yield doc_id, mark


def _is_json(line: bytes) -> bool:
    """Whether a line is whole; one without its line break can be, if a person wrote it."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
