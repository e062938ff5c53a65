"""Evaluate a checkpoint, an exported file, or timm's own weights on the validation images of any dataset.

The classes of the data are matched to those of the model by name: each folder of data.root/val (or of data.root, if it
has neither train/ nor val/) must be a class of the model. The order does not matter, and some of the model's classes
may be missing. Numbered folders, as in ImageNet-V2, are indices into the model's classes. It is an error if a class
cannot be matched. See docs/evaluate.md.

examples:
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0                      its best checkpoint, its own data
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0/checkpoints/last.pt data.eval_batch_size=32
  python scripts/evaluate.py outputs/paper/resnet50-ranger21-s0 data.root=/data/imagenet trainer.device=cuda
  python scripts/evaluate.py outputs/paper/resnet50-ranger21-s0 data.root=/data/imagenet-a --among present
  python scripts/evaluate.py timm:resnet50.a1_in1k data.root=/data/imagenet --real-labels real.json
  python scripts/evaluate.py outputs/paper/resnet50-nesterov-s0 --ensemble           a run with schedule=cyclic
  python scripts/evaluate.py local-dir:/models/mine data.root=/data/imagenet --predictions answers.csv
"""

import argparse
import json
from typing import TYPE_CHECKING

import _installed

from ranger21.config.arguments import Parser, as_file, as_path
from ranger21.config.ending import ending_well
from ranger21.models.classes import AMONG

if TYPE_CHECKING:
    from ranger21.models.scoring import Scored

LINE = "top-1 {val/acc1:.2f} %  top-5 {val/acc5:.2f} %  loss {val/loss:.4f}  smoothed {val/loss_smoothed:.4f}"


def parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "a run directory, a checkpoint, a file of export.py, timm:NAME, hf-hub:ID, or local-dir:PATH (timm's format)"
    parser.add_argument("source", help=text)
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    text = "classes that the model may predict: all of its own, or only those in the data (default: %(default)s)"
    parser.add_argument("--among", choices=AMONG, default=AMONG[0], help=text)
    text = "match the n-th class folder to the model's n-th class; for checkpoints without class names"
    parser.add_argument("--by-position", action="store_true", help=text)
    text = "ReaL's real.json: also report accuracy with any of its labels for an image counted as correct"
    parser.add_argument("--real-labels", type=as_path, metavar="FILE", help=text)
    text = "write a CSV file with a line per image: path, class, top-5 predictions and their probabilities"
    parser.add_argument("--predictions", type=as_file(), metavar="FILE", help=text)
    text = "evaluate the checkpoints that a run kept (schedule=cyclic), each alone and as an ensemble of all"
    parser.add_argument("--ensemble", action="store_true", help=text)
    text = "evaluate the raw weights of a run that also kept an average of them (trainer.ema); default: the average"
    parser.add_argument("--raw", action="store_true", help=text)
    return parser


def main() -> None:
    values = vars(parser().parse_intermixed_args())
    as_json = values.pop("json")
    ensemble = values.pop("ensemble")
    from ranger21.models.evaluated import Request
    from ranger21.models.scoring import score, score_ensemble

    request = Request(**values)
    if ensemble:
        print_ensemble(score_ensemble(request), as_json)
        return
    scored = score(request)
    if scored is None:  # another rank prints
        return
    result, notes = scored
    if as_json:
        print(json.dumps(result | {"notes": notes}))
        return
    print(*notes, LINE.format(**result) + f"  ({result['images']} images)", sep="\n")
    if "real/acc1" in result:
        text = "ReaL: top-1 {real/acc1:.2f} %  top-5 {real/acc5:.2f} %  ({real/images} images with labels)"
        print(text.format(**result))


def print_ensemble(scored: "list[tuple[str, Scored]] | None", as_json: bool) -> None:
    """Print a line for each checkpoint and for the ensemble, and what the ensemble costs."""
    if scored is None:  # another rank prints
        return
    if as_json:
        print(json.dumps({name: result | {"notes": notes} for name, (result, notes) in scored}))
        return
    print(*scored[-1][1][1], sep="\n")
    for name, (result, _) in scored:
        print(f"{name:<18}{LINE.format(**result)}")
    count, images = len(scored) - 1, scored[-1][1][0]["images"]
    print(f"{images} images. The ensemble costs {count} forward passes for an image, and the memory of {count} models.")


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
