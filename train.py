"""Trains an image classifier: try `python train.py experiment=demo`, and `python train.py --help`."""

import contextlib
import os
import sys
import traceback
from dataclasses import dataclass, field

try:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed for {sys.executable}: use the Python of your environment.")

from ranger21.config.compose import parse
from ranger21.config.ending import ending_well, fail
from ranger21.config.mistakes import uncomposed
from ranger21.config.overrides import prepare
from ranger21.namesake import is_replaced, namesake
from ranger21.records.directory import RunDirectory
from ranger21.records.naming import require_place, run_directory
from ranger21.system.errors import UserError
from ranger21.system.project import printed_as_typed
from ranger21.system.stopping import catch_early_signal

# A user sets this variable to see tracebacks. It is always set for Hydra, which then raises its errors instead of
# printing them, so that they can be reworded.
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"


@dataclass
class Command:
    """The outcome of the runs of this command.

    Attributes:
        runs: how many runs were begun: one, or those of a sweep.
        debug: whether tracebacks are shown.
        error: the error of a single run.
        failed: the overrides and the error message of each run of a sweep that failed.
    """

    runs: int = 0
    debug: bool = TRACEBACK
    error: Exception | None = None
    failed: list[str] = field(default_factory=list)


HERE = Command()


@hydra.main(version_base="1.3", config_path="configs", config_name="config")  # type: ignore[untyped-decorator]
def main(composed: DictConfig) -> None:
    """Do one run. A sweep continues after a run that fails; a signal that stops a run stops the sweep."""
    job = HydraConfig.get()
    sweep = job.mode == RunMode.MULTIRUN
    elsewhere = sweep and not job.launcher._target_.endswith(".BasicLauncher")  # in a process that the launcher started
    if sweep and not elsewhere and "WORLD_SIZE" in os.environ:
        fail("-m runs one after the other in one process: give each its own torchrun instead.", at_once=True)
    HERE.runs, HERE.debug = HERE.runs + 1, TRACEBACK or composed.get("debug") is True
    outcome = attempt(composed)
    if isinstance(outcome, int):
        if outcome:
            sys.exit(outcome)
    elif elsewhere:
        if is_expected(outcome):
            fail(outcome, at_once="SLURM_PROCID" in os.environ)
        raise outcome
    elif sweep:
        report(outcome, job.overrides.task)
    else:
        HERE.error = outcome  # raised when Hydra has ended, which would print more of it


def attempt(composed: DictConfig) -> int | Exception:
    """Do the run; return its exit code or its error."""
    try:
        return begin(composed)
    except UserError as mistake:
        return mistake if HERE.debug else UserError(str(mistake))  # without the frames, which hold worker processes
    except Exception as crash:
        return crash


def is_expected(error: Exception) -> bool:
    """Return whether an error is told as a sentence, without its traceback."""
    return isinstance(error, UserError) and not HERE.debug


def report(error: Exception, overrides: list[str]) -> None:
    """Print the error of one run of a sweep, and remember it for the end."""
    what = " ".join([override for override in overrides if override not in sys.argv] or overrides)
    sentence = str(error)
    if not is_expected(error):
        sentence = f"{type(error).__name__}: {error} (its traceback is above)"
        traceback.print_exception(error)
    sys.stderr.write(f"error: {what}: {sentence}\n")
    HERE.failed.append(f"{what}: {sentence}")


def begin(composed: DictConfig) -> int:
    """Do the run of a composed configuration, and return its exit code. Raises a UserError for a user's mistake."""
    config = parse(composed)
    directory = run_directory(config)
    require_place(config, directory)
    if not RunDirectory(directory).result.exists():  # a finished run does not need its data
        config.data.require()  # before torch is imported, so that a missing dataset is reported at once
    from ranger21.run.preloaded import run

    return run(config, directory)


if __name__ == "__main__":
    catch_early_signal()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make a shared machine several times slower
    ranks = "WORLD_SIZE" in os.environ or "SLURM_PROCID" in os.environ
    with ending_well("resumes from its last checkpoint", at_once=ranks, traceback=lambda: HERE.debug):
        if is_replaced():
            raise UserError(namesake() or "")
        sys.argv[1:] = prepare(sys.argv[1:])
        helps = {"-h", "--help"} & set(sys.argv)
        try:
            with printed_as_typed() if helps else contextlib.nullcontext():
                main()
        except Exception as error:
            if HERE.runs or TRACEBACK:
                raise
            raise uncomposed(error) from error.__cause__
        finally:
            if HERE.failed:
                told = "".join(f"  {failure}\n" for failure in HERE.failed)
                sys.stderr.write(f"error: {len(HERE.failed)} of {HERE.runs} runs failed:\n{told}")
        if HERE.error:
            raise HERE.error
        if HERE.failed:
            sys.exit(1)
