"""What the training loop costs beside the barest possible one, in one process or on several ranks.

Both take the same steps with the same model, optimizer and images, which are in memory. The bare loop is what torch's
tutorial has: forward, loss, backward, step, zero_grad, on inputs that are normalised already; on several ranks (gloo on
the CPU, NCCL on GPUs) over DistributedDataParallel. The two alternate, block by block, so that a machine whose speed
drifts slows both; the figure is the median over the pairs of blocks, of the time that the slowest rank takes. The
processors' time, of all ranks together, is told beside it: other jobs of the machine disturb it less, but waiting for
each other is not in it. How it scales is another question: the ranks share one machine here.

  python scripts/bench_loop.py                                          one process, the demo's model and size
  python scripts/bench_loop.py --ranks 2                                two ranks
  python scripts/bench_loop.py --model resnet50 --size 224 --batch 8 --device cpu
  python scripts/bench_loop.py --profile                                also: where the loop's own time goes
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
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.data.pictures import Batch
from ranger21.engine.course import Course
from ranger21.engine.loop import Job, Plan, Progress, train
from ranger21.engine.meters import Meter, NonFinite
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

ONE_RANK, SEVERAL_RANKS = 1.03, 1.05  # the targets


def forever(batch: Batch) -> Generator[Batch, None, None]:
    while True:
        yield batch


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


class Bench:
    """A model and its copy, each with its optimizer, and a loop over each."""

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
        job = Job(
            model=self.own,
            optimizer=self.own_optimizer,
            schedule=constant,
            scaler=Precision("fp32", world.device).scaler(),
            batches=forever(Batch(self.images, None, self.labels, [])),
            substitutes=None,
            to_input=self.to_input,
            evaluate=lambda interrupted: result,
            save=lambda progress, best: None,
            tracker=FanOut(lines if world.main else []),
            world=world,
            precision=Precision("fp32", world.device),
            plan=Plan(Course(steps * self.args.batch, self.args.batch, 1), 1, 1, self.args.log_every, None, None),
            meter=Meter(world),
            nonfinite=NonFinite(world),
            stop=StopFlag(),
            undo=None,
            seed=0,
            label_smoothing=0.1,
            memory_format=torch.channels_last,
        )
        train(job, Progress())
        job.tracker.close(0, {})

    def seconds(self, loop: Callable[[], None]) -> Cost:
        """Of a step: on the slowest rank, and of the processors by all of them."""
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
        """(bare, own) for each pair of blocks; each goes first as often as the other."""
        self.seconds(self.bare_loop), self.seconds(self.own_loop)  # to warm up
        found = []
        for number in range(self.args.pairs):
            loops = [self.bare_loop, self.own_loop]
            first, second = (self.seconds(loop) for loop in (loops if number % 2 else reversed(loops)))
            found.append((first, second) if number % 2 else (second, first))
        return found

    def profile(self) -> None:
        """Rank 0's functions by the time in themselves and below, for each of the loops."""
        for loop in (self.bare_loop, self.own_loop):
            with cProfile.Profile() as profile:
                loop()
            if self.world.main:
                pstats.Stats(profile).sort_stats("cumulative").print_stats(self.args.profile)


def spread(values: list[float]) -> str:
    """Median, quarters, ends and number."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    ends = f"quarters {low:.4f} and {high:.4f}, from {min(values):.4f} to {max(values):.4f}"
    return f"median {middle:.4f}, {ends}, n = {len(values)}"


def report(args: argparse.Namespace, world: World, pairs: list[tuple[Cost, Cost]]) -> None:
    ratios = [own.wall / bare.wall for bare, own in pairs]
    what = f"{args.model}, {args.size} pixels, batch {args.batch} of all ranks, {args.optimizer}"
    print(f"{what}, {args.steps} steps a block, a log line every {args.log_every}")
    print(f"torch {torch.__version__}, {world.size} rank(s) on {world.device}, {torch.get_num_threads()} threads each")
    print("bare loop, seconds a step:    ", spread([bare.wall for bare, _ in pairs]))
    print("this loop, seconds a step:    ", spread([own.wall for _, own in pairs]))
    print("ratio, pair by pair:          ", spread(ratios))
    print("ratio of the processors' time:", spread([own.cpu / bare.cpu for bare, own in pairs]))
    target = ONE_RANK if world.size == 1 else SEVERAL_RANKS
    met = "met" if statistics.median(ratios) <= target else "missed"
    print(f"target: a median of at most {target}: {met}")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=as_whole(), default=1, help="on this machine (default: %(default)s)")
    parser.add_argument("--model", default="resnet10t", help="a model of configs/model or of timm")
    parser.add_argument("--optimizer", default="adamw", help="a choice of optimizer=")
    parser.add_argument("--size", type=as_whole(), default=64, help="pixels a side")
    parser.add_argument("--batch", type=as_whole(), default=64, help="of all ranks together")
    parser.add_argument("--steps", type=as_whole(), default=10, help="in a block")
    parser.add_argument("--log-every", type=as_whole(), default=5, help="steps between two lines of metrics.jsonl")
    parser.add_argument("--pairs", type=as_whole(), default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--profile", type=as_whole(), nargs="?", const=25, metavar="LINES", help="show where the time goes"
    )
    args = parser.parse_args()
    if args.batch < args.ranks:
        raise UserError(f"--batch={args.batch} is less than an image for each of {args.ranks} ranks.")
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
    with ending_well("measures anew"):
        sys.exit(main())
