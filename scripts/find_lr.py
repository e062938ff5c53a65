#!/usr/bin/env python
"""Suggest a learning rate with a range test (Smith 2017) on any configuration, and plot it.

The rate grows from --low to --high by a constant factor per step. Learning begins where the loss starts to fall; where
the loss is lowest, the rate is already too high for longer training. The suggestion is the rate at which the smoothed
loss falls fastest, but at most a tenth of the rate with the lowest loss. Training starts from new weights (or
model.init_from) and writes no run directory.

  python scripts/find_lr.py experiment=demo
  python scripts/find_lr.py experiment=fashion_mnist optimizer=adamw --steps 200
  python scripts/find_lr.py model=nf_resnet50 optimizer=lamb data.batch_size=1024 --high 100 --out lr.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

import _installed

from ranger21.config import Config
from ranger21.config.arguments import PICTURES, Parser, as_file, as_positive, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError
from ranger21.system.files import replacing, write_atomically


def find(config: Config, low: float, high: float, steps: int) -> Any:
    """Run the range test of a configuration. Imports torch."""
    from ranger21.data.build import build_data
    from ranger21.engine.lr_finder import range_test
    from ranger21.run.build import build_loader, build_parts, build_setup, build_state
    from ranger21.run.memory import enough_to_train
    from ranger21.run.numerics import computing
    from ranger21.run.trial import require_it_runs
    from ranger21.system import distributed
    from ranger21.tracking.console import ConsoleTracker

    with computing(config.trainer), distributed.join(config.trainer.device) as world:
        if world.size > 1:
            raise UserError("find_lr.py runs in one process. Start it without torchrun.")
        config.data.prepare()
        require_it_runs(config, world.size)
        with enough_to_train(config, world.size, world.device):
            data = build_data(config.data, config.seed_of_data)
            parts = build_parts(config, world, data)
            state, _ = build_state(parts)
            setup = build_setup(parts, state, iter(build_loader(parts, first_step=1)))
            tracker = ConsoleTracker(steps, 0)
            try:
                return range_test(setup, state, tracker, low, high, steps)
            finally:
                setup.batches.close()
                tracker.close(0, {})


def draw(found: Any, title: str, path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    from ranger21.report.figures.drawing import GREY, STYLE, log_ticks
    from ranger21.tracking.colours import GREEN, PINK

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(found.rates, found.losses, color=GREEN[0], linewidth=0.8, alpha=0.45, label="loss per step")
        axes.plot(found.rates, found.smoothed, color=GREEN[0], linewidth=2, label="smoothed")
        if found.suggestion is not None:
            axes.axvline(found.suggestion, color=PINK[0], linewidth=1.5, label=f"suggested: {found.suggestion:.2g}")
            lowest = found.rates[found.lowest]
            axes.axvline(lowest, color=GREY, linewidth=1, linestyle="--", label=f"lowest loss: {lowest:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
        log_ticks(axes.xaxis)
        bottom, top = min(found.losses), max(found.smoothed)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.1 * (top - bottom))
        axes.grid(True)
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            figure.savefig(new, dpi=150)


def why(found: Any) -> str:
    """Return an explanation of the suggestion."""
    if found.suggestion is None:
        return "The loss never fell. Try more --steps or a lower --low."
    steepest, lowest = found.rates[found.steepest], found.rates[found.lowest]
    text = f"The smoothed loss falls fastest at {steepest:.2g} and is lowest at {lowest:.2g}; "
    if steepest <= lowest / 10:
        return text + "the first is suggested."
    return text + "a tenth of the second is suggested, because the first is too close to it."


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    parser.add_argument("--low", type=as_positive, default=1e-6, help="first learning rate (default: %(default)s)")
    parser.add_argument("--high", type=as_positive, default=10.0, help="last learning rate (default: %(default)s)")
    parser.add_argument(
        "--steps", type=as_whole(1, 100_000_001), default=150, help="number of steps (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=as_file(*PICTURES),
        default=Path("outputs/find_lr.png"),
        help="plot to write (default: %(default)s)",
    )
    args = parser.parse_intermixed_args()
    if not 0 < args.low < args.high:
        raise UserError(f"--low={args.low:g} must be above 0 and below --high={args.high:g}.")
    if args.steps < 10:
        raise UserError(f"--steps={args.steps} is too few for a curve: use at least 10.")
    config = compose_config([*args.overrides, f"trainer.steps={args.steps}", "logger=none"])
    found = find(config, args.low, args.high, args.steps)
    if not found.rates:
        raise UserError(f"The loss was not finite at the first learning rate. Choose --low below {args.low:g}.")
    draw(found, f"{config.model.label}, {config.optimizer.name}, batch {config.data.batch_size}", args.out)
    values = {"suggestion": found.suggestion, "rates": found.rates, "losses": found.losses}
    write_atomically(args.out.with_suffix(".json"), json.dumps(values))
    suggestion = "none" if found.suggestion is None else f"optimizer.lr={found.suggestion:.2g}"
    print(f"suggested: {suggestion}\n{why(found)}\nwrote {args.out} and {args.out.with_suffix('.json')}")


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
