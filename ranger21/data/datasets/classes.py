"""The setting `data.classes`: a number of classes, or their names. Imports no torch."""

import re
from typing import Any

from ranger21.system.checks import COUNT, require, require_number, require_path
from ranger21.system.errors import UserError
from ranger21.system.project import shipped

LARGEST_LIST = 1 << 24  # bytes of a file of classes


def read_classes(wanted: Any) -> int | list[str] | None:
    """Return a number of classes, or their sorted names, from the value of the setting.

    Args:
        wanted: A number, a list of names (numbers in it are names of folders), the path of a file, or None. A file has
            one class per line: the wnid at its beginning, or the text before a tab, or the whole line. Lines that
            begin with # are ignored. The run records the names, not the file.

    Raises:
        UserError: If the value or the file is invalid, or if there are fewer than two classes.
    """
    if wanted is None:
        return None
    if isinstance(wanted, list):
        good = all(isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip() for name in wanted)
        require(good, "data.classes", wanted, "a number of classes, a file, or a list of names such as [n01440764,7]")
        return _two_at_least([str(name) for name in wanted], wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        require_number("data.classes", wanted, 2, COUNT)
        return wanted
    require(isinstance(wanted, str), "data.classes", wanted, "a number of classes, a file, or a list of names")
    try:
        path = shipped(require_path("data.classes", wanted))
        if (path.exists() and not path.is_file()) or path.stat().st_size > LARGEST_LIST:
            raise ValueError(f"it is not a regular file of at most {LARGEST_LIST:,} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        text = "a number of classes, or a file with the name of one on each line"
        raise UserError(f"data.classes={wanted} is invalid ({error}): it must be {text}.") from error
    return _two_at_least([_name(line) for line in lines if line.strip() and not line.startswith("#")], wanted)


def _name(line: str) -> str:
    wnid = re.match(r"\s*(n\d+)(?!\S)", line)
    return wnid[1] if wnid else line.partition("\t")[0].strip()


def _two_at_least(names: list[str], wanted: Any) -> list[str]:
    chosen = sorted(set(names))
    require(len(chosen) > 1, "data.classes", wanted, "at least two classes")
    return chosen
