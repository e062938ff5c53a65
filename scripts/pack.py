"""Pack a dataset for fast loading: decode and resize every image once, and store JPEGs or raw pixels in tar archives.

The size is taken from the configuration, so use the same overrides for the pack and for train.py. After an
interruption, the same command continues where it stopped. After images were replaced or removed, it keeps the archives
of unchanged images. WebDataset can read the archives, including labels. With --from, the images come straight from a
download (archives, zip, parquet, WebDataset, ...), which is only read; the pack is the same as by way of folders.

examples:
  python scripts/pack.py /data/imagenet-288 data.root=/data/imagenet              JPEG, about 50 GB for ImageNet
  python scripts/pack.py /data/imagenet-raw data.root=/data/imagenet --format raw     pixels, 318 GB
  python scripts/pack.py packs/demo experiment=demo
  python train.py experiment=demo data.pack=packs/demo                            train from it
  python scripts/pack.py /data/imagenet-288 --from ~/downloads                    without prepare_imagenet.py
  python scripts/pack.py /data/imagenet-288 --check                               verify the checksums of a pack
"""

import argparse
import os
from pathlib import Path

import _installed

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_path, setting
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.datasets.image_folder import SampleConfig
from ranger21.data.disk_space import tell
from ranger21.data.layout import has_image_folders
from ranger21.data.pack import FACTS, FORMATS, PackRecipe, read_facts
from ranger21.system.errors import UserError
from ranger21.system.importing import without_collecting_garbage
from ranger21.system.processes import add_processes_option, require_processes
from ranger21.system.project import command
from ranger21.system.wording import first_few


def pack(target: Path, args: argparse.Namespace) -> str:
    """Make the pack, and return the final message."""
    config = compose_config(args.overrides).data
    if not isinstance(config, ImageFolderConfig) or config.pack:
        raise UserError("Only folders of images can be packed: use data=imagenet or data=sample, without data.pack.")
    if config.classes is not None or config.fraction != 1 or config.imbalance is not None:
        some = "data.classes, data.fraction and data.imbalance"
        raise UserError(f"A pack holds all images. Use {some} when training from it, not when packing.")
    jpeg = (args.quality or 95, args.subsampling or "4:4:4")
    kept: tuple[str, int | None, str | None] = ("raw", None, None) if args.format == "raw" else ("jpeg", *jpeg)
    recipe = PackRecipe(config.resize, config.resize_mode, *kept, config.interpolation)
    how = (config, recipe, target.absolute(), args.processes, args.on_bad_image == "skip")
    fresh = from_download(args.source, *how, not args.no_checksums) if args.source else from_folders(*how)
    skipped = [image for of_split in read_facts(target).get("skipped", {}).values() for image in of_split]
    if skipped:
        shown = first_few(skipped, 5)
        print(f"{len(skipped):,} unreadable images are not in the pack ({shown}); see {target / FACTS}")
    use = command("python", "train.py", *args.overrides, setting("data.pack", target))
    return f"{target} is {'' if fresh else 'already '}complete. To train from it: {use}"


def from_folders(config: ImageFolderConfig, recipe: PackRecipe, target: Path, processes: int, skip: bool) -> bool:
    """Make the pack of data.root; return False if it was already complete."""
    with without_collecting_garbage():
        from ranger21.data.folders import image_folders
        from ranger21.data.sources import FolderSource
        from ranger21.packing.make import make_pack, report_size

    if config.root and Path(config.root).is_dir() and not has_image_folders(Path(config.root)):
        text = f"To pack a download, use --from {config.root} instead of data.root"
        raise UserError(f"{config.root} does not contain train/ and val/ with a folder per class. {text}.")
    config.require()
    config.prepare()
    root, indices = image_folders(config)
    sources = {split: FolderSource(root / split, index) for split, index in indices.items()}
    report_size(sources, config, recipe, target)
    return make_pack(sources, config, recipe, target, processes, skip)


def from_download(
    source: Path,
    config: ImageFolderConfig,
    recipe: PackRecipe,
    target: Path,
    processes: int,
    skip: bool,
    checksums: bool,
) -> bool:
    """Make the pack of a download; return False if it was already complete.

    Raises:
        UserError: If the overrides name other images.
    """
    if isinstance(config, SampleConfig) or config.root not in (None, os.environ.get("IMAGENET_DIR")):
        raise UserError(f"--from={source} and data.root or data=sample both say where the images are. Use one of them.")
    tell(f"looking at {source}")  # before torch is imported, which can take seconds
    with without_collecting_garbage():
        from ranger21.packing.download import pack_download

    return pack_download(source, config, recipe, target, processes, skip, checksums)


def check(target: Path, processes: int) -> str:
    """Verify all checksums of a pack, and return the final message.

    Raises:
        UserError: If archives are damaged or missing.
    """
    with without_collecting_garbage():
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
    text = (
        "folder with a download of ImageNet, in any form that prepare_imagenet.py reads, to pack without extracting it"
    )
    parser.add_argument("--from", dest="source", type=as_path, metavar="SOURCE", help=text)
    text = "with --from: do not verify the MD5 checksums of the official archives"
    parser.add_argument("--no-checksums", action="store_true", help=text)
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
        making = (args.source, args.no_checksums, args.format, args.quality, args.subsampling, args.on_bad_image)
        if args.check and any((args.overrides, *making)):
            raise UserError("--check takes only the folder of the pack. Omit all other arguments.")
        if args.no_checksums and not args.source:
            raise UserError("--no-checksums applies to downloads only. Use it with --from, or omit it.")
        if args.format == "raw" and (args.quality or args.subsampling):
            raise UserError("--quality and --subsampling apply to JPEG only. Omit them with --format raw.")
        print(check(args.target, args.processes) if args.check else pack(args.target, args))


if __name__ == "__main__":
    main()
