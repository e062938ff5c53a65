"""What the training loop costs: the project's against the barest possible one, in one run.

Both take the same steps with the same model, optimizer and images, which are in memory. The bare loop has them
normalised already and does nothing but forward, loss, backward, step, zero_grad. The two alternate, block by block, so
that a machine whose speed drifts slows both; the figure is the median over the pairs of blocks.

  python scripts/bench_loop.py                       the demo's model and size
  python scripts/bench_loop.py --model resnet50 --size 64 --pairs 5
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F

from ranger21 import distributed
from ranger21.compose import compose_config, fail
from ranger21.course import Course
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.data.pictures import Batch
from ranger21.distributed import World
from ranger21.errors import UserError
from ranger21.loop import Job, Plan, Progress, train
from ranger21.meters import Meter, NonFinite
from ranger21.models import build_model
from ranger21.optim.schedules import constant
from ranger21.optimizers import build_optimizer
from ranger21.precision import Precision
from ranger21.stopping import StopFlag
from ranger21.tracking import FanOut
from ranger21.tracking.console import ConsoleTracker
from ranger21.tracking.jsonl import JsonLines


def forever(batch: Batch) -> Generator[Batch, None, None]:
    while True:
        yield batch


class Bench:
    """A model with its optimizer, and the two loops over it."""

    def __init__(self, args: argparse.Namespace, world: World) -> None:
        self.args, self.world = args, world
        config = compose_config(["experiment=demo", f"model={args.model}", f"optimizer={args.optimizer}"])
        self.model = build_model(config.model, 10, 3).to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(params=self.model.parameters(), **vars(config.optimizer))
        self.images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8)
        self.labels = torch.randint(0, 10, (args.batch,))
        self.to_input = ToInput(IMAGENET_MEAN, IMAGENET_STD).to(world.device, torch.float32)
        self.inputs = self.to_input(self.images.to(world.device)).contiguous(memory_format=torch.channels_last)

    def bare(self) -> None:
        labels = self.labels.to(self.world.device)
        self.model.train()
        for _ in range(self.args.steps):
            loss = F.cross_entropy(self.model(self.inputs), labels, label_smoothing=0.1)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def project(self, directory: Path) -> None:
        steps, world = self.args.steps, self.world
        lines = JsonLines(directory / "metrics.jsonl", 0)
        result = {"val/loss": 0.0, "val/loss_smoothed": 0.0, "val/acc1": 0.0, "val/acc5": 0.0}
        job = Job(
            model=self.model,
            optimizer=self.optimizer,
            schedule=constant,
            scaler=Precision("fp32", world.device).scaler(),
            batches=forever(Batch(self.images, None, self.labels, [])),
            substitutes=None,
            to_input=self.to_input,
            evaluate=lambda interrupted: result,
            save=lambda progress, best: None,
            tracker=FanOut([lines, ConsoleTracker(steps, 0)]),
            world=world,
            precision=Precision("fp32", world.device),
            plan=Plan(Course(steps * self.args.batch, self.args.batch, 1), 1, 1, 5, None, None),
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

    def seconds(self, loop: Any, *args: Any) -> float:
        """Per step."""
        begin = time.perf_counter()
        loop(*args)
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / self.args.steps


def spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.4f}, from {min(values):.4f} to {max(values):.4f}, n = {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet10t", help="a model of configs/model or of timm")
    parser.add_argument("--optimizer", default="adamw", help="a choice of optimizer=")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="in a block; a log line is written every 5")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    try:
        with distributed.join(args.device) as world, tempfile.TemporaryDirectory() as folder:
            bench = Bench(args, world)
            bench.seconds(bench.bare), bench.seconds(bench.project, Path(folder))  # to warm up
            pairs = []
            for number in range(args.pairs):
                if number % 2:  # each goes first as often as the other
                    bare = bench.seconds(bench.bare)
                project = bench.seconds(bench.project, Path(folder))
                if not number % 2:
                    bare = bench.seconds(bench.bare)
                pairs.append((bare, project))
    except UserError as error:
        fail(error)
    print(f"{args.model}, {args.size} pixels, batch {args.batch}, {args.optimizer}, {args.steps} steps a block")
    print(f"torch {torch.__version__}, {world.device}, {torch.get_num_threads()} threads")
    print("bare loop, seconds a step:  ", spread([bare for bare, _ in pairs]))
    print("this loop, seconds a step:  ", spread([project for _, project in pairs]))
    print("ratio, pair by pair:        ", spread([project / bare for bare, project in pairs]))


if __name__ == "__main__":
    main()
