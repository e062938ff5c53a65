"""Checks of Ranger21's implementations on this device: accuracy against the reference, and speed."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch.nn import Parameter

from ranger21 import Ranger21
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of, seconds
from ranger21.machine.model import on_meta
from ranger21.optim import reference
from ranger21.system.wording import reason

WAYS: dict[str, dict[str, Any]] = {
    "foreach": {"foreach": True, "fused": False}, "one by one": {"foreach": False, "fused": False},
    "fused": {"fused": True},
}  # fmt: skip
SHAPES = [(8, 3, 3, 3), (40, 60), (16, 1, 1, 1), (4, 6, 5), (33,), (), (300, 2), (1, 4096)]
STEPS = 11  # two merges of lookahead
NEAR = 1e-5  # allowed error in float32, relative to the largest change of a weight


def ways_of(device: torch.device) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the implementations that work on the device, and why the fused one does not (empty if it does)."""
    probe = Parameter(torch.ones(2, device=device))
    probe.grad = torch.ones_like(probe)
    try:
        Ranger21([probe], fused=True).step()
    except (ValueError, RuntimeError, NotImplementedError, ImportError) as error:
        return {name: way for name, way in WAYS.items() if name != "fused"}, reason(error, 80)
    return WAYS, ""


def against_reference(machine: Machine) -> CheckResult:
    """Update tensors of many shapes in float32, and compare with the float64 reference on the CPU."""
    here = device_of(machine)
    generator = torch.Generator().manual_seed(0)
    begin = [torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05 for shape in SHAPES]
    grads = [
        [torch.randn(shape, generator=generator, dtype=torch.float64) * 0.01 for shape in SHAPES] for _ in range(STEPS)
    ]
    end, states = [x.float().double() for x in begin], [dict[str, Any]() for _ in SHAPES]
    for gradients in grads:
        end = [reference.step(x, g.float().double(), s, 3e-3) for x, g, s in zip(end, gradients, states, strict=True)]
    moved = max(float((x - y).abs().max()) for x, y in zip(begin, end, strict=True))
    ways, why = ways_of(here)
    off = {name: _farthest(way, begin, grads, end, here) / moved for name, way in ways.items()}
    seen = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
    seen = f"error relative to the weights' change in {STEPS} steps: {seen}" + (f"; not fused: {why}" if why else "")
    wrong = [name for name, value in off.items() if not value < NEAR]
    if wrong:
        cure = "use optimizer.fused=false" if wrong == ["fused"] else "have this device, its driver and torch checked"
        return CheckResult(seen, FAILED, f"{', '.join(wrong)}: more than {NEAR:g}; {cure}", {"off": off})
    return CheckResult(seen, numbers={"off": off})


def _farthest(way: dict[str, Any], begin: Any, grads: Any, end: Any, here: torch.device) -> float:
    params = [Parameter(x.float().to(here)) for x in begin]
    optimizer = Ranger21(params, lr=3e-3, **way)
    for gradients in grads:
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient.float().to(here)
        optimizer.step()
    differences = [(p.detach().cpu().double() - x).abs().max() for p, x in zip(params, end, strict=True)]
    return float(torch.nan_to_num(torch.stack(differences), nan=float("inf")).max())


def speed(machine: Machine) -> CheckResult:
    """Measure milliseconds per step on the weights of the configured model, compared with torch's fused AdamW."""
    here = device_of(machine)
    shapes = [param.shape for param in on_meta(machine.config).parameters()]
    params = [Parameter(torch.randn(shape, device=here) * 0.05) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param) * 1e-3
    makes: dict[str, Any] = {"AdamW, fused": lambda: torch.optim.AdamW(params, fused=here.type != "mps")}
    for name, way in ways_of(here)[0].items():
        makes[f"Ranger21, {name}"] = lambda way=way: Ranger21(params, **way)
    times = 5 if machine.quick else 20  # four merges of lookahead
    found = {name: 1e3 * statistics.median(_of_steps(make(), here, times)) for name, make in makes.items()}
    count = sum(shape.numel() for shape in shapes) / 1e6
    seen = f"ms per step, {machine.config.model.label} ({count:.1f} million): " + ", ".join(
        f"{name} {value:.3g}" for name, value in found.items()
    )
    numbers = {"ms": found, "elements": sum(shape.numel() for shape in shapes)}
    fused, foreach = found.get("Ranger21, fused"), found["Ranger21, foreach"]
    if fused is not None and fused > foreach:
        return CheckResult(seen, WARNING, "the fused step is slower here: use optimizer.fused=false", numbers)
    return CheckResult(seen, numbers=numbers)


def _of_steps(optimizer: torch.optim.Optimizer, here: torch.device, times: int) -> list[float]:
    optimizer.step()
    return seconds(optimizer.step, here, times)
