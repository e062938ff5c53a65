"""Safe reading of JSON and YAML files from untrusted sources, such as a run's records. Imports no torch.

Accepts regular files only, of limited size, depth and number of values, without repeated keys, and with an object at
the top level.
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

LARGEST_JSON, LARGEST_YAML = 32 << 20, 256 << 10  # bytes; an older manifest has a diff of up to 1 MB for each start
MOST_JSON, MOST_YAML = 2_000_000, 20_000  # values in one file
LARGEST_LINES, LONGEST_LINE = 2 << 30, 1 << 20  # bytes of a JSON Lines file, and of one line
EXPONENT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"
)  # PyYAML itself reads 1e-05 as text
DEEPEST = 50  # containers within containers
LARGEST_INTEGER = 2**64
LARGEST_FLOAT = 1e39  # above every float32, because a diverging loss is finite up to 3.4e38
KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a finite number"}
FILES = {
    stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}  # fmt: skip


class Unreadable(UserError):
    """Error for a file that is damaged, missing, or cannot be read now.

    Attributes:
        why: the reason as a clause.
        damaged: whether the content is wrong; otherwise the file is missing or cannot be read now.
        missing: whether the file does not exist.
    """

    def __init__(self, path: Path, why: str, cure: str, damaged: bool = True, missing: bool = False) -> None:
        self.why, self.damaged, self.missing = why, damaged, missing
        state = "is damaged" if damaged else "cannot be read now"
        super().__init__(f"{path} is missing: {cure}." if missing else f"{path} {state} ({why}): {cure}.")


class NotAFile(OSError):
    """Error for a folder, pipe, device or dangling link where a file was expected."""


def require_regular(path: Path) -> None:
    """Raise NotAFile unless `path` is a regular file: reading a pipe could block forever, and a device may never end.

    Raises FileNotFoundError if nothing exists at `path`, and any other OSError of `Path.stat`.
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
    """Open a regular file for reading bytes.

    Raises NotAFile if `path` is not a regular file, or any other OSError.
    """
    require_regular(path)  # before opening, because opening some devices has effects
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_json(path: Path, shape: Mapping[str, Any] | None = None, cure: str = "restore it") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        shape: expected shape of the object, as for `misfit`.
        cure: what the user can do about a damaged file, for the error message.

    Raises Unreadable if the file cannot be read or does not fit `shape`.
    """
    return parse_json(_read(path, LARGEST_JSON, cure), path, shape, cure)


def parse_json(
    text: str, path: Path, shape: Mapping[str, Any] | None = None, cure: str = "restore it"
) -> dict[str, Any]:
    """Parse a text that was read from `path`, like `read_json`."""
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
    """Read a YAML file that holds a mapping without aliases or tags, as OmegaConf writes it.

    Arguments and errors are those of `read_json`. Interpolations (`${...}`) are not resolved.
    """
    text = _read(path, LARGEST_YAML, cure)
    try:
        found = yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML also raises errors such as that of int("")
        raise Unreadable(path, _told(error), cure) from error
    return _checked(found, shape, path, cure)


def read_lines(path: Path, cure: str = "restore it") -> Iterator[bytes]:
    """Yield the lines of a file such as metrics.jsonl, each with its newline, which the last one may lack.

    Raises Unreadable if it is not a regular file or larger than a run writes, and any other OSError.
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
    """Return a clause that says why a value does not fit a shape; None if it fits.

    Args:
        shape: a type (numbers must be finite); `{"key": shape, "other?": shape}` for an object, whose keys with a `?`
            may be missing or null; or `[shape]` for a list of values of that shape.
        name: the name of the value, for the clause.
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
        return abs(value) <= (LARGEST_INTEGER if isinstance(value, int) else LARGEST_FLOAT)  # False for NaN
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
        raise Unreadable(path, f"it is not UTF-8 text: byte {error.start} is invalid", cure) from error


def _checked(found: Any, shape: Mapping[str, Any] | None, path: Path, cure: str) -> dict[str, Any]:
    if why := misfit(found, dict) or too_much(found) or misfit(found, shape or {}):
        raise Unreadable(path, why, cure)
    return found


def too_much(value: Any) -> str | None:
    """Return a clause that says that containers are nested too deeply or an integer is too large; else None."""
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
        raise ValueError(f"the key {twice!r} appears twice")
    return found


def _whole(digits: str) -> int:
    _require_short(digits)
    return int(digits)


def _require_short(digits: str) -> None:
    if len(digits) > 100:
        raise ValueError(f"it has a number of {len(digits):,} digits")


def _told(error: Exception) -> str:
    """Return PyYAML's message with its line number."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return reason(error)


class _Loader(yaml.SafeLoader):
    """Loader for mappings, lists, strings, numbers, true, false and null only.

    Like OmegaConf's loader, which is private, it reads 1e-05 as a number and a date as a string, and refuses repeated
    keys.
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
            raise yaml.YAMLError(f"it has a value of type {node.tag}")
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
