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
import functools
import gc
import importlib
import importlib.util
import json
import os
import platform
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
from rich import box
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
state B: its tensors' bytes for a parameter element. temporary: the peak of what six steps in a row (a lookahead merge
among them) allocate, and what is kept between steps besides the state, over the size of the parameters."""
ADAMW, FOREACH, COMPILED = "adamw", "adamw-foreach", "ranger21-compiled"
KOZISTR, OFFICIAL = "pytorch_optimizer", "official-package"
PASSES = {"fused AdamW (7 passes)": 7.0, "Ranger21 (10.4)": 10.4, "Ranger21, nothing cached between phases (14.8)": 14.8}
Params = list[Tensor]


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "aten"
        return func(*args, **(kwargs or {}))


class Local:
    """An optimizer in this process, warmed up."""

    def __init__(self, make: Callable[[Params], Any], params: Params, grads: Params, compiled: bool = False) -> None:
        self.params, self.grads, self.compiled, before = params, grads, compiled, live_bytes()
        self.optimizer = make(params)
        first = self.step()
        self.compile_seconds = first - min(self.step(), self.step())
        states = self.optimizer.state.values()
        self.state_bytes = sum(x.nbytes for state in states for x in state.values() if torch.is_tensor(x))
        self.kept = live_bytes() - before - self.state_bytes

    def __call__(self, word: str) -> Any:
        return getattr(self, word)()

    def step(self) -> float:
        """Its seconds."""
        torch._foreach_copy_([param.grad for param in self.params], self.grads)  # some optimizers write to them
        begin = time.perf_counter()
        self.optimizer.step()
        return time.perf_counter() - begin

    def facts(self) -> dict[str, Any]:
        used, size = [0], sum(param.nbytes for param in self.params)
        for event in self.events(6):
            used.append(used[-1] + (event.nbytes() if event.name() == "[memory]" else 0))
        return {
            "operations": self.count(),
            "state_bytes_per_element": 4 * self.state_bytes / size,
            "temporary": (self.kept + max(used)) / size,
            "compile_seconds": self.compile_seconds if self.compiled else None,
        }

    def events(self, steps: int) -> list[Any]:
        """A profiler's, in order; those of memory have signed bytes."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            for _ in range(steps):
                self.optimizer.step()
        return sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())  # type: ignore[union-attr]

    def count(self) -> str:
        if not self.compiled:
            with Counter() as counter:
                self.optimizer.step()
            return str(counter.count)
        seen, end, graphs = 0, 0, 0  # under a dispatch mode a compiled function runs as if it were not
        for event in self.events(1):
            graphs += "Call CompiledFxGraph" in event.name()
            if event.name().startswith("aten::") and event.start_ns() >= end:
                seen, end = seen + 1, event.end_ns()
        return f"{seen} + {graphs} graphs"


def remote(official: Path, shapes: list[list[int]]) -> Callable[[str], Any]:
    """Like a Local of the authors' package, in a process of its own: a line goes in, a line of JSON comes out."""
    command = [sys.executable, __file__, f"--serve={official}", f"--threads={torch.get_num_threads()}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(line: str) -> Any:
        print(line, file=process.stdin, flush=True)
        return json.loads((process.stdout and process.stdout.readline()) or sys.exit("error: see above"))

    ask(json.dumps(shapes))
    return ask


def serve(official: Path) -> None:
    """The other end of `remote`. What the package prints does not reach it."""
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
        print(json.dumps(local(line.strip())), file=answers, flush=True)


def weights_and_gradients(shapes: list[list[int]]) -> tuple[Params, Params]:
    torch.manual_seed(0)
    params = [torch.randn(shape).mul_(0.05).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.zeros_like(param)
    return params, [torch.randn(shape).mul_(1e-3) for shape in shapes]


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
    """What there is to know of optimizers that are in memory together, and of a copy."""
    print("stepping", *names, file=sys.stderr)
    (params, grads), large = weights_and_gradients(shapes), torch.ones(2, 2**26)
    entries: dict[str, Callable[[str], Any]] = {}
    for name in names:
        build = functools.partial(make, name, args.override)
        remotely = name == OFFICIAL
        entries[name] = remote(args.official, shapes) if remotely else Local(build, params, grads, name == COMPILED)
    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in [*names, "copy"]}
    for number in range(args.rounds):
        for name in names[:: -1 if number % 2 else 1]:  # forwards and backwards in turn
            found[name]["seconds"].append(entries[name]("step"))
        begin = time.perf_counter()
        large[0].copy_(large[1])
        found["copy"]["seconds"].append(time.perf_counter() - begin)
    base = found[ADAMW]["seconds"]
    for name, entry in entries.items():
        seconds = found[name]["seconds"]
        found[name]["ratio"] = statistics.median(x / y for x, y in zip(seconds, base, strict=True))
        found[name] |= {"ratio_of_sums": sum(seconds) / sum(base), **entry("facts")}
    found["copy"]["bandwidth"] = large.nbytes / statistics.median(found["copy"]["seconds"])
    return found


def measure(args: argparse.Namespace, names: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What there is to know by name, and lines on what bounds and precedes it."""
    import timm

    lines = []
    if COMPILED in names:
        begin = time.perf_counter()
        torch.compile(lambda x: x + 1)(torch.ones(8))
        lines.append(f"toolchain's own start (compiling x + 1): {time.perf_counter() - begin:.1f} s")
    with torch.device("meta"):
        shapes = [list(param.shape) for param in timm.create_model(args.model).parameters()]
    size = 4 * sum(torch.Size(shape).numel() for shape in shapes)
    lines.insert(0, f"{args.model}: {len(shapes)} tensors, {size / 1e6:.1f} MB; {args.rounds} rounds")
    others, found = [name for name in names if name != ADAMW], dict[str, dict[str, Any]]()
    count = max(1, -(-len(others) // (args.group_size or max(1, 8 * 10**9 // (3 * size)))))
    for i in range(count):
        found = run_group([ADAMW, *others[i::count]], shapes, args) | found
    if COMPILED in names:
        cache = "the user's cache" if args.keep_cache else "a fresh cache"
        hits = torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]
        lines.append(f"{COMPILED}: {found[COMPILED]['compile_seconds']:.1f} s to compile ({cache}, {hits} hits in it)")
    bandwidth = found.pop("copy")["bandwidth"]
    floors = [f"{name} {passes * size / bandwidth * 1e3:.1f} ms" for name, passes in PASSES.items()]
    lines.append(f"floor at the {bandwidth / 1e9:.1f} GB/s of copy_: " + ", ".join(floors))
    return {name: found[name] for name in [ADAMW, *others]}, lines


def bench(args: argparse.Namespace, names: list[str], console: Console) -> None:
    found, lines = measure(args, names)
    table = Table("optimizer", "ms", "min–max", "x AdamW", "x of sums", "ATen ops", "state B", "temporary", box=box.MARKDOWN)
    for name, row in found.items():
        low, middle, high = (1e3 * f(row["seconds"]) for f in (min, statistics.median, max))
        cells = [name, f"{middle:.1f}", f"{low:.1f}–{high:.1f}", f"{row['ratio']:.2f}", f"{row['ratio_of_sums']:.2f}"]
        table.add_row(*cells, row["operations"], f"{row['state_bytes_per_element']:.1f}", f"{row['temporary']:.2f}")
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = next((x.split(": ")[1] for x in cpuinfo.splitlines() if x.startswith("model name")), platform.machine())
    lines.insert(0, f"{datetime.date.today()}, {cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for block in ("\n".join(f"- {line}" for line in lines[:2]), table, "\n".join(f"- {line}" for line in lines[2:]), NOTES):
        console.print(block, markup=False, highlight=False)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "bench.md").write_text(console.export_text(), encoding="utf-8")
        (args.out / "bench.json").write_text(json.dumps({"lines": lines, "optimizers": found}, indent=1), encoding="utf-8")


def drift(args: argparse.Namespace, console: Console) -> None:
    """How far 1,000 steps in float32 end from those in float64; both take the gradients of the latter's trajectory."""
    shapes = [[16, 3, 3, 3], [16], [32, 16, 3, 3], [32], [32, 32, 3, 3], [32], [10, 32], [10]]
    scopes = {f"ranger21, {scope}": ["ranger21", f"optimizer.stable_decay={scope}"] for scope in ("layer", "global")}
    table = Table("optimizer", "||theta32 - theta64|| / ||theta64 - theta0||", box=box.MARKDOWN)
    for label, (name, *overrides) in (scopes | {"adamw, single tensor": [SINGLE], "adamw, fused": [ADAMW]}).items():
        params, targets = weights_and_gradients(shapes)
        curvatures = [torch.rand(shape, dtype=torch.float64) * 10 for shape in shapes]
        doubles = [param.detach().double().requires_grad_() for param in params]
        start = [double.detach().clone() for double in doubles]
        pair = [make(name, overrides, x) for x in (params, doubles)]
        for _ in range(1000):
            for param, double, target, curvature in zip(params, doubles, targets, curvatures, strict=True):
                double.grad = curvature * (double.detach() - 1e3 * target)
                param.grad = double.grad.float()
            for optimizer in pair:
                optimizer.step()
        off, moved = (
            torch.cat([(x.detach() - y.detach()).flatten() for x, y in zip(xs, doubles, strict=True)]).norm().item()
            for xs in (params, start)
        )
        table.add_row(label, f"{off / moved:.2e}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet50", help="a model of timm (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="best a multiple of 5, for lookahead (default: 15)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (default: %(default)s)")
    parser.add_argument("--only", help="names in the table, with commas between; adamw, the yardstick, always is in it")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for the project's own")
    parser.add_argument("--official", type=Path, metavar="DIR", help="where the authors' package is")
    parser.add_argument("--group-size", type=int, help="optimizers in memory at a time besides adamw (default: 8 GB's)")
    parser.add_argument("--keep-cache", action="store_true", help="compile with the cache there is, not a fresh one")
    parser.add_argument("--profile", metavar="NAME", help="the operations of a step of this one, and nothing else")
    parser.add_argument("--drift", action="store_true", help="float32's error after 1,000 steps, and nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where bench.md and bench.json go")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.serve:
        return serve(args.serve)
