#!/usr/bin/env python
"""Sort ImageNet, as it is downloaded, into the folders train/WNID and val/WNID.

SOURCE is a folder with the three official archives of https://image-net.org (ILSVRC2012_img_train.tar,
ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz) or with the parquet files of Hugging Face's imagenet-1k
(train-*.parquet and validation-*.parquet, perhaps in its folder data/); of either, the same tree comes out. It may be
stopped or killed at any moment: the same command again does only what is missing, or has another size than in the
archives. The archives' published MD5 is compared before they are read from, once (TARGET/.checksums.json notes it); of
the parquet files none is published: their pages have checksums. Needs: pip install -e '.[prepare]'

  python scripts/prepare_imagenet.py ~/downloads /data/imagenet
  python scripts/prepare_imagenet.py ~/imagenet-1k/data /data/imagenet --processes 16
  python scripts/verify_imagenet.py /data/imagenet                                     afterwards: decode every image
"""

import argparse

import _installed

from ranger21.config.arguments import Parser, as_path
from ranger21.config.ending import ending_well
from ranger21.data.checksums import MD5
from ranger21.data.prepare import prepare
from ranger21.system.processes import add_processes_option, require_processes


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=as_path, help="the folder with the downloaded files, which are left as they are")
    parser.add_argument("target", type=as_path, help="the folder for train/ and val/")
    parser.add_argument(
        "--no-checksums", action="store_true", help="do not compare the archives with their published MD5"
    )
    add_processes_option(parser)
    args = parser.parse_args()
    with ending_well("goes on from here"):
        require_processes(args.processes)
        prepare(args.source, args.target, args.processes, None if args.no_checksums else MD5)


if __name__ == "__main__":
    main()
