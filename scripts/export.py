"""Export the weights of a run to a file that timm can load.

examples:
  python scripts/export.py outputs/demo/resnet10t-ranger21-s0 resnet10t.safetensors      its best checkpoint
  python scripts/export.py outputs/paper/resnet50-ranger21-s0/checkpoints/last.pt resnet50.pth

Prints the line of Python that loads the file.
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
    """Return the call that creates the model with these weights, to be pasted after `import timm, torch`.

    Raises:
        UserError: If an argument cannot be written as a plain Python literal. The checkpoint may be from a stranger.
    """
    model, data = run["config"]["model"], run["data"]
    arguments = {"num_classes": data["classes"], "in_chans": data["channels"]}
    arguments |= model["kwargs"] | {"checkpoint_path": str(target)}
    own = {name: value for name in ("mean", "std") if (value := run["config"].get("data", {}).get(name)) is not None}
    if own:  # timm reads the normalization from there
        overlay = arguments.get("pretrained_cfg_overlay")
        arguments["pretrained_cfg_overlay"] = (overlay if isinstance(overlay, dict) else {}) | own
    for name in arguments:
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise UserError(f"model.kwargs has {name!r}, which is not an argument name. Nothing was written.")
    text = "".join(f", {name}={literal(value)}" for name, value in arguments.items())
    if model["remove_batch_norm"]:
        text = f", norm_layer=torch.nn.Identity{text}"
    return f"timm.create_model({literal(model['name'])}{text})"


def literal(value: Any) -> str:
    """Return a value as an ASCII Python literal, which is safe to print and to paste."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UserError(
            f"model.kwargs contains a {type(value).__name__}, which is not a plain value. Nothing was written."
        )
    return ascii(value)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a run directory or a checkpoint")
    parser.add_argument("target", type=as_path, help="the file to write: .safetensors, .pth or .pt")
    text = "export the raw weights of a run that also kept an average of them (trainer.ema); default: the average"
    parser.add_argument("--raw", action="store_true", help=text)
    args = parser.parse_args()
    with ending_well("starts over"):
        if args.target.suffix not in (".safetensors", ".pth", ".pt"):
            raise UserError(f"{args.target} must end in .safetensors, .pth or .pt, which tells timm the format.")
        if (args.target.absolute().parent.resolve().parent / "manifest.json").exists():
            raise UserError(
                f"{args.target} is in the checkpoint folder of a run, which may need to resume. Choose another folder."
            )
        if args.target.exists() and Path(args.source).exists() and args.target.samefile(args.source):
            raise UserError(f"{args.target} is the file to export from. Choose another name.")
        from ranger21.config.compose import with_overrides
        from ranger21.models.evaluated import AVERAGED_NOTE, names_by_data, run_of
        from ranger21.models.weights import export, read_any

        weights = read_any(args.source, args.raw)
        run = run_of(weights)
        if run["config"]["model"].get("remove_skips"):
            raise UserError(f"timm has no model without skip connections, as {args.source} is. Nothing was written.")
        if run["config"]["model"].get("blur_pool"):
            raise UserError(f"timm has no model with this blur pooling, as {args.source} is. Nothing was written.")
        config = with_overrides(run["config"], [])  # validates it
        if weights.classes is None:
            names = names_by_data(weights, config)
            weights = replace(weights, classes=names)
            if names is None:
                note = "does not name its classes and the data of its run was not found, so the file has no class names"
                print(f"warning: {args.source} {note}.", file=sys.stderr)
        line = python_line(run, args.target)
        export(weights, args.target)
        if weights.averaged:
            print(f"Exported {AVERAGED_NOTE}.", file=sys.stderr)
        print(line)


if __name__ == "__main__":
    main()
