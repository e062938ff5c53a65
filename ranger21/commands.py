"""The command `ranger21`: `ranger21 train …` is `python train.py …`, and so for each script, from any folder."""

import ast
import difflib
import runpy
import shutil
import sys
from pathlib import Path

from ranger21.namesake import is_replaced, namesake
from ranger21.system.project import PACKAGE, SCRIPTS, SLURM, TRAIN, as_typed

HELP = """\
usage: ranger21 COMMAND ...

In a clone, ranger21 train is python train.py, and ranger21 NAME is python scripts/NAME.py.
ranger21 COMMAND --help explains a command; results go below the current folder.

commands:
"""
COPY = "Copy slurm/, the batch scripts and the sites, into the current folder, and make outputs/ there."


def main() -> None:
    """Run the command that is named first, as if its file had been started."""
    words = sys.argv[1:]
    if is_replaced():
        sys.exit(f"error: {namesake()}")
    try:
        if not words or words[0] in ("-h", "--help"):
            show_help()
        elif words[0] == "--version":
            show_version()
        elif words[0] == "slurm":
            copy_batch_scripts(words[1:])
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
    from ranger21.config.ending import ending_well

    with ending_well("begins anew"):
        purposes = {name: purpose(file) for name, file in commands().items()} | {"slurm": COPY}
        sys.stdout.write(HELP + "".join(f"  {name:18}{text}\n" for name, text in purposes.items()))


def show_version() -> None:
    """Write the version of the package."""
    from ranger21 import __version__

    sys.stdout.write(f"{__version__}\n")


def copy_batch_scripts(words: list[str]) -> None:
    """Copy `slurm/` into the current folder, where sbatch wants it; refuse if there is one."""
    from ranger21.config.ending import ending_well, fail

    place = Path("slurm")
    with ending_well("copies anew"):
        if words in (["-h"], ["--help"]):
            sys.stdout.write(f"usage: ranger21 slurm\n\n{COPY}\n")
        elif words:
            fail(f"ranger21 slurm takes no arguments, and {words[0]!r} is one.")
        elif place.exists() or place.is_symlink():
            fail(f"{place.absolute()} is there already: nothing was copied.")
        else:
            shutil.copytree(SLURM, place)
            Path("outputs").mkdir(exist_ok=True)
            sys.stdout.write("wrote slurm: sbatch slurm/train.sbatch experiment=demo\n")


def commands() -> dict[str, Path]:
    """Return the file of every command, by its name."""
    return {"train": TRAIN} | {path.stem: path for path in sorted(SCRIPTS.glob("[a-z]*.py"))}


def purpose(file: Path) -> str:
    """Return the first line of what a file says of itself, without running it."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return as_typed(text.partition("\n")[0])


def file_of(name: str) -> Path:
    """Return the file of a command; end with a sentence if there is none of that name."""
    files = commands()
    if file := files.get(name.replace("-", "_")):
        return file
    near = difflib.get_close_matches(name.replace("-", "_"), [*files, "slurm"], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    sys.exit(f"error: there is no command {name!r}.{hint} ranger21 --help lists them.")


def start(file: Path, arguments: list[str]) -> None:
    """Run a file as Python does: it is the main program, and its folder stands first in `sys.path`."""
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.parent)
    runpy.run_path(str(file), run_name="__main__")
