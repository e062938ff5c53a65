#!/usr/bin/env python
"""Check every file of a dataset, decode every image, and report problems. The exit code is 1 if there are any.

ROOT contains train/ and val/, each with a folder per class. Problems are: unreadable images, classes that are empty or
in one split only, files that are not images, broken links, and counts that differ from ImageNet's. Also reported,
although the loader handles them: CMYK, grayscale, 16-bit and palette images, EXIF data, PNG files with a JPEG name; and
hidden files and folders, which are ignored.

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

LINES_OF_A_KIND = 20  # shown per kind; the JSON file has all


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
                lines.append(f"  and {len(entries) - LINES_OF_A_KIND:,} more (use --json FILE for all)")
            if entries:
                head = f"\n{'WRONG' if part == 'wrong' else 'notice'}: {title} ({len(entries):,})"
                console.print(printable("\n".join([head, *lines])), markup=False, soft_wrap=True)
    number = sum(map(len, report["wrong"].values()))
    verdict = "no problems" if report["ok"] else f"{number:,} {'problem' if number == 1 else 'problems'}"
    console.print(printable(f"\n{report['root']}: {verdict}"), markup=False, soft_wrap=True)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=as_path, help="folder that contains train/ and val/")
    text = "compare the counts with ImageNet's, or with none (default: %(default)s)"
    parser.add_argument("--expect", choices=["imagenet", "none"], default="imagenet", help=text)
    parser.add_argument("--json", type=as_path, metavar="FILE", help="write the complete report to FILE")
    add_processes_option(parser)
    args = parser.parse_args()
    with ending_well("starts over"):
        require_processes(args.processes)
        if args.json is not None:
            try:
                require_writable(args.json)  # before the long work
            except OSError as error:
                raise UserError(f"--json={args.json} cannot be written ({error.strerror}).") from error
        report = verify(args.root, args.expect, args.processes)
        if args.json is not None:
            write_atomically(args.json, json.dumps(report, indent=2) + "\n")
        show(report)
        sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
