"""What a step of each optimizer costs, on the shapes of a model of timm, in float32 on the CPU. Takes minutes.

Every round steps every optimizer once, so that noise hits all alike; all share weights and random gradients.
ms: median over the rounds. x AdamW: median of the rounds' ratios to fused AdamW; of sums: all rounds' time over its.
ATen ops: dispatched in a step.
state B: its bytes for each element of the parameters. temporary: the peak of what the first seven steps, merges among
them, allocate besides the state, over the size of the parameters. floor: passes, each of which reads or writes every
parameter once, at the bandwidth of copy_, and of add_, which is in place as optimizers are (copy_ may first read what
it overwrites). Fused AdamW: 7 (g, theta, m, v read; theta, m, v written). Ranger21, as `Step` cuts up Algorithm 4: 6
in `observe` (g, theta, m_t-2, v; m_t, v), 3 for the maximum (v, v_max; v_max, whose mean it takes to move), 5 in `move`
(theta, m_t, m_t-1, v_max; theta), a fifth of 4 in lookahead (slow, theta; slow, theta): 14.8. If all stays in a cache,
v, v_max, m_t, theta (twice) are not read again, nor theta written again: 10.4, the least of any implementation."""

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
STREAMS = {"copy_": 2, "add_": 3}  # how often they read or write their memory
Params = list[torch.Tensor]


def make(name: str, overrides: list[str], params: Params) -> Any:
    if name in ADAMW:
        return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-4, **ADAMW[name])
    if name == KOZISTR:
        return importlib.import_module(name).Ranger21(params, lr=3e-3, num_iterations=10_000)
    if name == OFFICIAL:  # in a process where it is the one to be found; ours would not take the arguments
        return importlib.import_module("ranger21").Ranger21(params, lr=3e-3, num_epochs=90, num_batches_per_epoch=99)
    return build_optimizer(params=params, **settings(name, overrides))


def settings(name: str, overrides: list[str]) -> dict[str, Any]:
    """Of an optimizer of the project's. Raises a UserError if there is no such, or it has no such setting."""
    return vars(compose_config([f"optimizer={name}", *overrides]).optimizer)


class Local:
    """An optimizer in this process, warmed up. It answers to "step", with its seconds, and to "facts"."""

    def __init__(self, name: str, overrides: list[str], params: Params, grads: Params) -> None:
        self.name, self.overrides, self.params, self.grads = name, overrides, params, grads
        self.optimizer = make(name, overrides, params)
        for _ in range(4):
            self("step")

    def __call__(self, word: str) -> Any:
        torch._foreach_copy_([p.grad for p in self.params if p.grad is not None], self.grads)  # some write to them
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
    """Like a Local of the authors' package, in a process of its own: a word goes in, a line of JSON comes out."""
    options = [f"--serve={args.official}", f"--threads={args.threads}", f"--model={args.model}"]
    process = subprocess.Popen([sys.executable, __file__, *options], stdin=-1, stdout=-1, text=True)

    def ask(word: str) -> Any:
        print(word, file=process.stdin, flush=True)
        return json.loads((process.stdout and process.stdout.readline()) or fail("the authors' package failed"))

    return ask


def serve(official: Path, params: Params, grads: Params) -> None:
    """The other end of `remote`. What the package prints does not reach it."""
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
    """What there is to know of optimizers that are in memory together, and the seconds of streaming 2^28 bytes."""
    entries, source, target = dict[str, Any](), torch.ones(2**26), torch.zeros(2**26)
    for name in names:
        entries[name] = remote(args) if name == OFFICIAL else Local(name, args.override, params, grads)
        print(f"{name} is warm: {entries[name]('step'):.3f} s a step", file=sys.stderr)
    found: dict[str, Any] = {name: {"seconds": []} for name in [*names, *STREAMS]}
    for number in range(args.rounds):
        for name in names[:: -1 if number % 2 else 1]:  # forwards and backwards in turn
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
    """How far 1,000 steps in float32 end from those in float64; both take the gradients at the latter's weights."""
    torch.set_num_threads(1)  # tensors this small gain nothing by more
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
    add("--model", default="resnet50", help="a model of timm (default: %(default)s)")
    add("--rounds", type=as_whole(), default=15, help="a multiple of 5 has its share of merges (default: %(default)s)")
    add(
        "--threads", type=as_whole(), default=torch.get_num_threads(), help="1 on a busy machine (default: %(default)s)"
    )
    add("--only", help="names as in the table, with commas between (default: all; adamw is always there)")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="a setting of the project's optimizers")
    add("--official", type=as_path, metavar="DIR", help="where the authors' package is; our import name is theirs too")
    add(
        "--group-size",
        type=as_whole(),
        metavar="N",
        help="optimizers in memory at a time besides adamw (default: for 8 GB)",
    )
    add("--profile", metavar="NAME", help="print where a step of this one spends its time, and no more")
    add("--drift", action="store_true", help="print how far float32 is off after 1,000 steps, and no more")
    add("--out", type=as_folder, metavar="DIR", help="where to write bench.md and bench.json")
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
        for name in set(names).difference(ADAMW, [KOZISTR, OFFICIAL]):  # mistakes are told before an hour is spent
            settings(name, args.override)
        bench(names, *problem, args)


if __name__ == "__main__":
    with ending_well("measures anew"):
        main()
