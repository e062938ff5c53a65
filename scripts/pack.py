"""Pack a dataset for fast loading: decode and resize every image once, and store JPEGs or raw pixels in tar archives.

The size is taken from the configuration, so use the same overrides for the pack and for train.py. After an
interruption, the same command continues where it stopped. After images were replaced or removed, it keeps the archives
of unchanged images. WebDataset can read the archives, including labels.

examples:
  python scripts/pack.py /data/imagenet-288 data.root=/data/imagenet              JPEG, about 50 GB for ImageNet
  python scripts/pack.py /data/imagenet-raw data.root=/data/imagenet --format raw     pixels, 318 GB
  python scripts/pack.py packs/demo experiment=demo
  python train.py experiment=demo data.pack=packs/demo                            train from it
  python scripts/pack.py /data/imagenet-288 --check                               verify the checksums of a pack
"""

import argparse
from pathlib import Path

import _installed

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_path, setting
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.pack import FACTS, FORMATS, PackRecipe, read_facts
from ranger21.system.errors import UserError
from ranger21.system.processes import add_processes_option, require_processes
from ranger21.system.project import command
from ranger21.system.wording import first_few


def pack(target: Path, args: argparse.Namespace) -> str:
    """Make the pack, and return the final message."""
    from ranger21.data.disk_space import require_space, size_text
    from ranger21.data.folders import image_folders
    from ranger21.data.sources import FolderSource
    from ranger21.packing.make import estimate, make_pack

    config = compose_config(args.overrides).data
    if not isinstance(config, ImageFolderConfig) or config.pack:
        raise UserError("Only folders of images can be packed: use data=imagenet or data=sample, without data.pack.")
    if config.classes is not None or config.fraction != 1 or config.imbalance is not None:
        some = "data.classes, data.fraction and data.imbalance"
        raise UserError(f"A pack holds all images. Use {some} when training from it, not when packing.")
    config.require()
    config.prepare()
    root, indices = image_folders(config)
    sources = {split: FolderSource(root / split, index) for split, index in indices.items()}
    jpeg = (args.quality or 95, args.subsampling or "4:4:4")
    kept: tuple[str, int | None, str | None] = ("raw", None, None) if args.format == "raw" else ("jpeg", *jpeg)
    recipe = PackRecipe(config.resize, config.resize_mode, *kept, config.interpolation)
    images = sum(map(len, sources.values()))
    skip = args.on_bad_image == "skip"
    need = estimate(sources["train"], config, recipe) * images
    there = sum(path.stat().st_size for path in target.glob("*.tar"))
    print(f"{images:,} images, {recipe}: about {size_text(need)}, of which {size_text(there)} exist already")
    require_space(target, max(0.0, need - there))
    fresh = make_pack(sources, config, recipe, target.absolute(), args.processes, skip)
    skipped = [image for of_split in read_facts(target).get("skipped", {}).values() for image in of_split]
    if skipped:
        shown = first_few(skipped, 5)
        print(f"{len(skipped):,} unreadable images are not in the pack ({shown}); see {target / FACTS}")
    use = command("python", "train.py", *args.overrides, setting("data.pack", target))
    return f"{target} is {'' if fresh else 'already '}complete. To train from it: {use}"


def check(target: Path, processes: int) -> str:
    """Verify all checksums of a pack, and return the final message.

    Raises:
        UserError: If archives are damaged or missing.
    """
    from ranger21.packing.make import damaged_shards

    damaged = damaged_shards(target, processes)
    if damaged:
        raise UserError(
            f"{target}: {len(damaged)} archives are damaged or missing ({first_few(damaged, 5)}). "
            "Delete them and repeat the command that made the pack."
        )
    return f"{target}: all checksums are correct."


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=as_path, help="folder of the pack")
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as for train.py")
    parser.add_argument("--format", choices=FORMATS, help="how images are stored (default: jpeg)")
    text = "JPEG quality, 1 to 100 (default: 95)"
    parser.add_argument("--quality", type=int, choices=range(1, 101), metavar="Q", help=text)
    text = "JPEG chroma subsampling (default: 4:4:4)"
    parser.add_argument("--subsampling", choices=("4:4:4", "4:2:0"), help=text)
    parser.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        help="treatment of unreadable images: stop with an error, or skip them; skipped images are listed in pack.json "
        "and reported by every run that trains from the pack (default: error)",
    )
    add_processes_option(parser)
    parser.add_argument("--check", action="store_true", help="verify the checksums of a pack instead of making one")
    args = parser.parse_intermixed_args()
    with ending_well("starts over" if args.check else "continues from here"):
        require_processes(args.processes)
        making = (args.overrides, args.format, args.quality, args.subsampling, args.on_bad_image)
        if args.check and any(making):
            raise UserError("--check takes only the folder of the pack. Omit all other arguments.")
        if args.format == "raw" and (args.quality or args.subsampling):
            raise UserError("--quality and --subsampling apply to JPEG only. Omit them with --format raw.")
        print(check(args.target, args.processes) if args.check else pack(args.target, args))


if __name__ == "__main__":
    main()
