#!/usr/bin/env python
"""Extract a download of ImageNet into the folders train/WNID and val/WNID.

SOURCE is a folder with either the three official archives of https://image-net.org (ILSVRC2012_img_train.tar,
ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz) or the parquet files of Hugging Face's imagenet-1k
(train-*.parquet and validation-*.parquet, possibly in its subfolder data/). Both give the same tree.

The command can be stopped or killed at any time. Repeated, it writes only the files that are missing or differ in size
from the archives. The MD5 checksums of the archives are verified once, before extraction, and noted in
TARGET/.checksums.json. None are published for the parquet files, but their pages contain checksums. Requires
pip install -e '.[prepare]'.

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
