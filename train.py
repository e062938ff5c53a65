"""Train an image classifier: `python train.py --help` teaches, `python train.py experiment=demo` shows."""

import contextlib
import os
import sys
import traceback
from dataclasses import dataclass, field

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

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

# A user who has set this variable wants the traceback. It is set for Hydra in any case: Hydra then raises what it would
# have printed, and a sentence can be made of it.
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"


@dataclass
class Command:
    """What this command's runs came to.

    Attributes:
        runs: how many were begun: one, or those of a sweep.
        debug: whether tracebacks are wanted.
        error: of the only run.
        failed: the overrides and the error, as a sentence, of each run of a sweep that failed.
    """

    runs: int = 0
    debug: bool = TRACEBACK
    error: Exception | None = None
    failed: list[str] = field(default_factory=list)


HERE = Command()


@hydra.main(version_base="1.3", config_path="configs", config_name="config")  # type: ignore[untyped-decorator]
def main(composed: DictConfig) -> None:
    """Do one run. A sweep goes on after one that fails; a signal that stops a run stops the sweep."""
    job = HydraConfig.get()
    sweep = job.mode == RunMode.MULTIRUN
    elsewhere = sweep and not job.launcher._target_.endswith(".BasicLauncher")  # in a process of the launcher's
    if sweep and not elsewhere and "WORLD_SIZE" in os.environ:
        fail("-m runs one after the other in one process: give each its own torchrun instead.", at_once=True)
    HERE.runs, HERE.debug = HERE.runs + 1, TRACEBACK or composed.get("debug") is True
    try:
        code = begin(composed)
    except UserError as mistake:
        error: Exception = mistake if HERE.debug else UserError(str(mistake))  # without the frames: loader processes
    except Exception as crash:
        error = crash
    else:
        if code:
            sys.exit(code)
        return
    expected = isinstance(error, UserError) and not HERE.debug
    if elsewhere and expected:
        fail(error, at_once="SLURM_PROCID" in os.environ)
    if elsewhere:
        raise error
    if not sweep:
        HERE.error = error  # raised when Hydra has ended, which would print more of it
        return
    what = " ".join([override for override in job.overrides.task if override not in sys.argv] or job.overrides.task)
    sentence = str(error) if expected else f"{type(error).__name__}: {error} (its traceback is above)"
    if not expected:
        traceback.print_exception(error)
    sys.stderr.write(f"error: {what}: {sentence}\n")
    HERE.failed.append(f"{what}: {sentence}")


def begin(composed: DictConfig) -> int:
    """Do the run of a composed configuration; return its exit code. Raises a UserError for what a user can mend."""
    config = parse(composed)
    directory = run_directory(config)
    require_place(config, directory)
    if not RunDirectory(directory).result.exists():  # a finished run has no need of its data any more
        config.data.require()  # before torch is imported: a missing data set should be told at once
    from ranger21.run.experiment import run

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
