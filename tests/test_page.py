"""The report's page in a real browser, offline."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.page_browser import SETTLED, Open, needs_browser, pixels
from support.page_runs import make_run, tab_of

from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.page.page import write_page
from ranger21.report.page.sections import Tab, comparison_tab
from ranger21.report.runs.finding import find_runs


def lines_of(page: Any, metric: str) -> list[dict[str, Any]]:
    """Return a panel's lines as drawn."""
    return list(
        page.evaluate(
            """metric => plotted(metric).lines.map(({ group, run, n, curve }) => ({
                group: group.label, seed: run?.seed ?? null, n, x: Array.from(curve.x), y: Array.from(curve.y) }))""",
            metric,
        )
    )


def choose(page: Any, name: str, value: str) -> None:
    page.locator(f'[name="{name}"][value="{value}"] + span').click()


@needs_browser
def test_the_page_shows_its_panels_links_and_tables(two: Path, show: Open) -> None:
    page = show(two)
    metrics = page.eval_on_selector_all("figure", "found => found.map(figure => figure.dataset.metric)")
    assert metrics == ["val/acc1", "val/loss", "train/loss", "lr", "grad_norm", "perf/images_per_s"]
    assert page.locator("#panels h2").all_inner_texts()[:2] == ["VALIDATION", "TRAINING"]
    assert page.get_attribute("nav a", "href") == "claims.md"
    assert "81.00 ± 1.00" in page.inner_text("table.results")
    assert page.locator("table.all-runs tbody tr").count() == 7
    listed = page.locator("#groups .group-name").all_inner_texts()
    assert "n = 2" in listed[1]
    assert "seeds 0 1 2× 3○" in listed[1]
    assert page.inner_text("#key").startswith("× diverged run; ○ running or stopped run; n is the number")
    runs = page.locator("#groups details li").all_text_contents()
    assert runs[4:6] == ["seed 1 resnet50-ranger21-s1", "seed 2 × diverged resnet50-ranger21-s2"]
    spoken = page.get_attribute('figure[data-metric="val/acc1"] .plot', "aria-label")
    assert "against epoch. Last values: adamw · n = 3: 81.00; ranger21 · n = 2: 90.50; ranger21 · seed 2 ×: " in spoken


@needs_browser
def test_dark_mode_has_its_own_colours(two: Path, show: Open) -> None:
    page = show(two)
    assert page.evaluate("DATA.groups.map(colourOf)") == ["#0072B2", "#CC4400"]
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("DATA.groups.map(colourOf)") == ["#4DACE8", "#FF8534"]


@needs_browser
def test_a_group_can_be_hidden_and_shown_again(two: Path, show: Open) -> None:
    page = show(two)
    before = pixels(page, "val/acc1")
    page.click("#groups .label >> nth=0")
    page.mouse.move(5, 5)
    assert {line["group"] for line in lines_of(page, "val/acc1")} == {"ranger21"}
    assert pixels(page, "val/acc1") != before
    page.focus("#groups input >> nth=0")
    page.keyboard.press("Space")
    page.evaluate("document.activeElement.blur()")
    assert pixels(page, "val/acc1") == before
    page.fill("#filter", "RANGER")
    assert {line["group"] for line in lines_of(page, "val/acc1")} == {"ranger21"}


@needs_browser
def test_the_scale_of_one_panel_and_of_all_panels_can_be_switched(two: Path, show: Open) -> None:
    page = show(two)
    linear = pixels(page, "grad_norm"), pixels(page, "val/acc1")
    page.click('figure[data-metric="val/acc1"] .scale')
    page.mouse.move(5, 5)
    assert pixels(page, "val/acc1") != linear[1]
    page.click('[data-scale="linear"]')
    page.mouse.move(5, 5)
    assert pixels(page, "val/acc1") == linear[1]
    assert pixels(page, "grad_norm") != linear[0]  # logarithmic by default


@needs_browser
def test_each_x_axis_shows_its_own_values(two: Path, show: Open) -> None:
    page = show(two)
    expected = {"step": 80, "images_seen": 2560, "time": 4 * 100 / 60, "epoch": 4}
    for axis, last in expected.items():
        choose(page, "x", axis)
        curve = lines_of(page, "train/loss")[0]
        assert curve["x"][-1] == pytest.approx(last, rel=1e-5)  # the seeds' times differ; the mean ends with the first
        assert page.evaluate("plotted('train/loss').scales.x.min") == 0


@needs_browser
def test_smoothing_is_debiased_and_does_not_change_validation_curves(two: Path, show: Open) -> None:
    page = show(two, "lines=runs")
    raw, top1 = lines_of(page, "train/loss")[0]["y"], pixels(page, "val/acc1")
    page.locator("[name=smooth]").fill("0.8")
    weights = 0.8 ** np.arange(len(raw))[::-1]
    expected = [np.average(raw[: i + 1], weights=weights[-i - 1 :]) for i in range(len(raw))]
    assert lines_of(page, "train/loss")[0]["y"] == pytest.approx(expected, rel=1e-9)
    page.select_option("[name=kind]", "window")
    page.locator("[name=smooth]").fill("0.05")
    assert lines_of(page, "train/loss")[0]["y"][10] == pytest.approx(statistics.fmean(raw[7:14]))
    assert page.inner_text("#smoothing") == "mean of 7 points"
    assert pixels(page, "val/acc1") == top1


@needs_browser
def test_single_runs_can_be_shown_and_switched_off(two: Path, show: Open) -> None:
    page = show(two)
    mean = lines_of(page, "val/acc1")
    assert [(line["group"], line["seed"], line["n"]) for line in mean] == [
        ("adamw", None, 3), ("ranger21", None, 2), ("ranger21", 2, 1), ("ranger21", 3, 1)
    ]  # fmt: skip
    assert mean[0]["y"] == [66, 71, 76, 81]
    page.click("#groups summary >> nth=0")
    page.click("#groups details input >> nth=2")
    assert lines_of(page, "val/acc1")[0]["y"] == [65.5, 70.5, 75.5, 80.5]
    choose(page, "lines", "runs")
    assert [line["seed"] for line in lines_of(page, "val/acc1")] == [0, 1, 0, 1, 2, 3]


@needs_browser
def test_hovering_shows_the_values(two: Path, show: Open) -> None:
    page = show(two)
    at = page.evaluate("(() => { const u = plotted('val/acc1'); return u.valToPos(3, 'x'); })()")
    over = page.locator('figure[data-metric="val/acc1"] .u-over')
    over.hover(position={"x": at, "y": 60})
    tip = page.inner_text("#tooltip").replace("\t", " ").replace("\n", " ")
    assert tip.startswith("epoch 3")
    assert "adamw · n = 3 76.00 ± 1.00" in tip
    assert f"ranger21 · n = 2 85.50 ± {statistics.stdev([85, 86]):.2f}" in tip
    assert "seed 2" not in tip  # its curve ends earlier
    synced = "panels.filter(({ plot }) => Math.abs(plot?.posToVal(plot.cursor.left, 'x') - 3) < 0.05).length"
    assert page.evaluate(synced) == 6
    choose(page, "band", "range")
    page.focus('figure[data-metric="val/acc1"] .plot')
    page.keyboard.press("ArrowRight")
    assert "adamw · n = 3 66.00 (65.00 – 67.00)" in page.inner_text("#tooltip").replace("\t", " ")


@needs_browser
@pytest.mark.parametrize("size", [(1400, 900), (390, 844)])
def test_the_first_screen_shows_a_sentence_for_each_pair_and_the_results(
    two: Path, show: Open, size: tuple[int, int]
) -> None:
    page = show(two)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("scrollTo(0, 0)")
    assert "Cannot tell whether adamw is better than ranger21" in page.inner_text(".verdicts")
    bottoms = page.eval_on_selector_all(".verdicts, .results", "all => all.map(e => e.getBoundingClientRect().bottom)")
    assert 0 < max(bottoms) < size[1]
    cell = page.locator(".results tbody tr:first-child td:nth-child(2)").bounding_box()
    assert cell["x"] + cell["width"] <= size[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@needs_browser
@pytest.mark.parametrize(("paper", "scheme"), [("A4", "dark"), ("Letter", "light")])
def test_on_paper_the_table_is_readable_and_the_curves_are_not_pixels(
    tmp_path: Path, browser: Any, paper: str, scheme: str
) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2", reason="needs pip install pypdfium2")
    for optimizer in ("adamw", "nesterov", "ranger21_official"):
        make_run(tmp_path / "runs", optimizer, 0)
        make_run(tmp_path / "runs", optimizer, 1)
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path / "runs")]).runs)
    page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page.goto(write_page([comparison_tab(comparison)], tmp_path, title="Paper").as_uri())
    sheets = list(pypdfium2.PdfDocument(page.pdf(format=paper)))
    page.close()
    texts = [sheet.get_textpage().get_text_range() for sheet in sheets]
    table = "group final top-1 (%) 95 % interval n seeds best top-1 (%)"
    assert table in texts[0] and "ranger21_official 80.50 ± 0.71 74.15 to 86.85 2 0, 1" in texts[0]
    everything = "\n".join(texts)
    assert "Filter groups" not in everything and "x axis" not in everything
    assert everything.count("epoch\r\n0") == 6  # the axis of each panel, as text
    for sheet in sheets:  # dark ink on white paper, and nothing beyond the margins of 12 mm
        picture = np.asarray(sheet.render(scale=2).to_pil().convert("L"))
        margin = round(11 / 25.4 * 72 * 2)
        inside = picture[margin:-margin, margin:-margin]
        assert picture.sum() - inside.sum() == 255 * (picture.size - inside.size) and (inside < 128).mean() < 0.2


@needs_browser
def test_each_comparison_has_its_own_tab(tmp_path: Path, show: Open) -> None:
    make_run(tmp_path / "first", "adamw")
    make_run(tmp_path / "first", "ranger21")
    make_run(tmp_path / "second", "lion")
    tabs = [Tab("overview", "Overview", (), "<p>all</p>")]
    for place, key in (("first", "a b"), ("second", "c&d")):
        tabs.append(replace(tab_of(tmp_path / place, f"<p>answer of {place}</p>"), key=key, title=place))
    page = show(write_page(tabs, tmp_path, title="Three"))
    assert page.inner_text("#answers").strip() == "all" and not page.is_visible("#panels")
    page.click("[role=tab] >> nth=2")
    assert page.inner_text("#answers").strip() == "answer of second"
    assert [line["group"] for line in lines_of(page, "val/acc1")] == ["lion"]
    page.wait_for_url(re.compile("tab=c"))
    again = show(tmp_path / "index.html", page.evaluate("location.hash.slice(1)"))
    assert again.inner_text("[aria-selected=true]") == "second"
    again.focus("[aria-selected=true]")
    again.keyboard.press("ArrowLeft")
    assert {line["group"] for line in lines_of(again, "val/acc1")} == {"adamw", "ranger21"}


@needs_browser
def test_ticks_are_round_and_distinct_and_no_percentage_exceeds_100(two: Path, show: Open) -> None:
    page = show(two)
    line = "{ curve: { y: [99, 99.9] }, band: { low: [98, 99.4], high: [99.5, 100] }, span: [0, 1] }"
    assert page.evaluate(f"yRange([{line}], false, '%')")[1] <= 100
    band = page.evaluate("bandOf({ n: 2, curve: { y: [99.9], sd: [0.8] } }, '%')")
    assert band == {"low": [pytest.approx(99.1)], "high": [100]}
    assert page.evaluate("tickTexts(evenTicks(0.1, 0.5, 4))") == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    assert page.evaluate("evenTicks(0, 3, 9, 1)") == [0, 1, 2, 3]
    texts = page.evaluate("tickTexts(evenTicks(1234567, 1234570, 3))")
    assert len(set(texts)) == len(texts) >= 3


@needs_browser
def test_a_tap_shows_the_values_until_a_tap_elsewhere(two: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(two.as_uri())
    over = page.locator('figure[data-metric="val/acc1"] .u-over')
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.7, box["y"] + 60)
    page.wait_for_selector("#tooltip:not([hidden])")
    page.wait_for_timeout(100)
    assert "adamw · n = 3" in page.inner_text("#tooltip")
    small = page.eval_on_selector_all(
        "button, select, [role=tab], .options span, .group-name",
        "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height < 40).map(e => e.outerHTML)",
    )
    assert small == []
    page.touchscreen.tap(box["x"] + 20, max(box["y"] - 50, 2))
    page.wait_for_selector("#tooltip", state="hidden")
    context.close()


@needs_browser
def test_the_view_is_stored_in_the_address(two: Path, show: Open) -> None:
    page = show(two)
    choose(page, "x", "time")
    page.click("#groups .label >> nth=0")
    page.click('figure[data-metric="lr"] .title')
    over = page.locator('figure[data-metric="train/loss"] .u-over')
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 50, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("zoom"))
    view, zoom = "JSON.stringify([view.x, [...view.hidden], [...view.wide], toFragment()])", page.evaluate("view.zoom")
    again = show(two, page.evaluate("location.hash.slice(1)"))
    assert again.evaluate(view) == page.evaluate(view)
    assert again.evaluate("view.zoom") == pytest.approx(zoom, rel=1e-4)
    again.evaluate("panels.forEach(({ panel }) => plotted(panel.metric))")
    again.evaluate(SETTLED)
    assert again.evaluate("panels.every(({ plot }) => plot.scales.x.min === view.zoom[0])")
    over.dblclick()
    assert page.evaluate("view.zoom") is None
    page.click("#reset")
    page.wait_for_url(re.compile("#$"))


@needs_browser
def test_hostile_strings_are_shown_as_text(tmp_path: Path, show: Open) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{data}}"
    make_run(tmp_path / "runs")
    run = make_run(tmp_path / "runs", name="<img src=y onerror=alert(3)>")
    (run / "config.yaml").write_text(json.dumps({"seed": 0, "optimizer": {"name": attack, "note": attack}}))
    tab = tab_of(tmp_path / "runs", "<p id='ready'>as it is</p>")
    page = show(write_page([replace(tab, key=attack, title=attack)], tmp_path, title=attack, links=[attack]))
    assert page.title() == page.inner_text("h1") == attack
    assert attack in page.locator("#groups .label").all_inner_texts()[0]
    assert page.locator("img").count() == 0
    assert page.locator("figure").count() == 6
    assert page.inner_text("#ready") == "as it is"
    page.hover('figure[data-metric="val/acc1"] .u-over')
    assert attack in page.inner_text("#tooltip")


@needs_browser
def test_a_page_of_running_runs_loads_itself_again_and_keeps_the_view(two: Path, show: Open) -> None:
    tab = tab_of(two.parent / "runs")
    page = show(write_page([tab], two.parent, title="Running", reload=2.0), "x=epoch")
    assert page.inner_text("#watch") == "reloads every 2 s"
    with page.expect_navigation():
        pass  # the page navigates by itself
    assert page.evaluate("performance.getEntriesByType('navigation')[0].type") == "reload"
    assert page.evaluate("location.hash") == "#x=epoch" and page.evaluate("view.x") == "epoch"
    write_page([tab], two.parent, title="Ended")
    with page.expect_navigation():
        pass
    assert page.title() == "Ended" and page.is_hidden("#watch")


@needs_browser
def test_a_page_of_fifty_long_runs_is_small_and_opens_fast(
    tmp_path: Path, show: Open, record_property: Callable[..., None]
) -> None:
    more = ("train/acc1", "batch_size", "perf/data_wait", "perf/gpu_memory_gb", "data/substituted")
    for index in range(50):
        make_run(tmp_path / "runs", f"optimizer{index // 5}", index % 5, epochs=60, logged=20, more=more)
    path = write_page([tab_of(tmp_path / "runs")], tmp_path, title="Fifty")
    size = path.stat().st_size
    page = show(path)
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    page.evaluate(SETTLED)
    drawn = page.evaluate("performance.now()")
    for name, value in (("bytes", size), ("loaded_ms", loaded), ("drawn_ms", drawn)):
        record_property(name, value)
    assert size < 6_000_000
    assert 0 < loaded < 10_000  # it was far less when measured, but machines are noisy
    assert page.evaluate("panels.every(({ panel }) => plotted(panel.metric).lines.length === 10)")
