"""Measure the overhead of the training loop over a minimal one, in one process or on several ranks.

Both loops take the same steps with the same model, optimizer and images, which are in memory. The minimal loop is that
of torch's tutorial (forward, loss, backward, step, zero_grad) on inputs that are already normalized; on several ranks
(gloo on the CPU, NCCL on GPUs) it uses DistributedDataParallel. Blocks of the two loops alternate, so that changes in
the machine's speed affect both. The result is the median over pairs of blocks of the ratio of wall-clock times, taken
on the slowest rank. The ratio of CPU times, summed over ranks, is printed as well: other jobs disturb it less, but it
leaves out the time that ranks wait for each other. All ranks share one machine, so this does not measure scaling.

  python scripts/bench_loop.py                                          one process, the demo's model and size
  python scripts/bench_loop.py --ranks 2                                two ranks
  python scripts/bench_loop.py --model resnet50 --size 224 --batch 8 --device cpu
  python scripts/bench_loop.py --profile                                also print a profile of both loops
"""

import argparse
import copy
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import _installed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from ranger21.config import Config
from ranger21.config.arguments import Parser, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.images import ImageBatch
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.engine.course import Course
from ranger21.engine.loop import train
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.parts import Callbacks, TrainSetup, TrainState
from ranger21.engine.plan import Plan
from ranger21.engine.precision import Precision
from ranger21.models.build import build_model
from ranger21.optim.schedules import constant
from ranger21.run.optimizers import build_optimizer
from ranger21.run.trial import require_it_runs
from ranger21.system import distributed
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.processes import granted_cores
from ranger21.system.stopping import StopFlag
from ranger21.tracking import FanOut, Tracker
from ranger21.tracking.console import ConsoleTracker
from ranger21.tracking.jsonl import JsonLines

ONE_RANK, SEVERAL_RANKS = 1.03, 1.05  # targets of the ratio


def forever(batch: ImageBatch) -> Generator[ImageBatch, None, None]:
    while True:
        yield batch


class Cost(NamedTuple):
    """Seconds per step: wall-clock time on the slowest rank, and CPU time summed over ranks."""

    wall: float
    cpu: float


class Bench:
    """Two copies of a model with an optimizer each, one for each loop."""

    def __init__(self, config: Config, args: argparse.Namespace, world: World, directory: Path) -> None:
        self.args, self.world, self.directory = args, world, directory
        torch.manual_seed(0)
        own = build_model(config.model, 10, 3).to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        bare, values = copy.deepcopy(own), vars(config.optimizer)
        ids = [world.device.index] if world.device.type == "cuda" else None
        self.own = world.wrap(own)
        self.bare = DistributedDataParallel(bare, device_ids=ids) if world.size > 1 else bare
        self.own_optimizer = build_optimizer(params=own.parameters(), **values)
        self.bare_optimizer = build_optimizer(params=bare.parameters(), **values)
        images = args.batch // world.size
        self.images = torch.randint(0, 256, (images, 3, args.size, args.size), dtype=torch.uint8)
        self.labels = torch.randint(0, 10, (images,))
        self.to_input = ToInput(IMAGENET_MEAN, IMAGENET_STD).to(world.device, torch.float32)
        self.inputs = self.to_input(self.images.to(world.device)).contiguous(memory_format=torch.channels_last)

    def bare_loop(self) -> None:
        labels = self.labels.to(self.world.device)
        self.bare.train()
        for _ in range(self.args.steps):
            loss = F.cross_entropy(self.bare(self.inputs), labels, label_smoothing=0.1)
            loss.backward()
            self.bare_optimizer.step()
            self.bare_optimizer.zero_grad(set_to_none=True)

    def own_loop(self) -> None:
        steps, world = self.args.steps, self.world
        lines: list[Tracker] = [JsonLines(self.directory / "metrics.jsonl", 0), ConsoleTracker(steps, 0)]
        result = {"val/loss": 0.0, "val/loss_smoothed": 0.0, "val/acc1": 0.0, "val/acc5": 0.0}
        precision, tracker = Precision("fp32", world.device), FanOut(lines if world.main else [])
        setup = TrainSetup(
            world=world,
            model=self.own,
            batches=forever(ImageBatch(self.images, None, self.labels, [])),
            to_input=self.to_input,
            schedule=constant,
            precision=precision,
            plan=Plan(Course(steps * self.args.batch, self.args.batch, 1), 1, 1, self.args.log_every, None, None),
            seed=0,
            loss=partial(F.cross_entropy, label_smoothing=0.1),
            memory_format=torch.channels_last,
        )
        network, optimizer, scaler = distributed.unwrapped(self.own), self.own_optimizer, precision.scaler()
        state = TrainState(network, optimizer, scaler, Meter(world), NonFinite(world))
        train(setup, state, Callbacks(tracker, lambda interrupted: result, lambda best: None, StopFlag()))
        tracker.close(0, {})

    def seconds(self, loop: Callable[[], None]) -> Cost:
        """Run a block of a loop and return its cost per step."""
        self.meet()
        begin, cpu = time.perf_counter(), time.process_time()
        loop()
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        own = torch.tensor(time.process_time() - cpu, dtype=torch.float64, device=self.world.device)
        self.meet()
        wall = time.perf_counter() - begin
        return Cost(wall / self.args.steps, self.world.reduce(own).item() / self.args.steps)

    def meet(self) -> None:
        if self.world.size > 1:
            dist.barrier()

    def pairs(self) -> list[tuple[Cost, Cost]]:
        """Return (bare, own) for each pair of blocks. The two loops take turns in going first."""
        self.seconds(self.bare_loop), self.seconds(self.own_loop)  # warm-up
        found = []
        for number in range(self.args.pairs):
            loops = [self.bare_loop, self.own_loop]
            first, second = (self.seconds(loop) for loop in (loops if number % 2 else reversed(loops)))
            found.append((first, second) if number % 2 else (second, first))
        return found

    def profile(self) -> None:
        """Print the functions of rank 0 by cumulative time, for each loop."""
        for loop in (self.bare_loop, self.own_loop):
            with cProfile.Profile() as profile:
                loop()
            if self.world.main:
                pstats.Stats(profile).sort_stats("cumulative").print_stats(self.args.profile)


def spread(values: list[float]) -> str:
    """Format the median, quartiles, extremes and number of values."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    ends = f"quartiles {low:.4f} and {high:.4f}, from {min(values):.4f} to {max(values):.4f}"
    return f"median {middle:.4f}, {ends}, n = {len(values)}"


def report(args: argparse.Namespace, world: World, pairs: list[tuple[Cost, Cost]]) -> None:
    ratios = [own.wall / bare.wall for bare, own in pairs]
    what = f"{args.model}, {args.size} pixels, global batch {args.batch}, {args.optimizer}"
    print(f"{what}, {args.steps} steps per block, a log line every {args.log_every} steps")
    print(f"torch {torch.__version__}, {world.size} rank(s) on {world.device}, {torch.get_num_threads()} threads each")
    print("minimal loop, seconds per step:", spread([bare.wall for bare, _ in pairs]))
    print("this loop, seconds per step:   ", spread([own.wall for _, own in pairs]))
    print("ratio within pairs:            ", spread(ratios))
    print("ratio of CPU times:            ", spread([own.cpu / bare.cpu for bare, own in pairs]))
    target = ONE_RANK if world.size == 1 else SEVERAL_RANKS
    met = "met" if statistics.median(ratios) <= target else "missed"
    print(f"target: a median of at most {target}: {met}")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--ranks", type=as_whole(), default=1, help="number of ranks on this machine (default: %(default)s)")
    add("--model", default="resnet10t", help="a model of configs/model or of timm (default: %(default)s)")
    add("--optimizer", default="adamw", help="a choice of optimizer= (default: %(default)s)")
    add("--size", type=as_whole(), default=64, help="height and width of images in pixels (default: %(default)s)")
    add("--batch", type=as_whole(), default=64, help="global batch size (default: %(default)s)")
    add("--steps", type=as_whole(), default=10, help="steps per block (default: %(default)s)")
    add("--log-every", type=as_whole(), default=5, help="steps per line of metrics.jsonl (default: %(default)s)")
    add("--pairs", type=as_whole(), default=15, help="number of pairs of blocks (default: %(default)s)")
    add("--device", default="auto", help="a choice of trainer.device (default: %(default)s)")
    text = "also print a profile of each loop, with this many lines (25)"
    add("--profile", type=as_whole(), nargs="?", const=25, metavar="LINES", help=text)
    args = parser.parse_args()
    if args.batch < args.ranks:
        raise UserError(f"--batch={args.batch} is too small: each of the {args.ranks} ranks needs at least one image.")
    size = [f"data.{key}={args.size}" for key in ("resize", "crop")]
    choices = [f"model={args.model}", f"optimizer={args.optimizer}", f"trainer.device={args.device}"]
    config = compose_config(["experiment=demo", *choices, *size, f"data.batch_size={args.batch}"])
    require_it_runs(config, args.ranks)
    if args.ranks > 1 and "WORLD_SIZE" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.ranks}"]
        threads = {"OMP_NUM_THREADS": str(max(1, granted_cores() // args.ranks))}
        return subprocess.call([*torchrun, *sys.argv], env=threads | os.environ)
    with distributed.join(args.device) as world, tempfile.TemporaryDirectory() as folder:
        bench = Bench(config, args, world, Path(folder))
        pairs = bench.pairs()
        if world.main:
            report(args, world, pairs)
        if args.profile:
            bench.profile()
    return 0


if __name__ == "__main__":
    with ending_well("measures again"):
        sys.exit(main())
