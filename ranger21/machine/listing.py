"""The list of all checks, the fastest first. Imports no torch.

To add a check, write a function in a module of this package and add a line here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A check: a function of a Machine that returns a CheckResult.

    Attributes:
        name: the name in the table.
        module: the name of a module in this package.
        function: the name of a function in that module.
        quick: whether --quick includes it.
        starts: whether it starts processes that use the device; some sites allow only one process at a time.
    """

    name: str
    module: str
    function: str
    quick: bool = True
    starts: bool = False


CHECKS = (
    Check("Python and packages", "software", "packages"),
    Check("driver and CUDA", "software", "driver"),
    Check("SLURM", "services", "slurm"),
    Check("W&B", "services", "wandb"),
    Check("model", "model", "model"),
    Check("disk", "disk", "disk"),
    Check("device", "device", "device"),
    Check("number formats", "device", "formats"),
    Check("all-reduce", "network", "all_reduce", starts=True),
    Check("golden trajectories", "golden", "goldens"),
    Check("optimizer against reference", "optimizer", "against_reference"),
    Check("optimizer speed", "optimizer", "speed"),
    Check("augmentation", "augmentation", "against_cpu"),
    Check("data", "data", "sample"),
    Check("pack", "data", "pack", quick=False),
    Check("training", "training", "steps", starts=True),
    Check("killed and resumed", "training", "resumed", starts=True),
    Check("the same, deterministic", "training", "deterministic", quick=False, starts=True),
    Check("loader", "data", "loader"),
    Check("largest batch", "batch", "largest", quick=False),
)
FIRST = "Python and packages"
TOGETHER = "all-reduce"  # the check in which every rank takes part
