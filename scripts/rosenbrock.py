#!/usr/bin/env python
"""Run every optimizer of the project on the Rosenbrock function, and plot their paths in its curved valley."""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import itertools
import math
import multiprocessing
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _installed

from ranger21.config import VARIANTS
from ranger21.config.arguments import Parser, as_folder, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.landscape import rosenbrock as landscapes
from ranger21.landscape.rosenbrock import GOAL, LOST, MINIMUM, Point, Walk, gradient, value
from ranger21.system.errors import UserError
from ranger21.system.terminal import wide_console
from ranger21.tracking.colours import look_of

HELP = """\
Run every optimizer of the project on the Rosenbrock function, and plot their paths in
its narrow, curved valley.

f(x, y) = (1 - x)^2 + 100 (y - x^2)^2 has its minimum at (1, 1). The runs are in float64,
with the exact gradient (no noise), a constant learning rate, and no weight decay, which
would move the minimum.

All optimizers have the same start, grid of learning rates and number of steps. The rate
chosen is the one that brings f below 1e-4 in the fewest steps or, if none does, the one
with the lowest final f. All rates are tried for --search-steps; if none reaches 1e-4, the
half with the lowest f continues. A trial ends when it reaches 1e-4, diverges (f above
1e12), or takes more steps than the best trial so far, which does not affect the choice.
Everything else is as in configs/optimizer. With one start and no randomness, the result
shows how an optimizer moves, not which one trains networks better. If an optimizer's path
is erratic, reaching the minimum is luck. Four more runs test this, with learning rates
changed by 1e-12 or 2e-12; if they end differently, the table calls the path chaotic.

(x, y) is one parameter tensor of shape (2,), so operations on units or tensors act on
both coordinates together: clipping compares the norm of the gradient with that of (x, y),
and a trust ratio is a single number; both cause short steps near the origin. Gradient
centralization needs at least two axes and has no effect here. Without weight decay,
timm's LARS, LARC and LAMB have no trust ratio by default (and would be momentum,
momentum and clipped Adam), so here they have always_adapt=true. A second tensor without a gradient comes last,
because the norm loss of ranger21_official, which needs no weight decay, is applied to the
last tensor only."""

EXAMPLES = """\
examples:
  all optimizers, written to docs/rosenbrock (takes minutes)
    python scripts/rosenbrock.py

  three optimizers, from the other side of the valley
    python scripts/rosenbrock.py --optimizers adamw,ranger21,gd --start 1.5 -0.5 --out outputs/rosenbrock

  shorter runs, with every learning rate to the end
    python scripts/rosenbrock.py --steps 2000 --search-steps 2000 --grid 1e-5 1 31 --out outputs/rosenbrock

files in --out:
  trajectories.png, .svg   the paths over contours of log f, one panel each
  table.md, table.json     learning rate, steps to 1e-4, final f and distance to the minimum"""


def built_from(name: str) -> dict[str, Any]:
    """Return the settings of an optimizer, without weight decay."""
    adapt = ["optimizer.always_adapt=true"] if name in ("lars", "larc", "lamb") else []
    return vars(compose_config([f"optimizer={name}", "optimizer.weight_decay=0", *adapt]).optimizer)


def visited(arguments: dict[str, Any], rate: float, start: Point) -> Iterator[Point]:
    """Yield every point that an optimizer visits, beginning with the start, until it diverges."""
    import numpy as np
    import torch

    from ranger21.run.optimizers import build_optimizer

    position, slope = np.array(start), np.zeros(2)
    param, idle = torch.nn.Parameter(torch.from_numpy(position)), torch.nn.Parameter(torch.zeros(1))
    param.grad = torch.from_numpy(slope)  # both share their memory with the arrays
    optimizer = build_optimizer(params=[param, idle], **(arguments | {"lr": rate}))
    x, y = start
    while value(x, y) < LOST:
        yield x, y
        slope[:] = gradient(x, y)
        optimizer.step()
        x, y = position.tolist()


def study(arguments: dict[str, Any], options: argparse.Namespace) -> tuple[Walk, list[Point]]:
    """Choose the learning rate, and return the assessed run with that rate and its path."""
    tried = [visited(arguments, rate, options.start) for rate in options.rates]
    index = landscapes.best_rate(tried, options.search_steps, options.steps)
    rate, at_edge = options.rates[index], index in (0, len(options.rates) - 1)
    path = list(itertools.islice(visited(arguments, rate, options.start), options.steps + 1))
    nudged = [visited(arguments, rate * nudge, options.start) for nudge in landscapes.NUDGES]
    return landscapes.judge(arguments["name"], rate, at_edge, path, nudged, options.steps), path


def study_all(names: Sequence[str], options: argparse.Namespace) -> list[tuple[Walk, list[Point]]]:
    """Study every optimizer in parallel processes, print progress, and return the results, best first."""
    found, settings = [], [built_from(name) for name in names]
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes: more threads do not help with two elements
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(names))) as pool:
        for walk, path in pool.imap_unordered(functools.partial(study, options=options), settings):
            found.append((walk, path))
            print(f"{len(found)}/{len(names)} {walk.optimizer}: {walk.reached} steps", flush=True)
    return sorted(found, key=lambda pair: pair[0].rank)


def draw(found: Sequence[tuple[Walk, list[Point]]], caption: str, out: Path) -> list[Path]:
    """Draw one panel per path into trajectories.png and .svg, and return these files."""
    import matplotlib
    import numpy as np
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from ranger21.landscape.figures import INK
    from ranger21.report.figures.drawing import save

    (x, y), columns = found[0][1][0], min(5, len(found))
    rows = -(-len(found) // columns)
    size = max(3.1 * columns + 0.6, 8), 2.95 * rows + 2
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.09))  # saved by Agg, without a display
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    xs = np.linspace(min(-1.8, x - 0.3), max(1.8, x + 0.3), 400)
    ys = np.linspace(min(-0.8, y - 0.3), max(2.2, y + 0.3), 400)
    heights = np.log10(value(*np.meshgrid(xs, ys)) + 1e-12)
    greys = ListedColormap(matplotlib.colormaps["Greys"](np.linspace(0, 0.5, 256)))  # the paths have the colours
    for axes, pair in itertools.zip_longest(panels, found):
        if pair is None:
            axes.set_axis_off()
            continue
        filled = axes.contourf(xs, ys, heights, np.linspace(-2, 3, 11), cmap=greys, extend="both", zorder=-1)
        axes.set_rasterization_zorder(0)
        draw_path(axes, pair[0], np.array(pair[1]))
        axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), aspect="equal", xticks=(-1, 0, 1), yticks=(0, 1, 2))
    figure.colorbar(filled, ax=list(panels), label="log10 f", shrink=0.5, aspect=40, pad=0.01)
    figure.suptitle("Down Rosenbrock's valley", x=0.012, ha="left", fontsize=22, fontweight="bold")
    looks: dict[str, Any] = {"loc": "outside lower left", "ncols": min(5, columns + 1), "alignment": "left"}
    looks |= {"title": textwrap.fill(caption, 20 + 36 * columns), "frameon": False}
    handles = [copy.copy(line) for line in panels[0].get_lines()]
    for line in handles[:2]:
        line.set_color(INK)  # the colours of the paths are those of the optimizers
    figure.legend(handles=handles, **looks)
    return save(figure, out / "trajectories")


def draw_path(axes: Any, walk: Walk, path: Any) -> None:
    """Draw a path, faint after it has reached the target, with its marks."""
    import numpy as np
    from matplotlib.patheffects import Normal, Stroke

    from ranger21.landscape.figures import INK

    colour = look_of(walk.optimizer).light
    end = len(path) if walk.steps_to_target is None else walk.steps_to_target + 1
    outline = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    axes.plot(*path[:end].T, color=colour, linewidth=2, path_effects=outline, label=f"until f < {GOAL}")
    axes.plot(*path[end - 1 :].T, color=colour, linewidth=0.8, alpha=0.6, zorder=1.5, label="after that")
    marks: list[tuple[str, Any, str, float, str, str]] = [
        ("start", path[:1], "o", 7, INK, "white"),
        ("after 10, 100, 1000 steps", path[[k for k in (10, 100, 1000) if k < len(path)]], "o", 4.5, "white", INK),
        ("minimum", [MINIMUM], "*", 14, "white", INK),
    ]
    for label, points, marker, size, face, edge in marks:
        looks: dict[str, Any] = {"markersize": size, "markerfacecolor": face, "markeredgecolor": edge}
        axes.plot(*np.array(points).T, marker, zorder=5, label=label, **looks)
    axes.set_title(walk.optimizer, loc="left", fontweight="bold", fontsize=13, pad=20)
    text = f"rate {walk.rate:.3g}, {walk.reached} steps"
    axes.annotate(text, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=10)


def prepare(options: argparse.Namespace) -> list[str]:
    """Check the options, complete them for `study`, and return the names of the optimizers.

    Raises:
        UserError: If an option is invalid.
    """
    known = list(VARIANTS["optimizer"])
    names = list(dict.fromkeys(options.optimizers.split(","))) if options.optimizers is not None else known
    if unknown := set(names).difference(known):
        raise UserError(f"There is no optimizer {min(unknown)!r}. Choose from {', '.join(known)}.")
    lowest, highest, count = options.grid
    if not (0 < lowest < highest < math.inf and 2 <= count <= 1000 and count == int(count)):
        raise UserError("--grid needs LOW above 0, HIGH above LOW, and N, the number of rates, from 2 to 1000.")
    if min(options.steps, options.search_steps, options.jobs) < 1:
        raise UserError("--steps, --search-steps and --jobs must be at least 1.")
    if not value(*options.start) < LOST:
        raise UserError(f"--start is too far away: f must be below {LOST:g} there.")
    spaced = (lowest * (highest / lowest) ** (index / (count - 1)) for index in range(int(count)))
    options.rates = [float(f"{rate:.3g}") for rate in spaced]  # rounded as in the table, so that a rerun can use them
    options.search_steps, options.start = min(options.search_steps, options.steps), tuple(options.start)
    return names


def run(options: argparse.Namespace) -> None:
    """Run all optimizers, print the table, and write the files."""
    names, out, begin = prepare(options), options.out, time.perf_counter()
    said = landscapes.protocol(options.start, options.rates, options.search_steps, options.steps)
    print(textwrap.fill(said, 100))
    out.mkdir(parents=True, exist_ok=True)
    found = study_all(names, options)
    head = {
        "date": datetime.date.today().isoformat(),
        "torch": version("torch"),
        "protocol": said,
        "time": f"{time.perf_counter() - begin:.0f} s, {options.jobs} processes",
        "command": shlex.join(["python", "scripts/rosenbrock.py", *sys.argv[1:]]),
    }
    walks = [walk for walk, _ in found]
    written = landscapes.write_tables(walks, head, out) + draw(found, said, out)
    wide_console(120).print(landscapes.terminal(walks))
    print(*(f"wrote {path}" for path in written), sep="\n")


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--optimizers", metavar="A,B,...", help="names of optimizers (default: all of the project)")
    text = "starting point (default: -1.2 1)"
    add("--start", nargs=2, type=float, default=[-1.2, 1.0], metavar=("X", "Y"), help=text)
    add("--steps", type=as_whole(), default=5000, help="steps of a run (default: %(default)s)")
    text = "steps for which all learning rates are tried (default: %(default)s)"
    add("--search-steps", type=as_whole(), default=1000, help=text)
    text = "N learning rates from LOW to HIGH, spaced evenly on a log scale (default: 1e-6 10 41)"
    add("--grid", nargs=3, type=float, default=[1e-6, 10, 41], metavar=("LOW", "HIGH", "N"), help=text)
    text = "number of processes (default: one per core, %(default)s)"
    add("--jobs", type=as_whole(), default=os.cpu_count() or 1, help=text)
    text = "folder for the results (default: %(default)s)"
    add("--out", type=as_folder, default=Path("docs/rosenbrock"), metavar="DIR", help=text)
    options = parser.parse_args()
    with ending_well("starts over"):
        run(options)


if __name__ == "__main__":
    main()
