"""Export a run's weights as a file that timm loads by itself.

examples:
  python scripts/export.py outputs/demo/resnet10t-ranger21-s0 resnet10t.safetensors      its best checkpoint
  python scripts/export.py outputs/paper/resnet50-ranger21-s0/checkpoints/last.pt resnet50.pth

It prints the line of Python that loads the file.
"""

import argparse
import keyword
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import _installed

from ranger21.config.arguments import Parser, as_path
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError


def python_line(run: dict[str, Any], target: Path) -> str:
    """The call that makes the model with these weights, to be pasted after `import timm, torch`.

    Raises a UserError for arguments of which Python's words for them could be anything else: the file may be a
    stranger's.
    """
    model, data = run["config"]["model"], run["data"]
    arguments = {"num_classes": data["classes"], "in_chans": data["channels"]}
    arguments |= model["kwargs"] | {"checkpoint_path": str(target)}
    for name in arguments:
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise UserError(f"model.kwargs has {name!r}, which is no name of an argument: nothing is written.")
    text = "".join(f", {name}={literal(value)}" for name, value in arguments.items())
    if model["remove_batch_norm"]:
        text = f", norm_layer=torch.nn.Identity{text}"
    return f"timm.create_model({literal(model['name'])}{text})"


def literal(value: Any) -> str:
    """Python's way to write a value; ASCII, so that any terminal shows it and any shell leaves it as it is."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UserError(
            f"model.kwargs has a {type(value).__name__} in it, which is not a plain value: nothing is written."
        )
    return ascii(value)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a run directory or a checkpoint")
    parser.add_argument("target", type=as_path, help="the file to write: .safetensors, .pth or .pt")
    args = parser.parse_args()
    with ending_well("begins anew"):
        if args.target.suffix not in (".safetensors", ".pth", ".pt"):
            raise UserError(f"{args.target} must end in .safetensors, .pth or .pt: timm tells the format by it.")
        if (args.target.absolute().parent.resolve().parent / "manifest.json").exists():
            raise UserError(
                f"{args.target} is among a run's checkpoints, which it goes on from: choose another folder."
            )
        if args.target.exists() and Path(args.source).exists() and args.target.samefile(args.source):
            raise UserError(f"{args.target} is the file that is exported: choose another name.")
        from ranger21.config.compose import with_overrides
        from ranger21.models.evaluated import names_by_data, run_of
        from ranger21.models.weights import export, read_any

        weights = read_any(args.source)
        run = run_of(weights)
        if run["config"]["model"].get("remove_skips"):
            raise UserError(
                f"timm has no model for {args.source}, whose skip connections are removed: nothing is written."
            )
        config = with_overrides(run["config"], [])  # which looks at all of it
        if weights.classes is None:
            names = names_by_data(weights, config)
            weights = replace(weights, classes=names)
            if names is None:
                note = "does not name its classes, nor does the file: the data that its run recorded is not there"
                print(f"warning: {args.source} {note}.", file=sys.stderr)
        line = python_line(run, args.target)
        export(weights, args.target)
        print(line)


if __name__ == "__main__":
    main()
