#!/usr/bin/env python
"""Take a screenshot of a page written by `scripts/compare.py`, with a headless Chromium without network access.

    python scripts/screenshot_page.py outputs/compare/index.html page.png
    python scripts/screenshot_page.py outputs/compare/index.html dark.png --dark --view "x=time&lines=runs"
    python scripts/screenshot_page.py outputs/compare/index.html phone.png --width 390 --full
    python scripts/screenshot_page.py outputs/compare/index.html print.png --paper A4

Needs `pip install playwright` (its own browser is not needed) and a Chromium, such as Debian's package `chromium`; for
--paper also `pip install pypdfium2`.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import _installed

from ranger21.config.arguments import Parser, as_path
from ranger21.config.ending import ending_well
from ranger21.report.page.browser import address, chromium, write_picture
from ranger21.system.checks import require
from ranger21.system.errors import UserError

SHARPNESS, GAP = 1.4, 12  # pixels of a sheet per point of its size, and between two sheets


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=as_path, metavar="PAGE.html")
    parser.add_argument("picture", type=as_path, metavar="OUT.png")
    parser.add_argument("--width", type=int, default=1400, help="window width in pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1050, help="window height in pixels (default: %(default)s)")
    parser.add_argument(
        "--full", action="store_true", help="the whole page, not only the part that fits into the window"
    )
    parser.add_argument(
        "--paper", choices=["A4", "Letter"], help="print the page, and show its first two sheets (with --full, all)"
    )
    parser.add_argument("--dark", action="store_true", help="use the dark colour scheme")
    parser.add_argument("--view", default="", help="the part of the page's address after #")
    parser.add_argument("--hover", default="", metavar="METRIC", help="place the pointer over this metric's panel")
    options = parser.parse_args()
    with ending_well("starts over"):
        for name in ("width", "height"):
            require(getattr(options, name) >= 1, f"--{name}", getattr(options, name), "at least 1")
        require(options.picture.suffix in (".png", ".jpg"), "OUT.png", options.picture, "a .png or .jpg")
        if options.paper and options.hover:
            raise UserError("--paper and --hover cannot be combined: a printed page has no pointer.")
        if not options.page.is_file():
            raise UserError(f"There is no page {options.page}. python scripts/compare.py writes one.")
        photograph(options)


def photograph(options: argparse.Namespace) -> None:
    """Open the page in a browser, and write the screenshot."""
    with chromium(f"take a screenshot of {options.page}") as browser:
        page = browser.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme="dark" if options.dark else "light",
        )
        take(page, options)


def take(page: Any, options: argparse.Namespace) -> None:
    """Take the screenshot in an empty page of the browser."""
    page.context.set_offline(True)
    page.goto(address(options.page, options.view))
    if options.full:
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": options.width, "height": height})
    if options.hover:
        metrics = page.eval_on_selector_all("[data-metric]", "figures => figures.map(f => f.dataset.metric)")
        shown = f"a metric of the page, which shows {', '.join(metrics) or 'none'}"
        require(options.hover in metrics, "--hover", options.hover, shown)
        page.hover(f'figure[data-metric="{options.hover}"] .plot')
    page.wait_for_timeout(400)
    write_picture(sheets(page, options) if options.paper else page.screenshot(), options.picture)


def sheets(page: Any, options: argparse.Namespace) -> bytes:
    """Print the page, and return a picture of the first two sheets side by side, or of all."""
    try:
        import pypdfium2
    except ImportError as error:
        raise UserError("pypdfium2, which draws printed pages, is not installed: pip install pypdfium2.") from error
    from PIL import Image

    document = pypdfium2.PdfDocument(page.pdf(format=options.paper))
    drawn = [sheet.render(scale=SHARPNESS).to_pil() for sheet in list(document)[: None if options.full else 2]]
    width, height = drawn[0].size
    picture = Image.new("RGB", (len(drawn) * (width + GAP) - GAP, height), "#b0b4ba")
    for place, sheet in enumerate(drawn):
        picture.paste(sheet, (place * (width + GAP), 0))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
