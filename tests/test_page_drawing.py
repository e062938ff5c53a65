"""How the report's page computes and draws its curves, and what it draws again when the view changes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.page_browser import SETTLED, Open, needs_browser

from ranger21.report.figures.curves import average


@needs_browser
def test_a_constant_curve_has_few_ticks_even_if_it_is_not_constant_to_the_last_digit(two: Path, show: Open) -> None:
    page = show(two)
    constant = "{ curve: { y: [0.003, 0.1 * 0.03, 0.003 - 4e-19] }, band: null, span: [0, 2] }"
    low, high = page.evaluate(f"yRange([{constant}], false, '')")
    assert low < 0.0029 and high > 0.0031
    assert 1 < page.evaluate(f"evenTicks({low}, {high}, 7).length") < 20
    assert page.evaluate("evenTicks(1, 1 + 1e-15, 7).length") < 20


@needs_browser
def test_only_the_panels_that_change_are_drawn_again_and_each_once(two: Path, show: Open) -> None:
    page = show(two)
    page.evaluate("document.getElementById('curves').scrollIntoView()")
    page.evaluate(SETTLED)
    page.evaluate("drawn = [], own = makePlot, makePlot = (...all) => (drawn.push(all[0].metric), own(...all)), 0")

    def drawn() -> list[str]:
        page.evaluate(SETTLED)
        return sorted(page.evaluate("drawn.splice(0)"))

    everything = sorted(page.evaluate("panels.filter(({ seen }) => seen).map(({ panel }) => panel.metric)"))
    assert drawn() == [] and len(everything) == 6
    page.click('figure[data-metric="train/loss"] .scale')
    assert drawn() == ["train/loss"]
    page.locator("[name=smooth]").fill("0.8")
    assert drawn() == ["grad_norm", "perf/images_per_s", "train/loss"]  # validation curves are not smoothed
    box = page.locator('figure[data-metric="train/loss"] .u-over').bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 50, steps=4)
    page.mouse.up()
    assert drawn() == everything  # although the selection shows in all of them
    page.hover("#groups .label >> nth=0")
    assert drawn() == []


@needs_browser
def test_a_line_of_many_points_is_drawn_with_the_extremes_of_each_two_pixels(two: Path, show: Open) -> None:
    places = [[x / 10, float(y)] for x, y in enumerate(np.random.default_rng(0).normal(size=400))]
    kept = show(two).evaluate("places => extremes(places, 2)", places)
    assert kept == sorted(kept) and len(kept) == 40 and all(place in places for place in kept)
    for column in range(20):
        own, all_of_it = ([y for x, y in some if x // 2 == column] for some in (kept, places))
        assert (min(own), max(own)) == (min(all_of_it), max(all_of_it))


@needs_browser
def test_the_page_stays_where_it_is_when_the_address_returns_to_the_default(two: Path, show: Open) -> None:
    page = show(two, "x=time")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    place = page.evaluate("scrollY")
    page.evaluate("change({ x: 'epoch' })")
    page.wait_for_url(re.compile("#$"))
    assert page.evaluate("scrollY") == place > 0


@needs_browser
def test_the_page_averages_curves_like_the_figures(two: Path, show: Open) -> None:
    draw = np.random.default_rng(0)
    curves = [(np.sort(draw.uniform(0, 9, size)), draw.normal(size=size)) for size in (7, 30, 31)]
    given = [{"x": x.tolist(), "y": y.tolist()} for x, y in curves]
    found = show(two).evaluate(
        "curves => { const { x, y, low, high } = averaged(curves); return [Array.from(x), y, low, high]; }", given
    )
    for values, expected in zip(found, average(curves), strict=True):
        assert values == pytest.approx(expected.tolist(), rel=1e-12)


@needs_browser
def test_a_diverged_run_does_not_stretch_the_axis(two: Path, show: Open) -> None:
    page = show(two)
    assert page.evaluate("plotted('train/loss').scales.y.max") < 10
