#!/usr/bin/env python
"""Every optimizer of the project on the Rosenbrock function: how each moves in a narrow, bent valley."""

from __future__ import annotations

import argparse
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
from rich.console import Console

from ranger21.config import VARIANTS
from ranger21.config.arguments import Parser, as_folder, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.landscape import rosenbrock as landscapes
from ranger21.landscape.rosenbrock import GOAL, LOST, MINIMUM, Point, Walk, gradient, value
from ranger21.system.errors import UserError

HELP = """\
Every optimizer of the project on the Rosenbrock function: how each moves in a narrow,
bent valley.

f(x, y) = (1 - x)^2 + 100 (y - x^2)^2, lowest at (1, 1), in float64, with the exact
gradient (no noise), a constant rate, and no weight decay, which would move the minimum.

All have the same start, grid of rates and number of steps. The rate taken is the one
that brings f below 1e-4 soonest or, if none does, the one with the lowest f at the end.
All rates are tried for --search-steps; if none gets there, the half with the lowest f
goes on. A try ends when it gets there, diverges (f above 1e12), or takes more steps than
the best so far, which changes no choice. All else is as in configs/optimizer. One start,
no randomness: it shows how an optimizer moves, not which is better at training networks.
Where an optimizer bounces about, getting there is luck: four more runs with the rate off
by 1e-12 or 2e-12 tell, and the table calls it chaotic where they do not end alike.

(x, y) is one parameter tensor of shape (2,), so what acts on units or tensors acts on
both coordinates together: clipping holds the length of the gradient against that of
(x, y), a trust ratio is one number, and both make for short steps near the origin.
Gradient centralization needs two axes and does nothing. timm's LARS, LARC and LAMB have
no trust ratio where there is no decay, and would be momentum, twice, and Adam, clipped:
here they have always_adapt=true. A second tensor without a gradient comes last, since the
norm loss of ranger21_official, on at any weight decay, reaches the last tensor only."""

EXAMPLES = """\
examples:
  everything, into docs/rosenbrock (minutes)
    python scripts/rosenbrock.py

  three of them, from the other side of the valley
    python scripts/rosenbrock.py --optimizers adamw,ranger21,gd --start 1.5 -0.5 --out outputs/rosenbrock

  every rate to the end of a shorter run
    python scripts/rosenbrock.py --steps 2000 --search-steps 2000 --grid 1e-5 1 31 --out outputs/rosenbrock

written to --out:
  trajectories.png, .svg   the paths over contours of log f, a panel each
  table.md, table.json     rate, steps to 1e-4, final f and distance to the minimum"""


def built_from(name: str) -> dict[str, Any]:
    """What the project builds this optimizer from, without weight decay."""
    adapt = ["optimizer.always_adapt=true"] if name in ("lars", "larc", "lamb") else []
    return vars(compose_config([f"optimizer={name}", "optimizer.weight_decay=0", *adapt]).optimizer)


def visited(arguments: dict[str, Any], rate: float, start: Point) -> Iterator[Point]:
    """Every point that the project's optimizer visits, the start first, until it diverges."""
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
    """The search for the rate, the whole run with it, and runs with almost the same."""
    tried = [visited(arguments, rate, options.start) for rate in options.rates]
    index = landscapes.best_rate(tried, options.search_steps, options.steps)
    rate, at_edge = options.rates[index], index in (0, len(options.rates) - 1)
    path = list(itertools.islice(visited(arguments, rate, options.start), options.steps + 1))
    nudged = [visited(arguments, rate * nudge, options.start) for nudge in landscapes.NUDGES]
    return landscapes.judge(arguments["name"], rate, at_edge, path, nudged, options.steps), path


def study_all(names: Sequence[str], options: argparse.Namespace) -> list[tuple[Walk, list[Point]]]:
    """Every optimizer, in processes side by side, told as they come in; the best first."""
    found, settings = [], [built_from(name) for name in names]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes: tensors of two elements gain by no more
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(names))) as pool:
        for walk, path in pool.imap_unordered(functools.partial(study, options=options), settings):
            found.append((walk, path))
            print(f"{len(found)}/{len(names)} {walk.optimizer}: {walk.reached} steps", flush=True)
    return sorted(found, key=lambda pair: pair[0].rank)


def draw(found: Sequence[tuple[Walk, list[Point]]], caption: str, out: Path) -> list[Path]:
    """A panel for each path, in trajectories.png and .svg."""
    import matplotlib
    import numpy as np
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from ranger21.report.figures.drawing import save

    (x, y), columns = found[0][1][0], min(5, len(found))
    rows = -(-len(found) // columns)
    size = max(3.1 * columns + 0.6, 8), 2.95 * rows + 2
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.09))  # saved by Agg: no display is needed
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    xs = np.linspace(min(-1.8, x - 0.3), max(1.8, x + 0.3), 400)
    ys = np.linspace(min(-0.8, y - 0.3), max(2.2, y + 0.3), 400)
    heights = np.log10(value(*np.meshgrid(xs, ys)) + 1e-12)
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.62, 256)))
    for axes, pair in itertools.zip_longest(panels, found):
        if pair is None:
            axes.set_axis_off()
            continue
        filled = axes.contourf(xs, ys, heights, np.linspace(-2, 3, 11), cmap=colours, extend="both", zorder=-1)
        axes.set_rasterization_zorder(0)
        draw_path(axes, pair[0], np.array(pair[1]))
        axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), aspect="equal", xticks=(-1, 0, 1), yticks=(0, 1, 2))
    figure.colorbar(filled, ax=list(panels), label="log10 f", shrink=0.5, aspect=40, pad=0.01)
    figure.suptitle("Down Rosenbrock's valley", x=0.012, ha="left", fontsize=22, fontweight="bold")
    looks: dict[str, Any] = {"loc": "outside lower left", "ncols": min(5, columns + 1), "alignment": "left"}
    looks |= {"title": textwrap.fill(caption, 20 + 36 * columns), "frameon": False}
    figure.legend(handles=panels[0].get_lines(), **looks)
    return save(figure, out / "trajectories")


def draw_path(axes: Any, walk: Walk, path: Any) -> None:
    """The path until it is at the target, what comes after that faintly, and the marks."""
    import numpy as np
    from matplotlib.patheffects import Normal, Stroke

    from ranger21.landscape.figures import INK, PATH

    end = len(path) if walk.steps_to_target is None else walk.steps_to_target + 1
    outline = [Stroke(linewidth=3.6, foreground=INK), Normal()]
    axes.plot(*path[:end].T, color=PATH, linewidth=2, path_effects=outline, label=f"until f < {GOAL}")
    axes.plot(*path[end - 1 :].T, color=PATH, linewidth=0.8, alpha=0.6, zorder=1.5, label="after that")
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
    """The optimizers' names; `options` made ready for `study`."""
    known = list(VARIANTS["optimizer"])
    names = list(dict.fromkeys(options.optimizers.split(","))) if options.optimizers is not None else known
    if unknown := set(names).difference(known):
        raise UserError(f"There is no optimizer {min(unknown)!r}; there are {', '.join(known)}.")
    lowest, highest, count = options.grid
    if not (0 < lowest < highest < math.inf and 2 <= count <= 1000 and count == int(count)):
        raise UserError("--grid takes the lowest rate, above 0, the highest, above that, and how many, from 2 to 1000.")
    if min(options.steps, options.search_steps, options.jobs) < 1:
        raise UserError("--steps, --search-steps and --jobs are at least 1.")
    if not value(*options.start) < LOST:
        raise UserError("--start is too far away.")
    spaced = (lowest * (highest / lowest) ** (index / (count - 1)) for index in range(int(count)))
    options.rates = [float(f"{rate:.3g}") for rate in spaced]  # as the table shows them: it is all that a rerun needs
    options.search_steps, options.start = min(options.search_steps, options.steps), tuple(options.start)
    return names


def run(options: argparse.Namespace) -> None:
    """The runs, the table on the terminal, and the files."""
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
    Console(width=None if sys.stdout.isatty() else 120).print(landscapes.terminal(walks))
    print(*(f"wrote {path}" for path in written), sep="\n")


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--optimizers", metavar="A,B,...", help="which (default: all of the project)")
    add("--start", nargs=2, type=float, default=[-1.2, 1.0], metavar=("X", "Y"), help="default: -1.2 1")
    add("--steps", type=as_whole(), default=5000, help="of a whole run (default: %(default)s)")
    add("--search-steps", type=as_whole(), default=1000, help="with all rates (default: %(default)s)")
    add("--grid", nargs=3, type=float, default=[1e-6, 10, 41], metavar=("LOW", "HIGH", "N"), help="default: 1e-6 10 41")
    add("--jobs", type=as_whole(), default=os.cpu_count() or 1, help="processes (default: one a core, %(default)s)")
    add("--out", type=as_folder, default=Path("docs/rosenbrock"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args()
    with ending_well("begins anew"):
        run(options)


if __name__ == "__main__":
    main()
