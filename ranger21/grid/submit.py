"""scripts/submit.py: one run, or an array of runs, as a SLURM job that was checked on the login node."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ranger21.config import Config
from ranger21.config.arguments import Parser
from ranger21.config.compose import compose_config
from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.grid.sbatch import joined, requests_gpus, run_slurm, with_defaults
from ranger21.records.naming import require_place, run_directory
from ranger21.system.errors import UserError
from ranger21.system.project import SCRIPTS, SLURM, WHEEL

HELP = """\
Check a run on the login node and submit it as a SLURM job, from any folder.

Options of sbatch come first, then --, then the arguments of train.py. Before anything is submitted, the
command composes the configuration, looks for the data and the Python of the job, and asks SLURM whether
it accepts the options. It then prints the sbatch command, the file of the job's output and the run
directory. The results go below the current folder, as those of train.py do.

If you request no GPU, the job gets one (--gpus-per-node=0 requests none), and up to 8 CPUs per GPU. All
other options have your site's defaults. `source slurm/sites/SITE.sh` before sets account and partition."""
EXAMPLES = """\
examples:
  check a run on one GPU and show the sbatch command; submit nothing
    python scripts/submit.py --dry-run -- optimizer=ranger21 model=nf_resnet50 data.root=/data/imagenet
  submit it for 20 hours
    python scripts/submit.py --time=20:00:00 -- optimizer=ranger21 model=nf_resnet50 data.root=/data/imagenet
  eight GPUs on two nodes
    python scripts/submit.py -N 2 --gpus-per-node=4 -- model=nf_resnet50 data.root=/data/imagenet
  two tasks on CPUs
    python scripts/submit.py -n 2 --gpus-per-node=0 -- experiment=demo
  ten runs, one for each line of a file, with arguments separated by tabs
    python scripts/submit.py --array=0-9 -- @runs.txt

For a whole comparison with several seeds, use scripts/reproduce.py."""
OWN = {  # options of sbatch that this command cannot pass on, and what to do instead
    "--wrap": "the command chooses what the job runs: write the arguments of train.py after --",
    "--chdir": "go to that folder before you submit",
    "-D": "go to that folder before you submit",
    "--test-only": "use --dry-run, which asks SLURM as well",
}


@dataclass(frozen=True)
class Options:
    """The command line: sbatch's options, the arguments of train.py, and the options of this command."""

    sbatch: list[str]
    overrides: list[str]
    dry_run: bool
    data_on_nodes: bool


@dataclass(frozen=True)
class Submitted:
    """A checked submission.

    Attributes:
        words: the sbatch command.
        environment: the variables that the job needs besides those of this process.
        output: the pattern of the job's output file; None if the user chose it.
        config: the configuration, of an array's first task.
        directories: the run directories.
        typed: the command that submits the same again.
    """

    words: list[str]
    environment: dict[str, str]
    output: Path | None
    config: Config
    directories: list[Path]
    typed: str
    array: bool = field(default=False)

    def told(self) -> str:
        """Return the sbatch command, and where the output and the run directories will be."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        others = f" and {len(self.directories) - 1} others" if len(self.directories) > 1 else ""
        return "\n".join(
            [
                " ".join([*variables, shlex.join(self.words)]),
                f"Python: {self.environment['PYTHON']}",
                *([f"job's output: {self.output}"] if self.output else []),
                f"run directory: {self.directories[0].absolute()}{others}",
            ]
        )

    def warnings(self) -> list[str]:
        """Return a sentence if the run directory holds a finished run, and one if SLURM has not checked the options."""
        place, found = self.directories[0], []
        if len(self.directories) == 1 and (place / "result.json").exists():
            found.append(f"{place} holds a finished run: the job will have nothing to do.")
        if not shutil.which("sbatch"):
            found.append("sbatch was not found, so SLURM has not checked the options: this is no login node.")
        return found


def parse(words: Sequence[str]) -> Options:
    """Parse the command line. Raises a UserError for options that cannot be passed on to sbatch."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--dry-run] [--data-on-nodes] [options of sbatch] -- [arguments of train.py]",
        allow_abbrev=False,
    )
    parser.add_argument("--dry-run", action="store_true", help="check and print everything, submit nothing")
    parser.add_argument(
        "--data-on-nodes", action="store_true", help="do not look for the data, which only the compute nodes can read"
    )
    split = list(words).index("--") if "--" in words else len(words)
    own, sbatch = parser.parse_known_args(list(words[:split]))
    given = joined(sbatch)
    for word in given:
        name = word.partition("=")[0]
        if name in OWN:
            raise UserError(f"{name} is not possible here: {OWN[name]}.")
        if name == "--export" and "ALL" not in word.partition("=")[2].split(","):
            raise UserError(f"{word} withholds variables that the job needs: write --export=ALL,NAME=value.")
        if not word.startswith("-"):
            raise UserError(f"{word!r} is not an option of sbatch: write -- before the arguments of train.py.")
    return Options(sbatch, list(words[split + 1 :]), own.dry_run, own.data_on_nodes)


def find_python() -> str:
    """Return the Python of the job, as slurm/python.sh finds it.

    It is $PYTHON, else the Python of this process. Raises a UserError if it is missing or lacks torch or Hydra.
    """
    python = os.environ.get("PYTHON") or sys.executable
    script = 'home=$1; . "$home/slurm/python.sh" && command -v "$python"'
    env = os.environ | {"PYTHON": python}
    done = subprocess.run(["bash", "-c", script, "bash", str(SLURM.parent)], env=env, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise UserError(said.removeprefix("error: ") or f"{python} cannot be used: set PYTHON=/path/to/python.")
    return str(Path(done.stdout.splitlines()[-1]).absolute())


def submission(options: Options, python: str) -> Submitted:
    """Check a submission and return it. Raises a UserError for data, settings or options that cannot be right."""
    runs = [(words, compose(words, task)) for task, words in tasks_of(options)]
    directories = []
    for _, config in runs:
        directory = run_directory(config)
        require_place(config, directory)
        if not (options.data_on_nodes or (directory / "result.json").exists()):
            config.data.require()
        directories.append(directory)
    config, array = runs[0][1], array_of(options.sbatch) is not None
    given = joined(options.sbatch)
    sbatch = list(options.sbatch)
    if config.trainer.device == "cpu" and not requests_gpus(given):
        sbatch = ["--gpus-per-node=0", *sbatch]
    output = None
    if not any(re.match(r"-o|--output", word) for word in given):
        output = Path("outputs").absolute() / ("%x-%A_%a.out" if array else "%x-%j.out")
        sbatch.append(f"--output={output}")
    words = ["sbatch", *with_defaults(sbatch), str(SLURM / "train.sbatch"), *options.overrides]
    again = shlex.join([sys.executable, *_program(), *options.sbatch, "--", *options.overrides])
    typed = f"cd {shlex.quote(str(Path.cwd()))} && {again}"
    environment = {"RANGER21_HOME": str(SLURM.parent), "PYTHON": python}
    if shutil.which("sbatch"):
        run_slurm(["sbatch", "--test-only", *words[1:]], env=os.environ | environment)
    return Submitted(words, environment, output, config, directories, typed, array)


def _program() -> list[str]:
    return ["-m", "ranger21", "submit"] if WHEEL else [str(SCRIPTS / "submit.py")]


def submit(planned: Submitted) -> str:
    """Submit a job and return a sentence with its number. Raises a UserError if sbatch refuses."""
    if not shutil.which("sbatch"):
        raise UserError("nothing was submitted: type the command above on a login node, outside of any container.")
    if planned.output:
        planned.output.parent.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if name != "RANGER21_AGAIN"} | planned.environment
    if not planned.array:
        env["RANGER21_AGAIN"] = planned.typed
    job = run_slurm(["sbatch", "--parsable", *planned.words[1:]], env=env).partition(";")[0]
    place = str(planned.output or "")
    for sign, value in (("%x", "ranger21"), ("%j", job), ("%A", job)):
        place = place.replace(sign, value)
    return f"submitted job {job}" + (f": tail -F {shlex.quote(place)}" if place and not planned.array else "")


def array_of(sbatch: Sequence[str]) -> list[int] | None:
    """Return the task numbers of --array; None without it. Raises a UserError for a list that sbatch would refuse."""
    text = next((m[1] for word in joined(sbatch) if (m := re.fullmatch(r"(?:-a=?|--array=)(.*)", word))), None)
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", part)
        if not match or (match[3] and int(match[3]) == 0):
            raise UserError(f"--array={text} is not possible: write numbers and ranges, such as 0-9 or 1,3,5-7.")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))
    if not numbers:
        raise UserError(f"--array={text} has no task: write the smaller number first.")
    return numbers


def tasks_of(options: Options) -> list[tuple[int | None, list[str]]]:
    """Return the arguments of train.py for every task of an array, or for the only one, with the task's number.

    Raises a UserError if a file of runs cannot be read or has no line for a task.
    """
    numbers = array_of(options.sbatch)
    if not (options.overrides and options.overrides[0].startswith("@")):
        return [(number, options.overrides) for number in numbers] if numbers else [(None, options.overrides)]
    path, more = Path(options.overrides[0][1:]), options.overrides[1:]
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}, the file of runs, cannot be read ({error}).") from error
    if numbers is None:
        raise UserError(f"@{path} needs an array: add --array=0-{max(0, len(lines) - 1)}.")
    if lacking := [number for number in numbers if number >= len(lines) or not lines[number].strip()]:
        raise UserError(f"{path} has no line {lacking[0] + 1}, which task {lacking[0]} of the array needs.")
    return [(number, [*lines[number].split("\t"), *more]) for number in numbers]


def compose(overrides: list[str], task: int | None) -> Config:
    """Return the configuration of a task of an array. Raises a UserError for invalid arguments."""
    before: Mapping[str, str] = dict(os.environ)
    if task is not None:
        os.environ["SLURM_ARRAY_TASK_ID"] = str(task)
    try:
        return compose_config(overrides)
    except CONFIG_ERRORS as error:
        raise UserError(explain(error)) from error
    finally:
        if task is not None:
            os.environ.pop("SLURM_ARRAY_TASK_ID", None)
            if "SLURM_ARRAY_TASK_ID" in before:
                os.environ["SLURM_ARRAY_TASK_ID"] = before["SLURM_ARRAY_TASK_ID"]
