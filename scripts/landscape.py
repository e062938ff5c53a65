#!/usr/bin/env python
"""Draw the loss landscape around a checkpoint or on the plane through three, and measure its sharpness."""

import argparse
import datetime
import shlex
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import _installed

from ranger21.config.arguments import Parser, as_folder
from ranger21.config.ending import ending_well
from ranger21.landscape.record import Surface
from ranger21.landscape.settings import Settings
from ranger21.system.checks import require
from ranger21.system.errors import UserError

HELP = """\
Draw the loss landscape around a checkpoint or on the plane through three, as contours and
as a surface, and measure its sharpness.

Directions:
  filter  two random directions, each filter scaled to the norm of the same filter of the
          weights, and zero for biases and norms (Li et al. 2018). The default.
  plain   two random directions in all parameters, each with the norm of all weights.
  plane   through three checkpoints of the same model, with orthonormal axes: the first is
          the origin, the second lies on the first axis. The default for three.

The loss is that of the training without weight decay: the cross-entropy with the run's label
smoothing (trainer.label_smoothing=0 for none), over --images fixed images or all images of the
split, preprocessed as in validation, without augmentation. It is computed in float32 (with
trainer.precision=fp64 in float64), never under autocast.

Batch norms: at every point the running statistics are recomputed as the plain average over
--bn-images training images in full batches of data.batch_size. With --bn keep they are those of
the checkpoint, which do not fit other weights and cause high losses that are artifacts.

Sharpness: (L(w + r d) + L(w - r d)) / 2 - L(w) in nats at r = --sharpness-radius along a
filter-normalised random direction d, mean and standard deviation over --sharpness-seeds."""

EXAMPLES = """\
examples:
  around a run's best checkpoint
    python scripts/landscape.py outputs/demo/resnet10t-ranger21-s0

  two runs side by side, on one colour scale
    python scripts/landscape.py outputs/demo/resnet10t-ranger21-s0 outputs/demo/resnet10t-adamw-s0

  the plane through three, with the path of a run (copies of its last.pt) projected onto it
    python scripts/landscape.py a.pt b.pt c.pt --trajectory kept/*.pt

  quick and coarse; a large model on a GPU, eight points under one vmap
    python scripts/landscape.py outputs/demo/resnet10t-ranger21-s0 --points 9 --images 200
    python scripts/landscape.py RUN data.root=/data/imagenet trainer.device=cuda --points-at-once 8

written to --out:
  contours.png, .svg  surface.png, .svg   the figures
  landscape.json                          all values, with the checkpoint's own loss for comparison
  landscape.npz                           x, y and losses as arrays
Rows are saved as they are computed: after Ctrl-C the same command continues. If all rows
exist, it measures only the sharpness before it draws. A folder that has another landscape (of
other weights, images or options) is refused."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, settings = parser.add_argument, Settings
    text = "run directories (their best checkpoint) or checkpoints; and key=value, as for train.py"
    add("checkpoints", nargs="+", metavar="CHECKPOINT", help=text)
    add("--directions", choices=("filter", "plain", "plane"), help="see above")
    add(
        "--points",
        type=int,
        default=settings.points,
        help="number of points along each axis; must be odd (default: %(default)s)",
    )
    text = "extent along random directions, in norms of the weights (default: %(default)s)"
    add("--radius", type=float, default=settings.radius, help=text)
    text = "margin around the checkpoints of a plane, as a fraction of their extent (default: %(default)s)"
    add("--margin", type=float, default=settings.margin, help=text)
    add("--seed", type=int, default=settings.seed, help="seed of the random directions (default: %(default)s)")
    add("--images", type=int, default=settings.images, help="number of images for the loss (default: %(default)s)")
    text = "split of these images (default: %(default)s)"
    add("--split", choices=("train", "val", "holdout"), default=settings.split, help=text)
    add("--bn", choices=("recompute", "keep"), default=settings.bn, help="see above (default: %(default)s)")
    text = "number of images for the running statistics (default: %(default)s)"
    add("--bn-images", type=int, default=settings.bn_images, help=text)
    text = "points under one vmap; 1 is fastest on CPUs (default: %(default)s)"
    add("--points-at-once", type=int, default=settings.points_at_once, help=text)
    add("--trajectory", nargs="+", default=[], metavar="FILE", help="checkpoints whose path is projected and drawn")
    text = "number of directions for the sharpness (default: %(default)s)"
    add("--sharpness-seeds", type=int, default=settings.sharpness_seeds, help=text)
    text = "distance for the sharpness, in norms of the filters (default: %(default)s)"
    add("--sharpness-radius", type=float, default=settings.sharpness_radius, help=text)
    text = "take the average of the weights of runs with trainer.ema; default: the raw weights"
    add("--ema", action="store_true", help=text)
    text = "match the data's n-th class to the model's n-th, for checkpoints without class names"
    add("--by-position", action="store_true", help=text)
    text = "upper end of the colour scale, as a multiple of the lowest loss (default: %(default)g)"
    add("--ceiling", type=float, default=1e4, help=text)
    add(
        "--out",
        type=as_folder,
        default=Path("outputs/landscape"),
        metavar="DIR",
        help="output folder (default: %(default)s)",
    )
    return parser


def read_settings(args: argparse.Namespace) -> Settings:
    """Return the checked settings of the command line. Raises a UserError for invalid ones."""
    overrides = tuple(word for word in args.checkpoints if "=" in word and not Path(word).exists())
    sources = tuple(word for word in args.checkpoints if word not in overrides)
    if not sources:
        raise UserError("There is no checkpoint among the arguments: name a run directory or a checkpoint.")
    require(1 < args.ceiling < 1e30, "--ceiling", args.ceiling, "above 1 and finite")
    values = {name: value for name, value in vars(args).items() if name not in ("out", "ceiling")}
    values |= {"checkpoints": sources, "overrides": overrides, "trajectory": tuple(args.trajectory)}
    return Settings(**values)


def run(args: argparse.Namespace) -> None:
    """Compute the landscape, draw the figures and print the results."""
    settings = read_settings(args)
    from ranger21.landscape.figures import write_figures
    from ranger21.landscape.survey import survey
    from ranger21.records.sessions import version

    facts = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "scripts/landscape.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }
    surfaces = survey(settings, args.out, facts)
    said = textwrap.fill(caption(settings, surfaces), 60 + 60 * len(surfaces))
    paths = write_figures(surfaces, said, args.out, args.ceiling)
    print(*dict.fromkeys(sentence for surface in surfaces for sentence in surface.classes), sep="\n")
    for mark in (mark for surface in surfaces for mark in surface.marks):
        own = "{stored:.6f} with stored, {recomputed:.6f} with recomputed statistics".format(**mark.own_loss)
        print(f"{mark.label}, step {mark.step}: loss {mark.loss:.6f} on the surface; its own loss {own}")
        print(f"  {mark.sharpness.sentence()} at {mark.sharpness.radius:g}, difference {mark.difference:.1e}")
    names = ("landscape.json", "landscape.npz")
    print(*(f"wrote {path}" for path in [*paths, *(args.out / name for name in names)]), sep="\n")


def caption(settings: Settings, surfaces: Sequence[Surface]) -> str:
    """Return the caption of the figures, with the actual numbers of images."""

    def number(counts: Iterable[int]) -> str:
        return " or ".join(map(str, sorted(set(counts))))

    text = f"Loss over {number(surface.images for surface in surfaces)} images ({settings.split})"
    recomputed = [surface.bn_images for surface in surfaces if surface.bn_images]
    if recomputed:
        text += f", batch norm statistics over {number(recomputed)} at every point"
    elif settings.bn == "keep":
        text += ", batch norm statistics as in the checkpoint"
    if settings.directions != "plane":
        text += f", {settings.directions} directions, seed {settings.seed}"
    least = min((station.captured for surface in surfaces for station in surface.trajectory), default=1)
    if least < 0.995:
        text += f". At least {least:.0%} of the squared distance of every point of the path lies in the plane"
    return f"{text}."


def main() -> None:
    args = parser().parse_intermixed_args()
    with ending_well("continues from there"):
        run(args)


if __name__ == "__main__":
    main()
