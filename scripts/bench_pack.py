"""Measure the JPEG settings of a pack: bytes per image, loss against the resized pixels, and decoding speed.

The images are photographs (pip install 'ranger21-imagenet[bench]'), resized as the paper's recipe resizes ImageNet.

  python scripts/bench_pack.py
  python scripts/bench_pack.py --images 200 --rounds 9
"""

import argparse
import statistics
import time

import _installed
import numpy as np
import simplejpeg

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.decode import Encoded, to_tensor
from ranger21.data.pack import PackRecipe
from ranger21.data.photographs import jpegs
from ranger21.data.transforms.resizing import resized_tensor
from ranger21.packing.encoding import encoded

KINDS = [(quality, colour) for quality in (85, 90, 95) for colour in ("4:2:0", "4:4:4")]


def resized(content: bytes, config: ImageFolderConfig) -> np.ndarray:
    """Return the resized image, uint8 of shape (height, width, 3)."""
    image = Encoded(np.frombuffer(content, np.uint8), "a photograph", "")
    return resized_tensor(to_tensor(image), config).permute(1, 2, 0).contiguous().numpy()


def seconds_to_decode(files: list[bytes]) -> float:
    begin = time.perf_counter()
    for file in files:
        simplejpeg.decode_jpeg(file)
    return (time.perf_counter() - begin) / len(files)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=as_whole(), default=200, help="number of images (default: %(default)s)")
    text = "number of rounds of decoding, each with every setting (default: %(default)s)"
    parser.add_argument("--rounds", type=as_whole(), default=5, help=text)
    args = parser.parse_args()
    config = compose_config(["data.root=/unused"]).data
    assert isinstance(config, ImageFolderConfig)
    images = [resized(content, config) for content in jpegs(args.images)]
    kinds = {kind: PackRecipe(config.resize, config.resize_mode, "jpeg", *kind) for kind in KINDS}
    files = {kind: [encoded(image, recipe)[0] for image in images] for kind, recipe in kinds.items()}
    times = [{kind: seconds_to_decode(some) for kind, some in files.items()} for _ in range(args.rounds)]
    print(f"{args.images} photographs at {config.resize}x{config.resize}; raw: {images[0].nbytes / 1e3:.0f} kB each")
    print("quality  color       kB   loss of 255   decoded per second (min, max)")
    for kind, some in files.items():
        pairs = zip(some, images, strict=True)
        loss = np.mean([np.abs(simplejpeg.decode_jpeg(f).astype(int) - p).mean() for f, p in pairs])
        rates = [1 / round_[kind] for round_ in times]
        speed = f"{statistics.median(rates):.0f} ({min(rates):.0f}, {max(rates):.0f})"
        print(f"{kind[0]:7}  {kind[1]:6}{np.mean([len(f) for f in some]) / 1e3:8.1f}{loss:14.2f}   {speed}")


if __name__ == "__main__":
    with ending_well("measures again"):
        main()
