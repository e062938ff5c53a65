#!/usr/bin/env python
"""Photograph a page of `scripts/compare.py` with a headless Chromium that has no network.

    python scripts/screenshot_page.py outputs/compare/index.html page.png
    python scripts/screenshot_page.py outputs/compare/index.html dark.png --dark --view "x=time&lines=runs"
    python scripts/screenshot_page.py outputs/compare/index.html phone.png --width 390 --full

Needs `pip install playwright` (its own browser is not needed) and a Chromium, such as Debian's package `chromium`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, metavar="PAGE.html")
    parser.add_argument("picture", type=Path, metavar="OUT.png")
    parser.add_argument("--width", type=int, default=1400, help="of the window, in pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1050, help="of the window, in pixels (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="the whole page, not what fits into the window")
    parser.add_argument("--dark", action="store_true", help="as with a dark desktop")
    parser.add_argument("--view", default="", help="the part of the page's address after #")
    parser.add_argument("--hover", default="", metavar="METRIC", help="with the pointer over this metric's panel")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"error: none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return 1
    photograph(browser, options)
    return 0


def photograph(browser: str, options: argparse.Namespace) -> None:
    """Open the page, and write the picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme="dark" if options.dark else "light",
        )
        page.context.set_offline(True)
        page.goto(f"{options.page.resolve().as_uri()}#{options.view}")
        if options.full:
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": options.width, "height": height})
        if options.hover:
            page.hover(f'figure[data-metric="{options.hover}"] .plot')
        page.wait_for_timeout(400)
        page.screenshot(path=options.picture)
        chromium.close()


if __name__ == "__main__":
    sys.exit(main())
