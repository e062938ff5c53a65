#!/usr/bin/env python
"""Extract a download of ImageNet into the folders train/WNID and val/WNID.

SOURCE is a folder with ImageNet in one of the forms in which people have it; all give the same tree:

  - the three official archives of https://image-net.org (ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
    ILSVRC2012_devkit_t12.tar.gz)
  - Kaggle's ILSVRC/Data/CLS-LOC, unpacked or as one zip archive
  - a sorted train/ (folders or archives per class) with a flat val/ and the development kit or LOC_val_solution.csv
  - the parquet or Arrow files of Hugging Face's imagenet-1k, the hub's cache of them (datasets--ILSVRC--imagenet-1k),
    or its older archives (train_images_0.tar.gz, ...)
  - WebDataset archives (imagenet1k-train-0000.tar, ...)
  - Tiny-ImageNet-200, and Kaggle's ImageNet-100 (train.X1, ..., val.X)

The command prints what it recognized before it writes; docs/data.md has the details. It can be stopped or killed at any
time. Repeated, it writes only the files that are missing or differ in size from those of SOURCE. The published MD5
checksums of the official archives are verified once, before extraction, and noted in TARGET/.checksums.json; other
forms have none. Requires pip install -e '.[prepare]'.

  python scripts/prepare_imagenet.py ~/downloads /data/imagenet
  python scripts/prepare_imagenet.py ~/imagenet-1k/data /data/imagenet --processes 16
  python scripts/verify_imagenet.py /data/imagenet                                     afterwards: decode every image
"""

import argparse

import _installed

from ranger21.config.arguments import Parser, as_path
from ranger21.config.ending import ending_well
from ranger21.downloads.checksums import MD5
from ranger21.downloads.prepare import prepare
from ranger21.system.processes import add_processes_option, require_processes


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=as_path, help="folder with the downloaded files, which are not changed")
    parser.add_argument("target", type=as_path, help="folder for train/ and val/")
    parser.add_argument("--no-checksums", action="store_true", help="do not verify the MD5 checksums of the archives")
    add_processes_option(parser)
    args = parser.parse_args()
    with ending_well("continues from here"):
        require_processes(args.processes)
        prepare(args.source, args.target, args.processes, None if args.no_checksums else MD5)


if __name__ == "__main__":
    main()
