"""Measure the cost of a step of each optimizer on the parameter shapes of a timm model, in float32 on the CPU.

Takes minutes. Every round steps every optimizer once, so that noise affects all alike. All optimizers share weights
and random gradients. Columns:

ms: median over the rounds.
x AdamW: median over the rounds of the ratio to fused AdamW.
of sums: total time over the total time of fused AdamW.
ATen ops: operators dispatched in a step.
state B: bytes of state per parameter element.
temporary: peak memory that the first seven steps (with a merge) allocate besides the state, relative to the parameters.

floor: the time of reading or writing every parameter once per pass, at the bandwidth of copy_ and of add_. (add_ works
in place as optimizers do; copy_ may first read the memory that it overwrites.) Fused AdamW needs 7 passes: g, theta, m,
v are read and theta, m, v written. Ranger21, as `Step` divides Algorithm 4, needs 14.8: 6 in `observe` (reads g, theta,
m_t-2, v; writes m_t, v), 3 for the maximum (reads v, v_max; writes v_max, whose mean `move` needs), 5 in `move` (reads
theta, m_t, m_t-1, v_max; writes theta), and a fifth of 4 in lookahead (reads and writes slow, theta). With a cache that
holds everything, v, v_max, m_t and theta (twice) are not read again and theta is not written again: 10.4 passes, the
minimum of any implementation."""

import argparse
import datetime
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from timeit import timeit
from typing import Any

import _installed

os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # read when torch is imported

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn.utils import parameters_to_vector as vector
from torch.utils._python_dispatch import TorchDispatchMode

from ranger21.config import VARIANTS
from ranger21.config.arguments import Parser, as_folder, as_path, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well, fail
from ranger21.models.build import build_model
from ranger21.run.optimizers import build_optimizer
from ranger21.system.files import write_atomically

EXAMPLES = """\
examples:
  python scripts/bench_optimizer.py --only ranger21,adamw-foreach --rounds 5
  python scripts/bench_optimizer.py --model vit_base_patch16_224 --group-size 4 --out results/optimizer
  python scripts/bench_optimizer.py --profile ranger21 --override optimizer.stable_decay=global
  pip install --no-deps --target DIR ranger21==0.1.0 && python scripts/bench_optimizer.py --official DIR"""
COLUMNS = ["optimizer", "ms", "min–max", "x AdamW", "of sums", "ATen ops", "state B", "temporary"]
PASSES = {"fused AdamW, 7 passes": 7.0, "Ranger21, 10.4": 10.4, "Ranger21, nothing cached between phases, 14.8": 14.8}
KOZISTR, OFFICIAL = "pytorch_optimizer", "official-package"
ADAMW: dict[str, Any] = {"adamw": {"fused": True}, "adamw-foreach": {"foreach": True}, "adamw-loop": {"foreach": False}}
STREAMS = {"copy_": 2, "add_": 3}  # reads and writes per element
Params = list[torch.Tensor]


def make(name: str, overrides: list[str], params: Params) -> Any:
    if name in ADAMW:
        return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-4, **ADAMW[name])
    if name == KOZISTR:
        return importlib.import_module(name).Ranger21(params, lr=3e-3, num_iterations=10_000)
    if name == OFFICIAL:  # only in the process of `serve`, where the import finds the authors' package
        return importlib.import_module("ranger21").Ranger21(params, lr=3e-3, num_epochs=90, num_batches_per_epoch=99)
    return build_optimizer(params=params, **settings(name, overrides))


def settings(name: str, overrides: list[str]) -> dict[str, Any]:
    """Return the settings of an optimizer of this project; raise a UserError for an unknown optimizer or setting."""
    return vars(compose_config([f"optimizer={name}", *overrides]).optimizer)


class Local:
    """A warmed-up optimizer in this process. Call it with "step" for the seconds of a step, or with "facts"."""

    def __init__(self, name: str, overrides: list[str], params: Params, grads: Params) -> None:
        self.name, self.overrides, self.params, self.grads = name, overrides, params, grads
        self.optimizer = make(name, overrides, params)
        for _ in range(4):
            self("step")

    def __call__(self, word: str) -> Any:
        torch._foreach_copy_([p.grad for p in self.params if p.grad is not None], self.grads)  # some modify them
        return self.facts() if word == "facts" else timeit(self.optimizer.step, number=1)

    def facts(self) -> dict[str, Any]:
        states, size = self.optimizer.state.values(), sum(param.nbytes for param in self.params)
        held = sum(x.nbytes for state in states for x in state.values() if torch.is_tensor(x))
        events = profiled(lambda: make(self.name, self.overrides, self.params), 7).profiler.kineto_results.events()
        changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
        peak = int(torch.tensor([0, *(change for _, change in changes)]).cumsum(0).max())
        facts = {"state": 4 * held / size, "temporary": (peak - held) / size}
        with Counter() as counter:
            self.optimizer.step()
        return facts | {"operations": str(counter.count)}


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "aten"
        return func(*args, **(kwargs or {}))


def profiled(make: Any, steps: int) -> Any:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer = make()
        for _ in range(steps):
            optimizer.step()
    return profile


def remote(args: argparse.Namespace) -> Any:
    """Return a function like a `Local` for the authors' package, which runs in a process of its own (see `serve`)."""
    options = [f"--serve={args.official}", f"--threads={args.threads}", f"--model={args.model}"]
    process = subprocess.Popen([sys.executable, __file__, *options], stdin=-1, stdout=-1, text=True)

    def ask(word: str) -> Any:
        print(word, file=process.stdin, flush=True)
        return json.loads((process.stdout and process.stdout.readline()) or fail("the authors' package failed"))

    return ask


def serve(official: Path, params: Params, grads: Params) -> None:
    """Answer the requests of `remote`, one JSON line per word. The package's own output is discarded."""
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")
    for name in [name for name in sys.modules if name.split(".")[0] == "ranger21"]:
        del sys.modules[name]
    sys.path.insert(0, str(official))
    local = Local(OFFICIAL, [], params, grads)
    for line in sys.stdin:
        print(json.dumps(local(line.strip())), file=answers, flush=True)


def weights_and_gradients(shapes: list[Any]) -> tuple[Params, Params]:
    torch.manual_seed(0)
    params = [torch.randn(shape).mul_(0.05).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = torch.zeros_like(param)
    return params, [torch.randn(shape).mul_(1e-3) for shape in shapes]


def run_group(names: list[str], params: Params, grads: Params, args: argparse.Namespace) -> dict[str, Any]:
    """Measure optimizers that are in memory together, and the seconds of streaming 2^28 bytes."""
    entries, source, target = dict[str, Any](), torch.ones(2**26), torch.zeros(2**26)
    for name in names:
        entries[name] = remote(args) if name == OFFICIAL else Local(name, args.override, params, grads)
        print(f"{name} is warmed up: {entries[name]('step'):.3f} s per step", file=sys.stderr)
    found: dict[str, Any] = {name: {"seconds": []} for name in [*names, *STREAMS]}
    for number in range(args.rounds):
        for name in names[:: -1 if number % 2 else 1]:  # alternately forwards and backwards
            found[name]["seconds"].append(entries[name]("step"))
        for stream in STREAMS:
            found[stream]["seconds"].append(timeit(f"target.{stream}(source)", number=1, globals=locals()))
    for name, entry in entries.items():
        seconds, base = found[name]["seconds"], found["adamw"]["seconds"]
        found[name]["ratio"] = statistics.median(x / y for x, y in zip(seconds, base, strict=True))
        found[name] |= {"ratio_of_sums": sum(seconds) / sum(base), **entry("facts")}
    return found


def bench(names: list[str], params: Params, grads: Params, args: argparse.Namespace) -> None:
    size, others = sum(param.nbytes for param in params), [name for name in names if name != "adamw"]
    together, found = args.group_size or max(1, 8 * 10**9 // (3 * size)), dict[str, Any]()
    for i in range(0, max(1, len(others)), together):
        found |= run_group(["adamw", *others[i : i + together]], params, grads, args)
    bandwidths = {x: n * 2**28 / statistics.median(found.pop(x)["seconds"]) for x, n in STREAMS.items()}
    console, table = Console(record=True, width=160), Table(*COLUMNS, box=box.MARKDOWN)
    for name, row in found.items():
        low, middle, high = (f"{1e3 * f(row['seconds']):.1f}" for f in (min, statistics.median, max))
        numbers = (f"{row['ratio']:.2f}", f"{row['ratio_of_sums']:.2f}", row["operations"], f"{row['state']:.1f}")
        table.add_row(name, middle, f"{low}–{high}", *numbers, f"{row['temporary']:.2f}")
    cpu = subprocess.run("lscpu | grep 'Model name'", shell=True, capture_output=True, text=True).stdout.split(":")[-1]
    machine = f"{datetime.date.today()}, {cpu.strip()}, threads: {args.threads}, torch {torch.__version__}"
    console.print(f"{machine}, {args.model}, {size / 1e6:.0f} MB, {args.rounds} rounds\n", table)
    for stream, bandwidth in bandwidths.items():
        floors = "; ".join(f"{name}: {passes * size / bandwidth * 1e3:.1f} ms" for name, passes in PASSES.items())
        console.print(f"floor at the {bandwidth / 1e9:.1f} GB/s of {stream}: {floors}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / "bench.md", f"{console.export_text()}\n```text\n{__doc__}\n```\n")
        facts = {"machine": machine, "args": vars(args), "bandwidths": bandwidths}
        write_atomically(args.out / "bench.json", json.dumps(facts | {"optimizers": found}, indent=1, default=str))


def drift() -> None:
    """Print how far 1,000 float32 steps end from float64 steps; both use the gradients at the float64 weights."""
    torch.set_num_threads(1)  # more threads do not help with tensors this small
    table = Table("optimizer", "||theta32 - theta64|| / ||theta64 - theta0||", box=box.MARKDOWN)
    for name, *scope in (["ranger21", "layer"], ["ranger21", "global"], ["adamw-loop"], ["adamw"]):
        params, targets = weights_and_gradients([[16, 3, 3, 3], [16], [32, 16, 3, 3], [32], [10, 32], [10]])
        doubles, start = [param.detach().double().requires_grad_() for param in params], vector(params).detach()
        optimizers = [make(name, [f"optimizer.stable_decay={x}" for x in scope], xs) for xs in (params, doubles)]
        for _ in range(1000):
            for param, double, target in zip(params, doubles, targets, strict=True):
                double.grad = target.abs() * (double.detach() - 1000 * target)
                param.grad = double.grad.float()
            for optimizer in optimizers:
                optimizer.step()
        off, moved = (float((x - vector(doubles)).detach().norm()) for x in (vector(params), start))
        table.add_row(" ".join([name, *scope]), f"{off / moved:.2e}")
    Console().print(table)


def main() -> None:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.formatter_class, add = argparse.RawDescriptionHelpFormatter, parser.add_argument
    add("--model", default="resnet50", help="a timm model (default: %(default)s)")
    text = "number of rounds; a multiple of 5 includes lookahead merges evenly (default: %(default)s)"
    add("--rounds", type=as_whole(), default=15, help=text)
    text = "CPU threads; use 1 on a busy machine (default: %(default)s)"
    add("--threads", type=as_whole(), default=torch.get_num_threads(), help=text)
    add("--only", help="optimizers as named in the table, separated by commas (default: all; adamw is always included)")
    text = "setting for this project's optimizers; repeatable"
    add("--override", action="append", default=[], metavar="KEY=VALUE", help=text)
    text = "folder of the authors' package, which has the same import name as this one"
    add("--official", type=as_path, metavar="DIR", help=text)
    add(
        "--group-size",
        type=as_whole(),
        metavar="N",
        help="optimizers in memory at a time besides adamw (default: as many as fit into 8 GB)",
    )
    add("--profile", metavar="NAME", help="only print a profile of one step of this optimizer")
    add("--drift", action="store_true", help="only print the error of float32 after 1,000 steps")
    add("--out", type=as_folder, metavar="DIR", help="folder for bench.md and bench.json")
    add("--serve", type=as_path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    theirs = [KOZISTR] * bool(importlib.util.find_spec(KOZISTR)) + [OFFICIAL] * bool(args.official)
    every = dict.fromkeys(["adamw", "adamw-foreach", "ranger21", *VARIANTS["optimizer"], *theirs])
    with torch.device("meta"):
        model = build_model(compose_config([f"model={args.model}"]).model, 1000, 3)
    problem = weights_and_gradients([param.shape for param in model.parameters()])
    if args.serve:
        serve(args.serve, *problem)
    elif args.drift:
        drift()
    elif args.profile:
        local = Local(args.profile, args.override, *problem)
        print(profiled(lambda: local.optimizer, 1).key_averages().table("self_cpu_time_total", row_limit=30))
    else:
        names = args.only.split(",") if args.only is not None else list(every)
        for name in set(names).difference(ADAMW, [KOZISTR, OFFICIAL]):  # report mistakes before measuring
            settings(name, args.override)
        bench(names, *problem, args)


if __name__ == "__main__":
    with ending_well("measures again"):
        main()
