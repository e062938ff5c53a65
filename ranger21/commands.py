"""The command `ranger21`: `ranger21 train …` is `python train.py …`, and so for each script, from any folder."""

import ast
import difflib
import runpy
import sys
from pathlib import Path

from ranger21.project import PACKAGE, SCRIPTS, TRAIN

HELP = """\
usage: ranger21 COMMAND ...

In a clone, ranger21 train is python train.py, and ranger21 NAME is python scripts/NAME.py.
ranger21 COMMAND --help explains a command; results go below the current folder.

commands:
"""


def main() -> None:
    """Run the command that is named first, as if its file had been started."""
    words = sys.argv[1:]
    try:
        if not words or words[0] in ("-h", "--help"):
            show_help()
        elif words[0] == "--version":
            show_version()
        else:
            start(file_of(words[0]), words[1:])
    except ModuleNotFoundError as error:
        lacking = (error.name or "").partition(".")[0]
        if lacking in ("", PACKAGE.name, *sys.stdlib_module_names):
            raise
        sys.exit(
            f"error: ranger21 {' '.join(words[:1])} needs {lacking}, which is not installed here. The optimizer alone "
            "needs torch; for the commands, install ranger21-imagenet without --no-deps."
        )


def show_help() -> None:
    """Write the list of the commands."""
    from ranger21.ending import ending_well

    with ending_well("begins anew"):
        sys.stdout.write(HELP + "".join(f"  {name:18}{purpose(file)}\n" for name, file in commands().items()))


def show_version() -> None:
    """Write the version of the package."""
    from ranger21 import __version__

    sys.stdout.write(f"{__version__}\n")


def commands() -> dict[str, Path]:
    """Return the file of every command, by its name."""
    return {"train": TRAIN} | {path.stem: path for path in sorted(SCRIPTS.glob("[a-z]*.py"))}


def purpose(file: Path) -> str:
    """Return the first line of what a file says of itself, without running it."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def file_of(name: str) -> Path:
    """Return the file of a command; end with a sentence if there is none of that name."""
    files = commands()
    if file := files.get(name.replace("-", "_")):
        return file
    near = difflib.get_close_matches(name.replace("-", "_"), files, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    sys.exit(f"error: there is no command {name!r}.{hint} ranger21 --help lists them.")


def start(file: Path, arguments: list[str]) -> None:
    """Run a file as Python does: it is the main program, and its folder stands first in `sys.path`."""
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.parent)
    runpy.run_path(str(file), run_name="__main__")
