"""The Markdown tables of docs/gpu.md about kernels, launches and bytes."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LAUNCH_SECONDS = 5e-6
BANDWIDTHS = {"0.9 TB/s": 0.9e12, "2.0 TB/s": 2.0e12, "3.35 TB/s": 3.35e12}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with all columns except the first aligned to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def milliseconds(launches: int, size: float, bandwidth: float) -> float:
    """Return the time for launches plus memory traffic in ms, by arithmetic, not by measurement."""
    return 1e3 * (launches * LAUNCH_SECONDS + size / bandwidth)


def of_times(rows: Iterable[tuple[str, int, float]]) -> str:
    """Return the table of times at several bandwidths; a row is a name, launches and bytes."""
    heads = ("per step", "launches", "GB", *(f"ms at {name}" for name in BANDWIDTHS))
    return table(heads, (_times(*row) for row in rows))


def _times(name: str, launches: int, size: float) -> tuple[str, ...]:
    times = (f"{milliseconds(launches, size, bandwidth):.2f}" for bandwidth in BANDWIDTHS.values())
    return name, f"{launches:,}", f"{size / 1e9:.3f}", *times


def of_steps(rows: Iterable[tuple[str, Sequence[tuple[int, float]]]], models: Sequence[str]) -> str:
    """Return the table of launches and passes; a row is a name and, for each model, launches and passes."""
    heads = ("optimizer", *(f"{model}: {what}" for model in models for what in ("launches", "passes")))
    return table(heads, ((name, *itertools.chain(*map(_step, costs))) for name, costs in rows))


def _step(cost: tuple[int, float]) -> tuple[str, str]:
    return f"{cost[0]:,}", f"{cost[1]:.2f}"


def section(text: str, name: str) -> str:
    """Return the text between `<!-- NAME: … -->` and `<!-- end -->` in a page.

    Raises:
        ValueError: unless the page has exactly one such section.
    """
    found = list(_places(text, name))
    if len(found) != 1:
        raise ValueError(f"the page has {len(found)} sections {name}")
    return found[0].group(2).strip()


def replaced(text: str, name: str, content: str) -> str:
    """Return a page with the content of a section replaced."""
    section(text, name)
    (place,) = _places(text, name)
    return f"{text[: place.start(2)]}\n{content.strip()}\n{text[place.end(2) :]}"


def _places(text: str, name: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"<!-- {re.escape(name)}(:[^>]*)? -->(.*?)<!-- end -->", text, re.DOTALL)


def write(page: Path, sections: dict[str, str]) -> None:
    """Replace sections of a page on disk."""
    text = page.read_text()
    for name, content in sections.items():
        text = replaced(text, name, content)
    page.write_text(text)
