"""Check of the golden trajectories: optimizer steps computed by an independent program, repeated on this device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ranger21 import Ranger21
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of
from ranger21.optim.official import Ranger21Official
from ranger21.records.code import PROJECT
from ranger21.system.wording import first_few, reason

FOLDER = PROJECT / "tests" / "golden"  # exists in a clone only
SWITCHED = ("agc_clipping", "centralize", "lookahead_k", "norm_loss", "pnm", "stable_decay")
NAMES = (
    "paper-adamw", "paper-all-on", *(f"paper-no-{name}" for name in SWITCHED), "official-july2021", "official-may2021",
)  # fmt: skip
WAYS = {"foreach": True, "one by one": False}
NEAR = {torch.float64: 1e-9, torch.float32: 1e-3}  # largest allowed difference of an element


def goldens(machine: Machine) -> CheckResult:
    """Repeat every trajectory with foreach and one tensor at a time, in float64 if the device supports it."""
    if not FOLDER.is_dir():
        seen = f"{FOLDER.relative_to(PROJECT)} is missing"
        return CheckResult(seen, WARNING, "run this in a clone of the repository, which has it")
    here = device_of(machine)
    kind = torch.float32 if here.type == "mps" else torch.float64
    wrong, largest = [], 0.0
    for name in NAMES:
        try:
            off = max(follow(FOLDER / f"{name}.npz", here, kind, way) for way in WAYS.values())
        except Exception as error:  # a damaged file can raise many errors
            wrong.append(f"{name}.npz cannot be repeated ({reason(error, 80)})")
            continue
        largest = max(largest, off)
        if not off < NEAR[kind]:
            wrong.append(f"{name} is off by {off:.1e}")
    numbers = {"largest": largest, "ways": list(WAYS), "trajectories": len(NAMES) - len(wrong)}
    if wrong:
        remedy = f"git checkout {FOLDER.relative_to(PROJECT)}; if the files are intact, this device or torch is faulty"
        return CheckResult(first_few(wrong, 3, "; "), FAILED, remedy, numbers)
    seen = f"{len(NAMES)} trajectories of 40 steps, {' and '.join(WAYS)}: off by {largest:.1e} at most"
    return CheckResult(f"{seen} ({str(kind).removeprefix('torch.')})", numbers=numbers)


def follow(path: Path, device: torch.device, kind: torch.dtype, foreach: bool) -> float:
    """Return the largest difference of an optimizer's parameters from a trajectory."""
    with np.load(path) as file:
        golden = dict(file)
    optimizer, params, rates = optimizer_of(path.stem, golden, device, kind, foreach)
    names, off = golden["order"], 0.0
    for t, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        for name, param in zip(names, params, strict=True):
            param.grad = torch.tensor(golden[f"grad.{name}"][t]).to(device, kind)
        optimizer.step()
        for name, param in zip(names, params, strict=True):
            expected = torch.tensor(golden[f"param.{name}"][t])
            difference = (param.detach().cpu().double() - expected).abs().max()
            off = max(off, float(torch.nan_to_num(difference, nan=float("inf"))))
    return off


def optimizer_of(
    name: str, golden: Mapping[str, Any], device: torch.device, kind: torch.dtype, foreach: bool
) -> tuple[torch.optim.Optimizer, list[torch.nn.Parameter], Any]:
    """Return the optimizer of a trajectory, its initial parameters and the learning rate of each step."""
    params = [torch.nn.Parameter(torch.tensor(golden[f"init.{n}"]).to(device, kind)) for n in golden["order"]]
    optimizer: torch.optim.Optimizer
    if name.startswith("official-"):
        state = name.removeprefix("official-")
        optimizer = Ranger21Official(params, lr=float(golden["lr"]), state=state, foreach=foreach)
        return optimizer, params, golden["effective_lr"]
    kwargs: dict[str, Any] = json.loads(str(golden["kwargs"]))
    lr = kwargs.pop("lr")
    make: Callable[..., torch.optim.Optimizer] = Ranger21
    return make(params, lr=lr, foreach=foreach, **kwargs), params, lr * golden["multiplier"]
