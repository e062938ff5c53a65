"""Measure the time per point of a landscape, one point at a time and several under one vmap.

On a CPU it measures CPU time, which other programs affect less, elsewhere wall-clock time. Images and weights are
random; every round measures all variants in turn. Set OMP_NUM_THREADS=1 if other programs share the cores.

examples:
  python scripts/bench_landscape.py                           the narrow resnet10t of experiment=fashion_mnist
  python scripts/bench_landscape.py model=resnet34 --rounds 3
  python scripts/bench_landscape.py model=resnet50 data=imagenet --images 256 trainer.device=cuda
"""

import argparse
import statistics
import time

import _installed

from ranger21.config.arguments import Parser, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well

AT_ONCE = (1, 2, 4, 8)


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    text = "number of images for the loss and for the statistics (default: %(default)s)"
    parser.add_argument("--images", type=as_whole(2), default=500, help=text)
    parser.add_argument("--rounds", type=as_whole(), default=5, help="number of rounds (default: %(default)s)")
    args = parser.parse_intermixed_args()
    with ending_well("starts over"):
        config = compose_config(["experiment=fashion_mnist", "trainer.device=cpu", *args.overrides])

        import torch

        from ranger21.landscape.directions import FIRST_AXIS, Layout, random_direction
        from ranger21.landscape.loss import Loss, whole_batches
        from ranger21.models.build import build_model
        from ranger21.system.distributed import choose_device

        torch.manual_seed(0)
        channels, side, _ = config.data.shape
        device = choose_device(config.trainer.device, 0)
        model = build_model(config.model, 10, channels).to(device).eval()
        layout = Layout(dict(model.named_parameters()))
        weights = layout.join(dict(model.named_parameters()))
        images = torch.randn(args.images, channels, side, side, device=device)
        labels = torch.randint(10, (args.images,), device=device)
        count, size = whole_batches(args.images, config.data.batch_size)
        loss = Loss(model, layout, [(images, labels)], list(images[:count].split(size)), 0.1)
        axis = random_direction("filter", weights, layout, 0, FIRST_AXIS)
        points = weights + torch.linspace(-0.5, 0.5, max(AT_ONCE)).to(weights)[:, None] * axis
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        times: dict[int, list[float]] = {count: [] for count in AT_ONCE}
        for _ in range(args.rounds):
            for count, spent in times.items():
                begin = clock()
                for some in points.split(count):
                    loss(some).tolist()  # waits for the device
                spent.append(1000 * (clock() - begin) / len(points))
        print(f"{config.model.label}, {args.images} images, {device}, torch {torch.__version__}, n = {args.rounds}")
        for count, spent in times.items():
            low, middle, high = min(spent), statistics.median(spent), max(spent)
            print(f"{count} at once: {middle:.0f} ms per point, median ({low:.0f} to {high:.0f})")


if __name__ == "__main__":
    main()
