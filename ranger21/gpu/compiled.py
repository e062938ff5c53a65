"""Registers, spills and shared memory of compiled Triton kernels; no GPU is needed or used.

Kernels are compiled to the end, for NVIDIA by Triton's ptxas and for AMD by its LLVM, but neither loaded nor run. The
process must not have TRITON_INTERPRET set.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

ARCHITECTURES = {
    "sm_75": GPUTarget("cuda", 75, 32),
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ATOMIC = {"ptx": r"\b(?:atom|red)\.", "amdgcn": r"\b(?:global|flat|buffer|ds)_atomic"}
DONE = {"cuda": "cubin", "hip": "hsaco"}  # the final output of each back end


@dataclass(frozen=True)
class Launch:
    """A kernel launch that was recorded instead of executed."""

    kernel: Any
    args: tuple[Any, ...]
    options: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__


@dataclass(frozen=True)
class Resources:
    """The resources of one specialisation of a kernel on an architecture.

    Attributes:
        kernel: name of the kernel.
        architecture: a key of ARCHITECTURES.
        constants: the compile-time constants of the specialisation.
        registers: registers per thread; on AMD, vector registers.
        spills: bytes spilled and reloaded; on AMD, spilled registers.
        shared: bytes of shared memory per block.
        warps: warps per block.
        atomics: number of atomic instructions, whose order differs from run to run.
        made: the compiler's final output: "cubin" or "hsaco".
    """

    kernel: str
    architecture: str
    constants: str
    registers: int
    spills: int
    shared: int
    warps: int
    atomics: int
    made: str


class Pretended:
    """A Triton driver for a device that need not exist, sufficient for compiling."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> Any:
        return self  # the key of Triton's cache of compiled kernels: a new key makes ptxas run and log again

    def get_current_stream(self, device: Any) -> int:
        return 0


def launches(run: Callable[[], Any]) -> list[Launch]:
    """Call `run` and return the launches of Triton kernels that it requests, without executing them."""
    found: list[Launch] = []

    def note(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.append(Launch(kernel, args, options))

    with mock.patch.object(JITFunction, "run", note):
        run()
    return found


def resources(asked: Iterable[Launch], architectures: Iterable[str] = tuple(ARCHITECTURES)) -> list[Resources]:
    """Return the resources of every specialisation among the launches on every architecture, sorted.

    Raises:
        RuntimeError: Triton's error, with ptxas's message, if a kernel cannot be compiled.
    """
    asked = list(asked)
    return sorted(
        {one for name in architectures for one in _resources(asked, name)},
        key=lambda one: (one.kernel, one.constants, one.architecture),
    )


def _resources(asked: list[Launch], architecture: str) -> Iterator[Resources]:
    target, known = ARCHITECTURES[architecture], set[int]()
    driver.set_active(Pretended(target))
    with knobs.compilation.scope(), knobs.nvidia.scope():
        knobs.compilation.always_compile = knobs.nvidia.dump_ptxas_log = True
        for launch in asked:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                binary = launch.kernel.run(*launch.args, grid=None, warmup=True, **launch.options)
            if id(binary) not in known:  # Triton returns the same object for the same specialisation
                known.add(id(binary))
                yield read(launch, architecture, binary, said.getvalue())


def read(launch: Launch, architecture: str, binary: Any, log: str) -> Resources:
    """Return the resources of a compiled kernel, from ptxas's log or LLVM's assembly."""
    kind = DONE[ARCHITECTURES[architecture].backend]
    if not binary.asm.get(kind):
        raise RuntimeError(f"{launch.name} on {architecture}: Triton produced no {kind}.")
    if kind == "cubin":
        text, registers = log, r"Used (\d+) registers"
        spills = (r"(\d+) bytes spill stores", r"(\d+) bytes spill loads")
    else:
        text, registers = binary.asm["amdgcn"], r"\.vgpr_count:\s*(\d+)"
        spills = (r"\.vgpr_spill_count:\s*(\d+)", r"\.sgpr_spill_count:\s*(\d+)")
    return Resources(
        launch.name,
        architecture,
        constants(launch),
        number(registers, text),
        sum(number(pattern, text) for pattern in spills),
        binary.metadata.shared,
        binary.metadata.num_warps,
        sum(len(re.findall(pattern, binary.asm[name])) for name, pattern in ATOMIC.items() if name in binary.asm),
        kind,
    )


def number(pattern: str, text: str) -> int:
    """Return the number that matches a pattern exactly once in a text.

    Raises:
        RuntimeError: if it does not match exactly once.
    """
    found = re.findall(pattern, text)
    if len(found) != 1:
        raise RuntimeError(f"The compiler's output matches {pattern!r} {len(found)} times, not once: {text[-500:]!r}")
    return int(found[0])


def constants(launch: Launch) -> str:
    """Return the compile-time constants of a kernel as text."""
    given = dict(zip(launch.kernel.arg_names, launch.args, strict=False)) | launch.options
    names = [launch.kernel.arg_names[i] for i in launch.kernel.constexprs]
    return ", ".join(f"{name}={given[name]}" for name in names if name in given)
