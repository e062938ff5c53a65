"""Checks of the device and the accuracy and speed of its number formats."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from ranger21.engine.precision import choose_precision
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.system.distributed import choose_device
from ranger21.system.processes import granted_cores

SIDE = {"cuda": 4096, "mps": 2048, "cpu": 256}  # side of the square matrices to multiply
# Largest error of a product of random matrices that a format explains, in standard deviations of the product.
ERRORS = {"fp32": 1e-4, "tf32": 2e-2, "bf16": 1e-1, "fp16": 2e-2}


def device_of(machine: Machine) -> torch.device:
    """Return the device of the run. Raises a UserError if it does not exist."""
    return choose_device(machine.config.trainer.device, 0)


def wait(device: torch.device) -> None:
    """Wait for all queued work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: torch.device, times: int, most: float = 2.0) -> list[float]:
    """Return the durations of `times` calls of `work` after a warm-up; of fewer once `most` seconds have passed."""
    found: list[float] = []
    while len(found) < 2 or (len(found) <= times and sum(found) < most):
        wait(device)
        begun = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - begun)
    return found[1:]


def device(machine: Machine) -> CheckResult:
    """Report the device's name and memory, and the number of devices."""
    here = device_of(machine)
    if here.type != "cuda":
        told = f"{here.type}, {granted_cores()} cores for this process, {torch.get_num_threads()} threads"
        return CheckResult(told, numbers={"device": str(here), "gpus": 0, "cores": granted_cores()})
    facts = torch.cuda.get_device_properties(here)
    free, total = torch.cuda.mem_get_info(here)
    count = torch.cuda.device_count()
    numbers = {
        "device": facts.name, "gpus": count, "capability": [facts.major, facts.minor], "memory_bytes": total,
        "free_bytes": free, "cores": granted_cores(),
    }  # fmt: skip
    told = f"{count} x {facts.name} (sm_{facts.major}{facts.minor}), {total / 2**30:.0f} GiB, {free / 2**30:.0f} free"
    if free < 0.9 * total:
        remedy = "another process uses this GPU: run nvidia-smi to find it"
        return CheckResult(told, WARNING, remedy, numbers)
    return CheckResult(f"{told}; {granted_cores()} cores for this process", numbers=numbers)


def formats(machine: Machine) -> CheckResult:
    """Measure the error and speed of a matrix product in each number format; report the one that the run will use."""
    here = device_of(machine)
    side = SIDE[here.type]
    a, b = (torch.randn(side, side, generator=torch.Generator().manual_seed(n)).to(here) for n in (1, 2))
    rows = slice(0, 64)
    exact = a[rows].cpu().double() @ b.cpu().double() / side**0.5
    told, numbers, wrong = [], {}, []
    for name in ERRORS:
        if name == "tf32" and here.type != "cuda":
            continue
        if name == "bf16" and here.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            told.append("bf16 not supported by the hardware")
            continue
        error, speed = _product(a, b, exact, name, here)
        numbers[name] = {"error": error, "tflops": speed}
        told.append(f"{name} {error:.0e} ({speed:.3g} TFLOP/s)")
        if not error < ERRORS[name]:
            wrong.append(name)
    used = choose_precision(machine.config.trainer.precision, here).name
    seen = f"largest errors of a product: {', '.join(told)}; the run uses {used}"
    if wrong:
        return CheckResult(seen, FAILED, f"wrong results in {', '.join(wrong)}: have this device checked", numbers)
    return CheckResult(seen, numbers=numbers | {"used": used})


def _product(
    a: torch.Tensor, b: torch.Tensor, exact: torch.Tensor, name: str, here: torch.device
) -> tuple[float, float]:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)
    left, right = a.to(kind), b.to(kind)
    with _tf32(name == "tf32"):
        product = (left @ right)[: len(exact)].cpu().double() / a.shape[0] ** 0.5
        taken = min(seconds(lambda: left @ right, here, 3))
    return float((product - exact).abs().max()), 2 * a.shape[0] ** 3 / taken / 1e12


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
