"""Train an image classifier: `python train.py --help` teaches, `python train.py experiment=demo` shows."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ranger21.compose import parse
from ranger21.ending import fail
from ranger21.errors import UserError
from ranger21.mistakes import CONFIG_ERRORS
from ranger21.naming import run_directory
from ranger21.overrides import prepare
from ranger21.stopping import heed_early

# A user who has set this variable wants the traceback. It is set for Hydra in any case: Hydra then raises what it would
# have printed, and a sentence can be made of it.
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
os.environ["HYDRA_FULL_ERROR"] = "1"


@hydra.main(version_base="1.3", config_path="configs", config_name="config")  # type: ignore[untyped-decorator]
def main(composed: DictConfig) -> None:
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN and "WORLD_SIZE" in os.environ:
            raise UserError("-m runs one after the other in one process: give each its own torchrun instead.")
        config = parse(composed)
        directory = run_directory(config)
        from ranger21.data.layout import require_data

        require_data(config.data)  # before torch is imported: a missing data set should be told at once
        from ranger21.experiment import run

        code, message = run(config, directory), ""
    except UserError as error:
        if TRACEBACK or composed.get("debug"):
            raise
        code, message = 1, str(error)  # the error itself goes now, and what its frames hold: loader processes
    if message:
        fail(message, at_once="WORLD_SIZE" in os.environ or "SLURM_PROCID" in os.environ)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    heed_early()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make a shared machine several times slower
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
    except UserError as error:
        fail(error)
    try:
        main()
    except CONFIG_ERRORS as error:
        if TRACEBACK:
            raise
        fail(error)
    except KeyboardInterrupt:  # the second: the first is a stop at the next step
        sys.exit(130)
