#!/usr/bin/env python
"""Plot learning-rate schedules: the learning rate of every step of a run.

Each argument is one curve: overrides as for train.py, separated by spaces, in quotes. The number of steps follows from
the configuration (batch size, epochs) and the number of training images, --images.

  python scripts/show_schedule.py "optimizer=ranger21"                      the paper's Figure 1
  python scripts/show_schedule.py schedule=explore_exploit schedule=official schedule=cosine
  python scripts/show_schedule.py "schedule=one_cycle schedule.anneal=linear" "optimizer=adamw schedule=cosine"
"""

import argparse
from pathlib import Path

import _installed

from ranger21.config import Config
from ranger21.config.arguments import PICTURES, Parser, as_file, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError
from ranger21.system.files import replacing


def curve(config: Config, images: int) -> tuple[list[float], list[float]]:
    """Return epochs and learning rates at up to 2,000 steps, including the first and the last."""
    from ranger21.run.optimizers import build_schedule, scaled_lr
    from ranger21.run.plan import make_plan

    plan = make_plan(config, images)
    scale = scaled_lr(1.0, config.lr_scaling, config.data.batch_size)
    schedule, total = build_schedule(config.schedule, plan.course, scale), plan.total_steps
    lr = config.optimizer.lr * scale
    steps = sorted({1 + round(i * (total - 1) / 1999) for i in range(2000)})
    return [plan.course.epoch(step) for step in steps], [lr * schedule(step, total) for step in steps]


def images_of(config: Config, given: int | None) -> int:
    """Return the number of training images. Raises a UserError if it is not known, or smaller than a batch."""
    images = given or config.data.epoch_images()
    if images is None:
        raise UserError(f"How many images data={config.data.name} has is not known before it is read: give --images=N.")
    if config.data.batch_size > images:
        raise UserError(f"--images={images:g} must be at least data.batch_size={config.data.batch_size}.")
    return int(images)


def draw(curves: dict[str, tuple[list[float], list[float]]], optimizers: dict[str, str], log: bool, path: Path) -> None:
    """Draw each curve in the colour of its optimizer."""
    import matplotlib
    from matplotlib.figure import Figure

    from ranger21.report.figures.drawing import STYLE, line_style, log_ticks
    from ranger21.report.groups.looks import looks_of

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6 + 0.2 * len(curves)), layout="constrained")
        axes = figure.subplots()
        drawn = looks_of(optimizers)
        for label, (epochs, rates) in curves.items():
            axes.plot(epochs, rates, label=label, **line_style(drawn[label]))
        axes.set(xlabel="epoch", ylabel="learning rate", yscale="log" if log else "linear")
        if log:
            log_ticks(axes.yaxis)
        axes.set_xlim(left=0)
        axes.grid(True)
        figure.legend(loc="outside upper center", frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            figure.savefig(new, dpi=150)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "overrides, one argument per curve (default: optimizer=ranger21)"
    parser.add_argument("runs", nargs="*", default=["optimizer=ranger21"], help=text)
    parser.add_argument(
        "--images",
        type=as_whole(),
        help="number of training images (default: as many as the dataset has)",
    )
    parser.add_argument("--log", action="store_true", help="use a logarithmic axis for the learning rate")
    parser.add_argument(
        "--out",
        type=as_file(*PICTURES),
        default=Path("outputs/schedule.png"),
        help="plot to write (default: %(default)s)",
    )
    args = parser.parse_args()
    if "" in map(str.strip, args.runs):
        raise UserError("An empty argument is not a curve. Give overrides, such as optimizer=adamw.")
    configs = {run: compose_config(run.split()) for run in args.runs}
    curves = {run: curve(config, images_of(config, args.images)) for run, config in configs.items()}
    draw(curves, {run: config.optimizer.name for run, config in configs.items()}, args.log, args.out)
    for run, (epochs, rates) in curves.items():
        print(f"{run}: first {rates[0]:.3g}, highest {max(rates):.3g}, last {rates[-1]:.3g}, {epochs[-1]:g} epochs")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    with ending_well("draws again"):
        main()
