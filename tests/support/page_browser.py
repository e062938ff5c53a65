"""A browser that opens pages of the report offline, and what the tests of the page share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.page.page import write_page
from ranger21.report.page.sections import comparison_tab
from ranger21.report.runs.finding import find_runs
from support.page_runs import make_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: apt-get install chromium (and pip install playwright)"
)
SETTLED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"  # everything is drawn

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Open]:
    """Open pages; at teardown, check that they made no network request and logged no message or error."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True)
    context.set_default_timeout(15_000)
    requests: list[str] = []
    complaints: list[str] = []

    def open_page(path: Path, fragment: str = "") -> Any:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(f"{path.as_uri()}#{fragment}")
        return page

    yield open_page
    context.close()
    assert [url for url in requests if not url.startswith(("file://", "data:"))] == []
    assert complaints == []


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A page of two groups: three AdamW runs; and Ranger21 with two finished runs, a diverged and a running one."""
    for seed in range(3):
        make_run(tmp_path / "runs", "adamw", seed)
    for seed, status in enumerate(("finished", "finished", "diverged", "running")):
        spike = 1e12 if status == "diverged" else None
        make_run(tmp_path / "runs", "ranger21", seed, status=status, spike=spike, epochs=4 if seed < 2 else 2)
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path / "runs")]).runs)
    return write_page([comparison_tab(comparison)], tmp_path, title="Two", links=["claims.md"])


def pixels(page: Any, metric: str) -> str:
    """Return a panel's picture."""
    page.evaluate(SETTLED)
    return str(page.evaluate("metric => plotted(metric).ctx.canvas.toDataURL()", metric))
