"""Evaluate a checkpoint, an exported file, or timm's own weights on the validation images of any data set.

The classes of the data are matched with the model's by name: the folders of data.root/val (or of data.root itself, if
it has neither train/ nor val/) must be classes of the model, in any order, and need not be all of them. Numbered
folders, as ImageNet-V2's, are indices into the model's classes. What cannot be matched is refused. docs/evaluate.md
says more.

examples:
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0                      its best checkpoint, its own data
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0/checkpoints/last.pt data.eval_batch_size=32
  python scripts/evaluate.py outputs/paper/resnet50-ranger21-s0 data.root=/data/imagenet trainer.device=cuda
  python scripts/evaluate.py outputs/paper/resnet50-ranger21-s0 data.root=/data/imagenet-a --among present
  python scripts/evaluate.py timm:resnet50.a1_in1k data.root=/data/imagenet --real-labels real.json
  python scripts/evaluate.py local-dir:/models/mine data.root=/data/imagenet --predictions answers.csv
"""

import argparse
import json

import _installed

from ranger21.config.arguments import Parser, as_file, as_path
from ranger21.config.ending import ending_well
from ranger21.models.classes import AMONG


def parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = (
        "a run directory, a checkpoint, a file of export.py, timm:NAME, hf-hub:ID, or local-dir:PATH as timm writes it"
    )
    parser.add_argument("source", help=text)
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    text = "what the model may answer with: any of its classes, or only those that the data has (default: %(default)s)"
    parser.add_argument("--among", choices=AMONG, default=AMONG[0], help=text)
    text = "take the n-th class folder for the model's n-th class, whatever the names; for checkpoints without names"
    parser.add_argument("--by-position", action="store_true", help=text)
    text = "ReaL's real.json: also count an answer as right that is among its labels for the image"
    parser.add_argument("--real-labels", type=as_path, metavar="FILE", help=text)
    text = "write a line of CSV for each image: path, class, the first five answers and their probabilities"
    parser.add_argument("--predictions", type=as_file(), metavar="FILE", help=text)
    return parser


def main() -> None:
    values = vars(parser().parse_intermixed_args())
    as_json = values.pop("json")
    from ranger21.models.evaluated import Request
    from ranger21.models.scoring import score

    scored = score(Request(**values))
    if scored is None:  # another rank prints
        return
    result, notes = scored
    if as_json:
        print(json.dumps(result | {"notes": notes}))
        return
    line = "top-1 {val/acc1:.2f} %  top-5 {val/acc5:.2f} %  loss {val/loss:.4f}  smoothed {val/loss_smoothed:.4f}"
    print(*notes, line.format(**result) + f"  ({result['images']} images)", sep="\n")
    if "real/acc1" in result:
        text = "ReaL: top-1 {real/acc1:.2f} %  top-5 {real/acc5:.2f} %  ({real/images} images with labels)"
        print(text.format(**result))


if __name__ == "__main__":
    with ending_well("begins anew"):
        main()
