"""Export a run's weights as a file that timm loads by itself.

examples:
  python scripts/export.py outputs/demo/resnet10t-ranger21-s0 resnet10t.safetensors      its best checkpoint
  python scripts/export.py outputs/paper/resnet50-ranger21-s0/checkpoints/last.pt resnet50.pth

It prints the line of Python that loads the file.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ranger21.ending import ending_well
from ranger21.errors import UserError


def python_line(state: dict[str, Any], target: Path) -> str:
    """The call that makes the model with these weights."""
    model, data = state["config"]["model"], state["data"]
    arguments = {"num_classes": data["classes"], "in_chans": data["channels"]}
    arguments |= model["kwargs"] | {"checkpoint_path": str(target)}
    text = "".join(f", {name}={value!r}" for name, value in arguments.items())
    if model["remove_batch_norm"]:
        text = f", norm_layer=torch.nn.Identity{text}"
    return f"timm.create_model({model['name']!r}{text})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a run directory or a checkpoint")
    parser.add_argument("target", type=Path, help="the file to write: .safetensors, .pth or .pt")
    args = parser.parse_args()
    with ending_well("begins anew"):
        if args.target.suffix not in (".safetensors", ".pth", ".pt"):
            raise UserError(f"{args.target} must end in .safetensors, .pth or .pt: timm tells the format by it.")
        from ranger21.checkpoint import read_run

        state = read_run(args.source)
        if state["config"]["model"].get("remove_skips"):
            raise UserError(
                f"timm has no model for {args.source}, whose skip connections are removed: nothing is written."
            )
        write({name: tensor.contiguous() for name, tensor in state["model"].items()}, args.target)
        print(python_line(state, args.target))


def write(weights: dict[str, Any], target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        if target.suffix == ".safetensors":
            save_file(weights, target)
        else:
            torch.save(weights, target)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{target} could not be written ({error}).") from error


if __name__ == "__main__":
    main()
