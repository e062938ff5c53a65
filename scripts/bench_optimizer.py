#!/usr/bin/env python
"""What a step of each optimizer costs, on the shapes of a model of timm, in float32 on the CPU. Takes minutes.

Every round steps every optimizer once, so that noise hits all alike; ratios are taken within a round, to torch's fused
AdamW. All share weights and random gradients. The floor is memory traffic over the bandwidth of copy_ (read and written
bytes counted). A pass reads or writes every parameter's 4 bytes. Fused AdamW makes 7: it reads g, theta, m, v and writes
theta, m, v. Ranger21, as ranger21/optim/core.py cuts up Algorithm 4 (units and temporaries stay in a cache):
  observe    6    reads g, theta (for its norms), m_t-2, v; writes m_t, v
  maximum    3    reads v, v_max; writes v_max, whose mean has to be known before weights move
  move       5    reads theta, m_t, m_t-1, v_max; writes theta
  lookahead  4/5  reads slow, theta; writes both; every fifth step
makes 14.8. Where tensors stay in the cache from phase to phase, v, v_max, m_t and theta (twice) are not read again, nor
theta written again: 10.4, less than which no implementation can do.
"""

import argparse
import datetime
import gc
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # read when torch is imported

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

EXAMPLES = """\
examples:
  python scripts/bench_optimizer.py --out results/optimizer
  python scripts/bench_optimizer.py --only ranger21,adamw-foreach --rounds 5
  python scripts/bench_optimizer.py --model vit_base_patch16_224 --group-size 4
  python scripts/bench_optimizer.py --profile ranger21 --override optimizer.stable_decay=global
the authors' package has our import name, so it gets a directory and a process of its own (it imports matplotlib):
  pip install --no-deps --target DIR ranger21==0.1.0 && python scripts/bench_optimizer.py --official DIR"""
NOTES = """\
ms: median over the rounds. x AdamW: median of the rounds' ratios to fused AdamW; of sums: all rounds' time over its.
ATen ops: dispatched in a step; of the compiled one, the outermost that a profiler sees, and calls of compiled graphs.
state: bytes of its tensors for each parameter element. temporary: the peak of what six steps in a row (with a lookahead
merge) allocate, and what is kept between steps besides the state, over the size of the parameters."""
COLUMNS = ["optimizer", "ms", "min–max", "x AdamW", "x of sums", "ATen ops", "state B", "temporary"]
ADAMW, FOREACH, COMPILED, KOZISTR, OFFICIAL = (
    "adamw adamw-foreach ranger21-compiled pytorch_optimizer official-package".split()  # noqa: SIM905
)
PASSES = {"fused AdamW (7 passes)": 7.0, "Ranger21 (10.4)": 10.4, "Ranger21, nothing cached between phases (14.8)": 14.8}
Params = list[Tensor]


class Local:
    """An optimizer in this process, warmed up."""

    def __init__(self, make: Callable[[Params], Any], params: Params, grads: Params, compiled: bool = False) -> None:
        self.params, self.grads, self.compiled, before = params, grads, compiled, live_bytes()
        self.optimizer = make(params)
        first = self.step()
        self.compile_seconds = first - min(self.step() for _ in range(2))
        states = self.optimizer.state.values()
        self.state_bytes = sum(x.nbytes for state in states for x in state.values() if torch.is_tensor(x))
        self.kept = live_bytes() - before - self.state_bytes

    def step(self) -> float:
        """Its seconds."""
        torch._foreach_copy_([param.grad for param in self.params], self.grads)  # some optimizers write to them
        begin = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - begin

    def facts(self) -> dict[str, Any]:
        size = sum(param.nbytes for param in self.params)
        return {
            "operations": self.count_compiled() if self.compiled else self.count(),
            "state_bytes_per_element": 4 * self.state_bytes / size,
            "temporary": (self.kept + self.peak_bytes()) / size,
            "compile_seconds": self.compile_seconds if self.compiled else None,
        }

    def events(self, steps: int) -> list[Any]:
        """A profiler's, in order; those of memory have signed bytes."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            for _ in range(steps):
                self.optimizer.step()
        return sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())

    def peak_bytes(self) -> int:
        used = [0]
        for event in self.events(6):
            used.append(used[-1] + (event.nbytes() if event.name() == "[memory]" else 0))
        return max(used)

    def count(self) -> str:
        with Counter() as counter:
            self.optimizer.step()
        return str(counter.count)

    def count_compiled(self) -> str:
        """Under a dispatch mode a compiled function runs as if it were not, so a profiler counts."""
        seen, end, graphs = 0, 0, 0
        for event in self.events(1):
            graphs += "Call CompiledFxGraph" in event.name()
            if event.name().startswith("aten::") and event.start_ns() >= end:
                seen, end = seen + 1, event.end_ns()
        return f"{seen} + {graphs} graphs"


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "aten"
        return func(*args, **(kwargs or {}))


class Remote:
    """The authors' package in a process of its own: a line goes in, a line of JSON comes out."""

    def __init__(self, official: Path, shapes: list[list[int]]) -> None:
        command = [sys.executable, __file__, f"--serve={official}", f"--threads={torch.get_num_threads()}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(json.dumps(shapes))

    def ask(self, line: str) -> Any:
        print(line, file=self.process.stdin, flush=True)
        return json.loads((self.process.stdout and self.process.stdout.readline()) or sys.exit("error: see above"))

    def step(self) -> float:
        return self.ask("step")

    def facts(self) -> dict[str, Any]:
        return self.ask("facts")


def serve(official: Path) -> None:
    """The other end of Remote. What the package prints does not reach it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, str(official))
    package = importlib.import_module("ranger21")
    if not Path(package.__file__ or "").resolve().is_relative_to(official.resolve()):
        sys.exit(f"error: there is no package ranger21 in {official}")
    params, grads = weights_and_gradients(json.loads(sys.stdin.readline()))
    local = Local(lambda x: package.Ranger21(x, lr=3e-3, num_epochs=100, num_batches_per_epoch=100), params, grads)
    print("true", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(getattr(local, line.strip())()), file=answers, flush=True)


def weights_and_gradients(shapes: list[list[int]], dtype: torch.dtype = torch.float32) -> tuple[Params, Params]:
    torch.manual_seed(0)
    params = [torch.randn(shape).mul_(0.05).to(dtype).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.zeros_like(param)
    return params, [torch.randn(shape).mul_(1e-3).to(dtype) for shape in shapes]


def live_bytes() -> int:
    """Of all tensors there are."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu"]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def make(name: str, overrides: list[str], params: Params) -> torch.optim.Optimizer:
    from ranger21.compose import compose_config
    from ranger21.optimizers import build_optimizer

    if name in (ADAMW, FOREACH):
        return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-4, fused=name == ADAMW, foreach=name == FOREACH)
    if name == KOZISTR:
        return importlib.import_module(KOZISTR).Ranger21(params, lr=3e-3, num_iterations=10_000)
    choice = ["optimizer=ranger21", "optimizer.compile=true"] if name == COMPILED else [f"optimizer={name}"]
    return build_optimizer(params=params, **vars(compose_config([*choice, *overrides]).optimizer))


def run_group(names: list[str], shapes: list[list[int]], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What there is to know of optimizers that are in memory together, and of copying 2**29 bytes."""
    print("stepping", *names, file=sys.stderr)
    (params, grads), large = weights_and_gradients(shapes), torch.ones(2**26)
    entries: dict[str, Local | Remote] = {}
    for name in names:
        if name == OFFICIAL:
            entries[name] = Remote(args.official, shapes)
        else:
            build = functools.partial(make, name, args.override)
            entries[name] = Local(build, params, grads, name == COMPILED)
    copy = Local(lambda _: Copy(large), [], [])
    steppers = {**entries, "copy": copy}
    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in steppers}
    for number in range(args.rounds):
        for name in list(steppers)[:: -1 if number % 2 else 1]:  # forwards and backwards in turn
            found[name]["seconds"].append(steppers[name].step())
    for name, entry in entries.items():
        ratios = [x / y for x, y in zip(found[name]["seconds"], found[ADAMW]["seconds"], strict=True)]
        of_sums = sum(found[name]["seconds"]) / sum(found[ADAMW]["seconds"])
        found[name] |= {"ratio": statistics.median(ratios), "ratio_of_sums": of_sums, **entry.facts()}
    return found
