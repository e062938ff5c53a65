"""Write and read record files: many runs in one file, `runs.jsonl.gz`.

The first line is `{"format": 1}`. Each run then has, in this order:

- a line `{"run": "EXPERIMENT/NAME", "config": …, "manifest": …, "result": …}`, without the parts that the run lacks;
- the lines of its metrics.jsonl, unchanged;
- a line `{"end": "EXPERIMENT/NAME", "sha256": …}` with a digest of the lines above, so damage affects single runs only.

Runs are sorted by name. Imports no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ranger21.system.errors import UserError
from ranger21.system.files import newer, replacing
from ranger21.system.reading import (
    LARGEST_JSON,
    LARGEST_LINES,
    LONGEST_LINE,
    NotAFile,
    Unreadable,
    open_regular,
    parse_json,
)
from ranger21.system.wording import counted, one_line, reason

NAME = "runs.jsonl.gz"
FORMAT = 1
MOST_RUNS = 10_000  # in one file
RUN, END = b'{"run": ', b'{"end": '  # the beginnings of a run's first and last lines
SHAPE = {"run": str, "config?": {}, "manifest?": {}, "result?": {}}
CURE = "restore it"


def by_name(name: str) -> list[str]:
    """Return the sort key of a run, which gives the order of the run directories."""
    return name.split("/")


def first_line(name: str, parts: dict[str, Any]) -> bytes:
    """Return the first line of a run."""
    return (
        json.dumps({"run": name} | {key: value for key, value in parts.items() if value is not None}).encode() + b"\n"
    )


def digest(lines: Iterable[bytes]) -> str:
    """Return the digest of a run's first line and its metrics, as the run's last line records it."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line)
    return found.hexdigest()[:32]


def write(path: Path, runs: Iterable[tuple[str, Iterable[bytes]]]) -> None:
    """Write a record file, whole or not at all. The same runs give the same bytes, unless zlib itself changes.

    Args:
        runs: the name and the lines of each run, without its last line, sorted by name.

    Raises:
        UserError: the file cannot be written, or would be too large to be read again.
    """
    with replacing(path) as new, open(new, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        size = file.write(json.dumps({"format": FORMAT}).encode() + b"\n")
        for count, (name, lines) in enumerate(runs, start=1):
            mark = hashlib.sha256()
            for line in lines:
                mark.update(line)
                size += file.write(line)
            end = {"end": name, "sha256": mark.hexdigest()[:32]}
            size += file.write(json.dumps(end).encode() + b"\n")
            if size > LARGEST_LINES or count > MOST_RUNS:
                most = f"{LARGEST_LINES >> 30} GiB or {MOST_RUNS:,} runs"
                raise UserError(f"{path} would have more than {most}: keep the records in several files.")


class _LineReader:
    """Reads the lines of a file that may be damaged or hostile.

    Attributes:
        next: the next line; empty at the end of the file or where it became unreadable.
        broken: why the file became unreadable, or an empty string.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left, self.broken, self.next = file, LARGEST_LINES, "", b""
        self.take()

    def take(self) -> bytes:
        """Return the next line."""
        line, self.next = self.next, b""
        try:
            self.next = b"" if self.broken else self._file.readline(LARGEST_JSON + 1)
        except (EOFError, OSError, zlib.error) as error:
            self.broken = "it is cut" if isinstance(error, EOFError) else reason(error)
        self._left -= len(self.next)
        if self._left < 0 or len(self.next) > LARGEST_JSON:
            what = f"more than {LARGEST_LINES >> 30} GiB" if self._left < 0 else "a line longer than any run writes"
            self.broken, self.next = f"it has {what}", b""
        return line


@dataclass
class Entry:
    """One run in a record file. Its metrics can be read once, before the next entry is requested.

    Attributes:
        head: the run's first line.
        parts: those of `config`, `manifest` and `result` that the run has.
        sha256: the digest of the lines that were read; empty until all metrics have been read.
        whole: whether the run's last line has this digest.
    """

    name: str
    head: bytes
    parts: dict[str, dict[str, Any]]
    _lines: _LineReader = field(repr=False)
    sha256: str = ""
    whole: bool = False

    def metrics(self) -> Iterator[bytes]:
        """Yield the lines of the run's metrics.jsonl."""
        mark, lines = hashlib.sha256(self.head), self._lines
        while lines.next and not lines.next.startswith((RUN, END)) and len(lines.next) <= LONGEST_LINE:
            mark.update(lines.next)
            yield lines.take()
        end = lines.take() if lines.next.startswith(END) else b""
        self.sha256 = mark.hexdigest()[:32]
        self.whole = end == json.dumps({"end": self.name, "sha256": self.sha256}).encode() + b"\n"


def entries(path: Path) -> Iterator[Entry | str]:
    """Yield the runs of a record file one by one; damaged parts are yielded as sentences.

    Raises:
        UserError: the file is not a record file, or has a later format.
        FileNotFoundError: there is no such file.
    """
    try:
        file = open_regular(path)
    except NotAFile as error:
        raise Unreadable(path, str(error.strerror), CURE) from error
    with file, gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        lines = _LineReader(unpacked)  # type: ignore[arg-type]
        start = lines.take()
        if not start.startswith(b'{"format": '):
            raise Unreadable(path, lines.broken or "its first line is not that of a record file", CURE)
        if why := newer(parse_json(start.decode("utf-8", "replace"), path), FORMAT):
            raise UserError(f"{path} cannot be used: {why}.")
        yield from _entries(path, lines)


def _entries(path: Path, lines: _LineReader) -> Iterator[Entry | str]:
    seen, strays = set[str](), 0
    while lines.next:
        line = lines.take()
        if not line.startswith(RUN):
            strays += 1
            continue
        if len(seen) == MOST_RUNS:
            yield f"{path} has more than {MOST_RUNS:,} runs: the rest are left out."
            return
        entry = _entry(line, path, lines)
        if isinstance(entry, str):
            yield f"A run in {path} is left out: {entry}."
            seen.add(f"\0{len(seen)}")
        elif entry.name in seen:
            yield f"{path}: a second run named {one_line(entry.name)} is left out."
            deque(entry.metrics(), maxlen=0)
        else:
            seen.add(entry.name)
            yield entry
            deque(entry.metrics() if not entry.sha256 else (), maxlen=0)
    if strays:
        yield f"{path}: {counted(strays, 'line')} outside any run left out."
    if lines.broken:
        yield f"{path} cannot be read to its end ({lines.broken}): {CURE}."


def _entry(line: bytes, path: Path, lines: _LineReader) -> Entry | str:
    """Return the run that begins with this line, or a clause that says why there is none."""
    try:
        found = parse_json(line.decode("utf-8"), path, SHAPE)
    except Unreadable as error:
        return f"its first line cannot be read ({error.why})"
    except UnicodeDecodeError:
        return "its first line cannot be read (it is not UTF-8 text)"
    name = found.pop("run")
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name or len(name) > 1000:
        return f"{one_line(name)} is not the name of a run"
    return Entry(name, line, {key: found[key] for key in ("config", "manifest", "result") if found.get(key)}, lines)
