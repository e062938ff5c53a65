"""Evaluate a checkpoint, or timm's own weights, on the validation images of any data set.

examples:
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0                      its best checkpoint, its own data
  python scripts/evaluate.py outputs/demo/resnet10t-ranger21-s0/checkpoints/last.pt data.eval_batch_size=32
  python scripts/evaluate.py outputs/paper/resnet50-ranger21-s0 data.root=/data/imagenet trainer.device=cuda
  python scripts/evaluate.py timm:resnet50.a1_in1k data=imagenet data.root=/data/imagenet    (timm downloads them)
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ranger21.compose import compose_config, with_overrides
from ranger21.config import Config
from ranger21.ending import ending_well
from ranger21.errors import UserError


def validate(config: Config, weights: dict[str, Any] | None, source: str) -> dict[str, float]:
    """Validation loss (nats), smoothed loss, top-1 and top-5 (per cent)."""
    from ranger21 import distributed
    from ranger21.data.build import build_data, prepare_data
    from ranger21.data.loader import Loader, available_workers
    from ranger21.data.order import EvalBatches, Share
    from ranger21.evaluation import evaluate
    from ranger21.models import build_model, load_weights, memory_format
    from ranger21.precision import choose_precision

    with distributed.join(config.trainer.device) as world:
        world.on_main(lambda: prepare_data(config.data))
        data = build_data(config.data, config.seed)
        precision = choose_precision(config.trainer.precision, world.device)
        model = build_model(config.model, len(data.classes), data.channels, pretrained=weights is None)
        if weights is not None and load_weights(model, weights, source):
            raise UserError(f"{source} was trained on another number of classes than the {len(data.classes)} here.")
        layout = memory_format(config.trainer.channels_last)
        model = model.to(world.device, precision.weights, memory_format=layout).eval()  # type: ignore[call-overload]
        workers = config.data.workers
        if workers is None:
            workers = available_workers(world.local_size, world.device.type)
        keys = EvalBatches(len(data.val), config.data.eval_batch_size, Share(world.rank, world.size))
        batches = Loader(data.val, keys, workers, world.device.type == "cuda", config.data.timeout)
        to_input = data.to_input.to(world.device, precision.weights)
        result = evaluate(model, batches, to_input, world, precision, config.trainer.label_smoothing, layout)
        assert result is not None
        return result | {"images": len(data.val)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a run directory, a checkpoint, or timm:NAME")
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")
    args = parser.parse_intermixed_args()
    with ending_well("begins anew"):
        if args.source.startswith("timm:"):
            weights = None
            config = compose_config([f"model={args.source[5:]}", *args.overrides])
        else:
            from ranger21.checkpoint import read_run

            state = read_run(args.source)
            weights, config = state["model"], with_overrides(state["config"], args.overrides)
        result = validate(config, weights, args.source)
        line = "top-1 {val/acc1:.2f} %  top-5 {val/acc5:.2f} %  loss {val/loss:.4f}  smoothed {val/loss_smoothed:.4f}"
        print(json.dumps(result) if args.json else line.format(**result) + f"  ({result['images']} images)")


if __name__ == "__main__":
    main()
