#!/usr/bin/env python
"""Look at every file of a data set, decode every image, and tell what is wrong: exit code 1 if anything is.

ROOT holds train/ and val/, with a folder for each class in both. Wrong are: images that cannot be read, classes that
are empty or in one split only, files that are no images, links that lead nowhere, and counts that are not ImageNet's.
Told as well, though the loader copes with it: CMYK, grey, 16 bits, palettes, EXIF, a PNG under a JPEG's name; and the
hidden files and folders, which are passed over.

  python scripts/verify_imagenet.py /data/imagenet
  python scripts/verify_imagenet.py /data/imagenet --json imagenet.json --processes 16
  python scripts/verify_imagenet.py /data/flowers --expect none                            any other folder of classes
"""

import argparse
import json
import sys
from typing import Any

import _installed
from rich.table import Table
from rich.text import Text

from ranger21.config.arguments import Parser, as_path
from ranger21.config.ending import ending_well
from ranger21.data.verify import NOTICES, WRONG, verify
from ranger21.system.errors import UserError
from ranger21.system.files import require_writable, write_atomically
from ranger21.system.processes import add_processes_option, require_processes
from ranger21.system.terminal import console
from ranger21.system.wording import printable

LINES_OF_A_KIND = 20  # that are shown; the JSON file has all


def overview(report: dict[str, Any]) -> Table:
    table = Table("", *report["splits"], box=None, pad_edge=False)
    for key in ("classes", "images"):
        table.add_row(key, *(f"{split[key]:,}" for split in report["splits"].values()))
    for key in ("smallest", "largest"):
        cells = [f"{printable(split[key]['class'])} ({split[key]['images']:,})" for split in report["splits"].values()]
        table.add_row(f"{key} class", *map(Text, cells))
    for kind, title in (WRONG | NOTICES).items():
        files = [entry["file"] for entry in (report["wrong"] | report["notices"])[kind]]
        counts = [sum(file.partition("/")[0] == split for file in files) for split in report["splits"]]
        if any(counts):
            table.add_row(title, *(f"{count:,}" for count in counts), style="red" if kind in WRONG else "")
    return table


def show(report: dict[str, Any]) -> None:
    console.print(overview(report))
    for part, titles in (("notices", NOTICES), ("wrong", WRONG)):
        for kind, title in titles.items():
            entries = report[part][kind]
            lines = [f"  {entry['file']}: {entry['why']}" for entry in entries[:LINES_OF_A_KIND]]
            if len(entries) > LINES_OF_A_KIND:
                lines.append(f"  and {len(entries) - LINES_OF_A_KIND:,} more, all of which --json FILE has")
            if entries:
                head = f"\n{'WRONG' if part == 'wrong' else 'notice'}: {title} ({len(entries):,})"
                console.print(printable("\n".join([head, *lines])), markup=False, soft_wrap=True)
    number = sum(map(len, report["wrong"].values()))
    verdict = "nothing is wrong" if report["ok"] else f"wrong: {number:,} {'thing' if number == 1 else 'things'}"
    console.print(printable(f"\n{report['root']}: {verdict}"), markup=False, soft_wrap=True)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=as_path, help="the folder that holds train/ and val/")
    parser.add_argument("--expect", choices=["imagenet", "none"], default="imagenet", help="(default: %(default)s)")
    parser.add_argument("--json", type=as_path, metavar="FILE", help="write the whole report to FILE")
    add_processes_option(parser)
    args = parser.parse_args()
    with ending_well("begins anew"):
        require_processes(args.processes)
        if args.json is not None:
            try:
                require_writable(args.json)  # rather now than in an hour
            except OSError as error:
                raise UserError(f"--json={args.json} cannot be written ({error.strerror}).") from error
        report = verify(args.root, args.expect, args.processes)
        if args.json is not None:
            write_atomically(args.json, json.dumps(report, indent=2) + "\n")
        show(report)
        sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
