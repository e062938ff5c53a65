"""Reader and writer of the `.wandb` files of offline W&B runs, whether complete or cut short.

A `.wandb` file is a log in LevelDB's format: blocks of 32 KiB contain chunks, each with a checksum, a length and a
kind. Chunks make up payloads, and every payload is a protocol buffer whose definition ships with wandb. wandb's own
reader is private and differs between versions; the files have the same format from 0.19 to 0.31.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.reading import open_regular, too_much
from ranger21.tracking import number

LARGEST = 2 << 30  # bytes of a file
BLOCK = 32 * 1024
IDENT = struct.Struct("<4sHB")  # file header: name, magic number, version
CHUNK = struct.Struct("<IHB")  # chunk header: checksum, length, kind
NAME, MAGIC, VERSION = b":W&B", 0xBEE1, 0
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
SPECIAL = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}  # the form in which W&B writes them


@dataclass(frozen=True)
class Fragment:
    """The part of a W&B run that one process recorded; a resumed run has several fragments with the same run id."""

    path: Path
    run_id: str  # taken from the file's name if the file is cut before its run record
    project: str | None = None
    entity: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)  # in the file's order, each with its "step"
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None  # None: still running, or killed
    started: float = 0.0  # seconds since 1970; 0 if the file is cut before its run record
    cut: bool = False  # whether records are missing, at the end of the file or where it is damaged


def read_fragment(path: Path) -> Fragment:
    """Read the intact records of a `.wandb` file, which may be empty, cut, damaged or still growing.

    Raises a UserError if it is not a W&B file or cannot be opened.
    """
    records, cut = read_records(path)
    found: dict[str, Any] = {}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"run_id": record.run.run_id, "started": record.run.start_time.ToMicroseconds() / 1e6}
            found |= {"project": record.run.project or None, "entity": record.run.entity or None}
            _update(config, record.run.config)
        elif kind == "config":
            _update(config, record.config)
        elif kind == "summary":
            _update(summary, record.summary)
        elif kind == "history":
            row: dict[str, Any] = {}
            _set(row, record.history.item)
            row = {"step": record.history.step.num} | row
            rows += [row] if math.isfinite(number(row["step"])) else []
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    for tree in (config, summary):
        tree.pop("_wandb", None)
    if why := too_much(config) or too_much(summary):
        raise UserError(f"{path} cannot be used ({why}): name another .wandb file.")
    found.setdefault("run_id", path.stem.removeprefix("run-"))
    return Fragment(path=path, config=config, rows=rows, summary=summary, cut=cut, **found)


def read_fragments(files: Iterable[Path]) -> tuple[dict[str, list[Fragment]], list[UserError]]:
    """Return the fragments of every run id in order of time, and an error for each unreadable file."""
    runs, unreadable = dict[str, list[Fragment]](), []
    for file in files:
        try:
            fragment = read_fragment(file)
            runs.setdefault(fragment.run_id, []).append(fragment)
        except UserError as error:
            unreadable.append(error)
    return {run_id: sorted(parts, key=in_time) for run_id, parts in runs.items()}, unreadable


def in_time(fragment: Fragment) -> tuple[float, str]:
    """Return the sort key for the order of time."""
    return fragment.started, str(fragment.path)


def merge(fragments: Iterable[Fragment]) -> Fragment:
    """Merge the fragments of one run, keeping each step once and the latest of every other value.

    If the step decreases, the run was resumed there: all rows logged beyond that step are dropped, as in metrics.jsonl.
    """
    parts = sorted(fragments, key=in_time)
    if len({part.run_id for part in parts}) != 1:
        raise ValueError(f"not the fragments of one run: {sorted({part.run_id for part in parts})}")
    whole, rows, newest = parts[0], dict[int, dict[str, Any]](), -1
    for part in parts:
        for row in part.rows:
            step = int(row["step"])
            if step < newest:
                rows = {old: kept for old, kept in rows.items() if old <= step}
            rows[step] = rows.get(step, {}) | row
            newest = step
        whole = replace(
            part,
            project=part.project or whole.project,
            entity=part.entity or whole.entity,
            config=whole.config | part.config,
            summary=whole.summary | part.summary,
            started=whole.started or part.started,
            cut=whole.cut or part.cut,
        )
    return replace(whole, rows=[rows[step] for step in sorted(rows)])


def read_records(path: Path) -> tuple[list[Any], bool]:
    """Return the intact records of a file as wandb's protocol buffers, and whether any are missing."""
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a .wandb file.") from error
    if len(content) > LARGEST:
        raise UserError(f"{path} has more than {LARGEST >> 30} GiB, which no run writes: name another file.")
    record_type = record_class()
    cut, records = False, []
    for payload in payloads(content, path):
        try:
            if payload is None:
                cut = True
            else:
                records.append(record_type.FromString(payload))
        except Exception:  # protobuf's DecodeError, whose module differs between versions
            cut = True
    return records, cut


def record_class() -> Any:
    """Import and return wandb's protocol buffer class of records. Raises a UserError without wandb."""
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError as error:
        raise UserError(f"Reading W&B files needs wandb ({error}): pip install 'wandb>=0.19'.") from error
    return Record


def pack(payloads: Iterable[bytes]) -> bytes:
    """Return the content of a `.wandb` file with these payloads; the inverse of `payloads`."""
    content = bytearray(IDENT.pack(NAME, MAGIC, VERSION))
    for payload in payloads:
        kinds = FULL, FIRST  # kinds of the next chunk: if it is the payload's last, and if it is not
        while True:
            room = BLOCK - len(content) % BLOCK - CHUNK.size
            if room < 0:
                content += bytes(room + CHUNK.size)
                continue
            chunk, payload = payload[:room], payload[room:]
            kind = kinds[1] if payload else kinds[0]
            content += CHUNK.pack(_checksum(kind, chunk), len(chunk), kind) + chunk
            if not payload:
                break
            kinds = LAST, MIDDLE
    return bytes(content)


def payloads(content: bytes, path: Path) -> Iterator[bytes | None]:
    """Yield the payloads of a log, joined from their chunks; None where data is missing."""
    begin = IDENT.pack(NAME, MAGIC, VERSION)
    if begin.startswith(content[: IDENT.size].rstrip(b"\0")) and len(content.rstrip(b"\0")) < IDENT.size:
        yield None  # empty, or allocated but not written before a crash
        return
    if not content.startswith(begin):
        raise UserError(f"{path} is not a W&B file, or has an unknown version: name a .wandb file.")
    parts: list[bytes] | None = None  # chunks of an incomplete payload
    for kind, chunk in _chunks(content):
        if kind in (FULL, FIRST):
            if parts is not None:
                yield None  # the previous payload has no end
            parts = []
        elif kind not in (MIDDLE, LAST) or parts is None:
            parts = None
            yield None
            continue
        parts.append(chunk)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = None
    if parts is not None:
        yield None


def _chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every chunk with its kind, which is 0 for a damaged one; reading continues at the next block."""
    place = IDENT.size
    while place < len(content):
        block_end = place - place % BLOCK + BLOCK
        if block_end - place < CHUNK.size:
            place = block_end
            continue
        kind, chunk = 0, b""
        if place + CHUNK.size <= len(content):
            checksum, length, kind = CHUNK.unpack_from(content, place)
            begin, end = place + CHUNK.size, place + CHUNK.size + length
            chunk = content[begin:end]
            if end > min(block_end, len(content)) or _checksum(kind, chunk) != checksum:
                kind = 0
        yield kind, chunk
        place = end if kind else block_end


def _checksum(kind: int, chunk: bytes) -> int:
    return zlib.crc32(chunk, zlib.crc32(bytes([kind])))


def _update(tree: dict[str, Any], changes: Any) -> None:
    """Apply W&B's changes (values set and removed) to a configuration or summary."""
    _set(tree, changes.update)
    for item in changes.remove:
        *above, last = list(item.nested_key) or [item.key]
        node: Any = tree
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)


def _set(tree: dict[str, Any], items: Iterable[Any]) -> None:
    """Set JSON values in a nested dictionary, each under a key or a path of keys."""
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        node = tree
        for key in above:
            node = node[key] if isinstance(node.get(key), dict) else node.setdefault(key, {})
        try:
            value = json.loads(item.value_json)
        except (ValueError, RecursionError):
            continue  # skip this value only
        node[last] = SPECIAL.get(value, value) if isinstance(value, str) else value
