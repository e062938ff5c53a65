#!/usr/bin/env python
"""Measure how long the page of scripts/compare.py needs for each kind of interaction, in a headless Chromium.

python scripts/bench_page.py                                  200 runs of 400 logged lines, as in docs/compare.md
python scripts/bench_page.py --keep outputs/bench_page        and keep the page, to measure it again
python scripts/bench_page.py old/index.html new/index.html    pages made before, measured in turn

The time runs from the input event to the frame after the one in which everything is drawn. A frame takes 16.7 ms, so
even an interaction that draws nothing ("nothing") takes about two frames. Needs playwright and a Chromium, like
scripts/screenshot_page.py.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import _installed
from bench_compare import OPTIMIZERS, draw

from ranger21.config.arguments import Parser, as_folder, as_path, as_whole
from ranger21.config.ending import ending_well
from ranger21.report.page.browser import address, chromium
from ranger21.system.errors import UserError

RATES = [f"{digit}e-{power}" for power in (4, 3, 2) for digit in (1, 3)]  # learning rates, so 30 groups
SCREEN, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}
TIMER = """
window.startAt = (kind) => {
  window.began = kind ? null : performance.now();
  if (kind) addEventListener(kind, event => { window.began ??= event.timeStamp; }, { capture: true, once: true });
};
window.frame = () => new Promise(requestAnimationFrame);
window.elapsed = async () => {
  do { await frame(); await frame(); } while (panels.some(panel => panel.seen && panel.stale));
  return performance.now() - window.began;
};
"""


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=as_path, metavar="PAGE.html", help="measure these pages instead")
    parser.add_argument("--runs", type=as_whole(20), default=200, help="number of runs (default: %(default)s)")
    parser.add_argument("--lines", type=as_whole(), default=400, help="logged lines per run (default: %(default)s)")
    parser.add_argument("--rounds", type=as_whole(), default=5, help="times to measure each (default: %(default)s)")
    parser.add_argument("--keep", type=as_folder, metavar="DIR", help="write the runs and the page here, and keep them")
    options = parser.parse_args()
    with ending_well("starts over"):
        for page in options.pages:
            if not page.is_file():
                raise UserError(f"There is no page {page}. python scripts/compare.py writes one.")
        with contextlib.ExitStack() as stack:
            folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            measure(options.pages or [make_page(folder, options.runs, options.lines)], options.rounds)


def make_page(folder: Path, runs: int, lines: int) -> Path:
    """Write runs of groups with five seeds each, and a second comparison of one run. Return the page of both."""
    from ranger21.report.page.page import write_page
    from ranger21.report.page.sections import comparison_tab, overview_tab
    from ranger21.report.write import examine

    recipes = [(name, rate) for rate in RATES for name in OPTIMIZERS]
    for number in range(runs + 1):
        name, rate = recipes[number // 5 % len(recipes)]
        config = {
            "seed": number % 5 + 5 * (number // 5 // len(recipes)),
            "model": {"name": "resnet50" if number < runs else "resnet18"},
            "optimizer": {"name": name, "lr": float(rate)},
            "data": {"name": "imagenet"},
            "trainer": {"epochs": 10},
        }
        draw(folder / "runs" / str(number), config, number, lines)
    comparisons = sorted(examine([str(folder / "runs")]).comparisons, key=lambda one: -len(one.runs))
    tabs = [*map(comparison_tab, comparisons), overview_tab(comparisons, [], [])]
    return write_page(tabs, folder, title=f"{runs} runs")


def measure(pages: list[Path], rounds: int) -> None:
    """Measure all interactions on each page in turn, `rounds` times, and print a table."""
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in pages])
    with chromium(f"open {pages[0]}") as browser:
        for _ in range(rounds):
            for place, page in enumerate(pages):
                for name, spent in interactions(browser, page):
                    found[name][place].append(spent)
        window = f"{SCREEN['width']} × {SCREEN['height']} pixels"
        print(f"Chromium {browser.version}, {window}; milliseconds: median (range), n")
    for name, times in found.items():
        told = [f"{statistics.median(some):5.0f} ({min(some):.0f} to {max(some):.0f}), {len(some)}" for some in times]
        print(f"{name:42} " + "   ".join(f"{text:26}" for text in told))


class Reader:
    """Somebody who uses a page: acts, and times each act."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def timed(self, act: Callable[[], object], event: str = "") -> float:
        """Return the milliseconds from the event that an act causes (or from its beginning) until all is drawn."""
        self.settle()
        return self._time(act, event)

    def click(self, selector: str) -> float:
        """Return the time of a click, without the time of pointing at the element before."""
        self.settle()
        self.page.hover(selector)
        self.page.evaluate("startAt(''), elapsed()")
        return self._time(lambda: (self.page.mouse.down(), self.page.mouse.up()), "click")

    def point(self, selector: str, share: float = 0.5) -> float:
        """Return the time of moving the pointer to a place in an element: a share of its width from the left."""
        self.settle()
        box = self.page.locator(selector).bounding_box()
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        return self._time(lambda: self.page.mouse.move(x, y), "pointermove")

    def settle(self) -> None:
        """Scroll to the curves, and wait until they are drawn."""
        self.page.evaluate("document.getElementById('curves').scrollIntoView(), startAt(''), elapsed()")

    def _time(self, act: Callable[[], object], event: str) -> float:
        self.page.evaluate("kind => startAt(kind)", event)
        act()
        return float(self.page.evaluate("elapsed()"))

    def script(self, code: str) -> float:
        """Return the time of a script, for acts that no input event causes."""
        return self.timed(lambda: self.page.evaluate(code))


def interactions(browser: Any, path: Path) -> Iterator[tuple[str, float]]:
    """Open a page, use it, and yield the name and the milliseconds of each interaction."""
    for lines, told in (("mean", ""), ("runs", ", single runs")):
        page = browser.new_page(viewport=SCREEN)
        page.add_init_script(TIMER)
        page.goto(address(path, f"lines={lines}"))
        yield f"open{told}", page.evaluate("began = 0, elapsed()")
        reader = Reader(page)
        for name, spent in [*of_the_pointer(reader), *of_the_controls(reader), *of_the_window(reader)]:
            yield name + told, spent
        page.close()
        page = browser.new_page(viewport=PHONE, has_touch=True, is_mobile=True)
        page.add_init_script(TIMER)
        page.goto(address(path, f"lines={lines}"))
        plot = page.locator(".plot").first
        plot.scroll_into_view_if_needed()
        page.evaluate("startAt(''), elapsed()")
        yield f"tap{told}", Reader(page).timed(plot.tap, "pointerup")
        page.close()


def of_the_pointer(reader: Reader) -> Iterator[tuple[str, float]]:
    """Yield the times of pointing, of dragging to zoom, and of zooming out."""
    yield "nothing", reader.timed(lambda: None)
    for share in (0.3, 0.7):
        yield "point at a curve", reader.point(".u-over >> nth=0", share)
    for number in (1, 2, 3):
        yield "point at a group in the list", reader.point(f".group >> nth={number}", 0.3)
    reader.point(".u-over >> nth=0", 0.2)
    reader.page.mouse.down()
    reader.point(".u-over >> nth=0", 0.6)
    yield "zoom", reader.timed(reader.page.mouse.up, "mouseup")
    yield "zoom out", reader.timed(lambda: reader.page.locator(".u-over").first.dblclick(), "dblclick")


def of_the_controls(reader: Reader) -> Iterator[tuple[str, float]]:
    """Yield the times of the controls, and of the list of groups."""
    for _ in ("hide", "show"):
        yield "hide or show a group", reader.click(".group-name >> nth=1")
    for button in ("#show-none", "#show-all"):
        yield "hide or show all groups", reader.click(button)
    for text in ("adamw", ""):
        yield "filter", reader.timed(partial(reader.page.fill, "#filter", text), "input")
    for axis in ("time", "step", "epoch"):
        yield "x axis", reader.click(f'[name=x][value="{axis}"] + span')
    for band in ("range", "sd"):
        if reader.page.locator(f'[name=band][value="{band}"]').is_enabled():
            yield "band", reader.click(f'[name=band][value="{band}"] + span')
    for scale in ("log", "own"):
        yield "all y axes", reader.click(f'[data-scale="{scale}"]')
        yield "one y axis", reader.click(".scale >> nth=0")
    for kind, key in (("exponential", "ArrowRight"), ("window", "ArrowRight"), ("window", "Home")):
        reader.page.select_option("[name=kind]", kind)
        reader.page.focus("[name=smooth]")
        yield "smoothing", reader.timed(partial(reader.page.keyboard.press, key), "input")
    for _ in ("large", "small"):
        yield "enlarge a panel", reader.click(".title >> nth=0")


def of_the_window(reader: Reader) -> Iterator[tuple[str, float]]:
    """Yield the times of scrolling, tabs, dark mode, another size of the window, and printing."""
    page = reader.page
    yield "scroll to the last panel", reader.script("panels.at(-1).host.scrollIntoView()")
    yield "dark mode", reader.timed(partial(page.emulate_media, color_scheme="dark"))
    yield "before printing", reader.script("dispatchEvent(new Event('beforeprint'))")
    yield "after printing", reader.script("dispatchEvent(new Event('afterprint'))")
    yield "dark mode", reader.timed(partial(page.emulate_media, color_scheme="light"))
    for width in (1200, SCREEN["width"]):
        yield "size of the window", reader.timed(partial(page.set_viewport_size, SCREEN | {"width": width}))
    for tab in (1, 2, 0):
        yield "tab", reader.click(f"[role=tab] >> nth={tab}")


if __name__ == "__main__":
    main()
