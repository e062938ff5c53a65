"""Reads JSON and YAML files that anyone may have written, such as a run's records. Imports no torch.

Each is a regular file of limited size, depth and number of values, without repeated keys, with an object at its top.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml  # type: ignore[import-untyped]

from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, reason

LARGEST_JSON, LARGEST_YAML = 32 << 20, 256 << 10  # bytes; an older manifest has up to 1 MB of a diff for each start
MOST_JSON, MOST_YAML = 2_000_000, 20_000  # values in one file
LARGEST_LINES, LONGEST_LINE = 2 << 30, 1 << 20  # bytes of a file of lines, and of one of them
EXPONENT = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")  # PyYAML wants 1.0e-05
DEEPEST = 50  # containers within containers
LARGEST_INTEGER = 2**64
LARGEST_FLOAT = 1e39  # above every float32: a loss that grows without bound is finite up to 3.4e38
KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a finite number"}
FILES = {
    stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}  # fmt: skip


class Unreadable(UserError):
    """A file that cannot be used, in one sentence.

    Attributes:
        why: the reason as a clause.
        damaged: whether the file is not what it should be; else it is missing or cannot be read now.
        missing: whether there is none.
    """

    def __init__(self, path: Path, why: str, cure: str, damaged: bool = True, missing: bool = False) -> None:
        self.why, self.damaged, self.missing = why, damaged, missing
        state = "is damaged" if damaged else "cannot be read now"
        super().__init__(f"{path} is missing: {cure}." if missing else f"{path} {state} ({why}): {cure}.")


class NotAFile(OSError):
    """A folder, pipe, device or dangling link in a file's place."""


def require_regular(path: Path) -> None:
    """Raise NotAFile for what is no regular file: a pipe would wait for ever, a device may never end.

    Raises any other OSError if it cannot be looked at; a FileNotFoundError if there is nothing.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise NotAFile(None, "it is a link to nothing", str(path)) from error
        raise
    if not stat.S_ISREG(mode):
        kind = next((words for test, words in FILES.items() if test(mode)), "of another kind")
        raise NotAFile(None, f"it is {kind}, not a file", str(path))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises as `require_regular` does, or any other OSError.
    """
    require_regular(path)  # before it is opened, which some devices act on
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_json(path: Path, shape: Mapping[str, Any] | None = None, cure: str = "restore it") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        shape: of the object, as `misfit` takes it.
        cure: what the user can do about a damaged file, for the sentence.

    Raises an Unreadable.
    """
    return parse_json(_read(path, LARGEST_JSON, cure), path, shape, cure)


def parse_json(
    text: str, path: Path, shape: Mapping[str, Any] | None = None, cure: str = "restore it"
) -> dict[str, Any]:
    """The same of a text that has been read from `path`."""
    if sum(map(text.count, "[{,")) > MOST_JSON:
        raise Unreadable(path, f"it has more than {MOST_JSON:,} values", cure)
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except RecursionError:
        raise Unreadable(path, f"it is deeper than {DEEPEST} levels", cure) from None
    except ValueError as error:
        raise Unreadable(path, reason(error), cure) from error
    return _checked(found, shape, path, cure)


def read_yaml(path: Path, shape: Mapping[str, Any] | None = None, cure: str = "restore it") -> dict[str, Any]:
    """Read a YAML file as OmegaConf writes it, without aliases or tags, that holds a mapping.

    The arguments and errors are those of `read_json`. Interpolations (`${...}`) stay as they are.
    """
    text = _read(path, LARGEST_YAML, cure)
    try:
        found = yaml.load(text, Loader=_Loader)
    except Exception as error:  # besides its own errors PyYAML passes on those of int("") and the like
        raise Unreadable(path, _told(error), cure) from error
    return _checked(found, shape, path, cure)


def read_lines(path: Path, cure: str = "restore it") -> Iterator[bytes]:
    """Read a file of lines, such as metrics.jsonl, one by one: each ends with its newline, but maybe the last.

    Raises an Unreadable for what is no regular file or larger than a run writes, any other OSError as it is.
    """
    try:
        file = open_regular(path)
    except NotAFile as error:
        raise Unreadable(path, str(error.strerror), cure) from error
    with file:
        if os.fstat(file.fileno()).st_size > LARGEST_LINES:
            raise Unreadable(path, f"it has more than {LARGEST_LINES >> 30} GiB", cure)
        for line in iter(lambda: file.readline(LONGEST_LINE + 1), b""):
            if len(line) > LONGEST_LINE:
                raise Unreadable(path, f"it has a line of more than {LONGEST_LINE >> 10:,} KiB", cure)
            yield line


def misfit(value: Any, shape: Any, name: str = "") -> str | None:
    """Return why a value has another shape, as a clause; None if it fits.

    Args:
        shape: a type (numbers must be finite); `{"key": shape, "other?": shape}` for an
            object, in which what `?` follows may be missing or null; or `[shape]` for a list of such values.
        name: of the value, for the clause.
    """
    kind = shape if isinstance(shape, type) else type(shape)
    if not _is(value, kind):
        return f"{name or 'it'} is not {KINDS[kind]}"
    if isinstance(shape, list):
        return next((why for n, v in enumerate(value) if (why := misfit(v, shape[0], f"{name}[{n}]"))), None)
    if not isinstance(shape, dict):
        return None
    if missing := [key for key in shape if not key.endswith("?") and key not in value]:
        return f"{name or 'it'} lacks {first_few(missing)}"
    for key, inner in shape.items():
        found = value.get(key.removesuffix("?"))
        if found is None and key.endswith("?"):
            continue
        if why := misfit(found, inner, f"{name}.{key}".strip(".?")):
            return why
    return None


def _is(value: Any, kind: type) -> bool:
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, kind)):
            return False
        return abs(value) <= (LARGEST_INTEGER if isinstance(value, int) else LARGEST_FLOAT)  # which NaN is not, either
    return isinstance(value, kind)


def _read(path: Path, most: int, cure: str) -> str:
    try:
        with open_regular(path) as file:
            content = file.read(most + 1)
    except FileNotFoundError as error:
        raise Unreadable(path, "there is none", cure, damaged=False, missing=True) from error
    except NotAFile as error:
        raise Unreadable(path, str(error.strerror), cure) from error
    except OSError as error:
        raise Unreadable(path, error.strerror or reason(error), "try again", damaged=False) from error
    if len(content) > most:
        raise Unreadable(path, f"it has more than {most >> 10:,} KiB", cure)
    if not content.strip():
        raise Unreadable(path, "it is empty", cure)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"it is no text in UTF-8, from byte {error.start} on", cure) from error


def _checked(found: Any, shape: Mapping[str, Any] | None, path: Path, cure: str) -> dict[str, Any]:
    if why := misfit(found, dict) or too_much(found) or misfit(found, shape or {}):
        raise Unreadable(path, why, cure)
    return found


def too_much(value: Any) -> str | None:
    """Return why no file of this program holds such containers of containers or numbers, as a clause; else None."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [part.values() if isinstance(part, dict) else part for part in level]
        if any(isinstance(child, int) and abs(child) > LARGEST_INTEGER for parts in inner for child in parts):
            return "it has a whole number of more than 64 bits"
        level = [child for parts in inner for child in parts if isinstance(child, (dict, list))]
        if not level:
            return None
    return f"it is deeper than {DEEPEST} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _whole(digits: str) -> int:
    _require_short(digits)
    return int(digits)


def _require_short(digits: str) -> None:
    if len(digits) > 100:
        raise ValueError(f"it has a number of {len(digits):,} digits")


def _told(error: Exception) -> str:
    """What PyYAML says, and of which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return reason(error)


class _Loader(yaml.SafeLoader):
    """Mappings, lists, texts, numbers, true, false and null alone.

    As for OmegaConf, whose own loader is private, 1e-05 is a number and a date is a text. A key may not stand twice.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    plain = frozenset(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null"))
    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, such as *name")
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > DEEPEST or self.values > MOST_YAML:
            raise yaml.YAMLError(f"it is deeper than {DEEPEST} levels or has more than {MOST_YAML:,} values")
        node = super().compose_node(parent, index)
        if node.tag not in self.plain:
            raise yaml.YAMLError(f"it has a value of the kind {node.tag}")
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(("int", "float")):
            _require_short(node.value)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                text = f"found duplicate key {key.value}"
                raise yaml.constructor.ConstructorError(problem=text, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
