"""Start a headless Chromium, and write pictures of what it shows."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium(purpose: str) -> Iterator[Any]:
    """Start a browser, as a context manager that yields playwright's `Browser`.

    Args:
        purpose: what the browser is needed for, for the error: "take a screenshot of index.html".

    Raises:
        UserError: no browser or no playwright is installed, or the browser failed.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError(f"None of {', '.join(BROWSERS)} is installed. On Debian, install the package chromium.")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError("playwright, which drives the browser, is not installed: pip install playwright.") from error
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            yield browser
            browser.close()
    except Error as error:
        raise UserError(f"{found} could not {purpose} ({reason(error)}). Try other options.") from error


def address(page: Path, view: str = "") -> str:
    """Return the address of a page's file, with the part after # that encodes the view."""
    return f"{page.resolve().as_uri()}#{view}"


def write_picture(picture: bytes, path: Path) -> None:
    """Write a picture as a JPEG or, with 256 colours, as a PNG that is a third as large as a browser's."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if path.suffix == ".png":
        image = image.quantize(256, Image.Quantize.FASTOCTREE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
