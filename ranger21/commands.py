"""The command `ranger21`, which runs train.py and every script from any folder: `ranger21 train …`."""

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
For help on a command, type ranger21 COMMAND --help. Results go below the current folder.

commands:
"""
COPY = "Copy the batch scripts and site files in slurm/ to the current folder, and create outputs/ there."


def main() -> None:
    """Run the command named by the first argument."""
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
            f"error: ranger21 {' '.join(words[:1])} needs {lacking}, which is not installed. Only the optimizer works "
            "with torch alone; for the commands, install ranger21-imagenet without --no-deps."
        )


def show_help() -> None:
    """Print the list of commands."""
    from ranger21.config.ending import ending_well

    with ending_well("starts over"):
        purposes = {name: purpose(file) for name, file in commands().items()} | {"slurm": COPY}
        width = max(map(len, purposes)) + 1
        sys.stdout.write(HELP + "".join(f"  {name:{width}}{text}\n" for name, text in purposes.items()))


def show_version() -> None:
    """Print the version of the package."""
    from ranger21 import __version__

    sys.stdout.write(f"{__version__}\n")


def copy_batch_scripts(words: list[str]) -> None:
    """Copy `slurm/` to the current folder, where sbatch needs it; refuse if it exists."""
    from ranger21.config.ending import ending_well, fail

    place = Path("slurm")
    with ending_well("starts over"):
        if words in (["-h"], ["--help"]):
            sys.stdout.write(f"usage: ranger21 slurm\n\n{COPY}\n")
        elif words:
            fail(f"ranger21 slurm takes no arguments: remove {words[0]!r}.")
        elif place.exists() or place.is_symlink():
            fail(f"{place.absolute()} already exists: nothing was copied.")
        else:
            shutil.copytree(SLURM, place)
            Path("outputs").mkdir(exist_ok=True)
            sys.stdout.write("wrote slurm: sbatch --gpus-per-node=1 slurm/train.sbatch experiment=demo\n")


def commands() -> dict[str, Path]:
    """Return the file of every command, by name."""
    return {"train": TRAIN} | {path.stem: path for path in sorted(SCRIPTS.glob("[a-z]*.py"))}


def purpose(file: Path) -> str:
    """Return the first line of a file's docstring, without running the file."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return as_typed(text.partition("\n")[0])


def file_of(name: str) -> Path:
    """Return the file of a command; exit with an error message if the command does not exist."""
    files = commands()
    if file := files.get(name.replace("-", "_")):
        return file
    near = difflib.get_close_matches(name.replace("-", "_"), [*files, "slurm"], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    sys.exit(f"error: there is no command {name!r}.{hint} ranger21 --help lists them.")


def start(file: Path, arguments: list[str]) -> None:
    """Run a file as the main program, with its folder first in `sys.path`, as Python does."""
    sys.argv = [str(file), *arguments]
    sys.path[0] = str(file.parent)
    runpy.run_path(str(file), run_name="__main__")
