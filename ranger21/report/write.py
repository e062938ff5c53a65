"""Read runs, compare them, and write the whole report into a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ranger21.report.claims import page as claims_page
from ranger21.report.groups.comparisons import GroupComparison, compare_like_with_like, separation
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables import table
from ranger21.report.tables.text import create, escaped
from ranger21.report.targets import table as targets_table
from ranger21.report.targets.targets import has_targets
from ranger21.report.workloads import text as workloads_text
from ranger21.report.workloads.workloads import Overall, over_workloads

# What comparisons write, besides the folders of figures
NAMES = (
    "index.html", "claims.md", "table.*", "pairs.csv", "targets.*", "workloads*", "ablation*", "tuning*", "compose.md",
    "compose", "power.md",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """The comparisons of all runs.

    Attributes:
        remarks: sentences on runs that cannot be read or are not compared with each other.
    """

    comparisons: list[GroupComparison]
    remarks: list[str]

    @cached_property
    def overall(self) -> Overall | None:
        """The comparison over all workloads; None if no two of them share two optimizers."""
        return over_workloads(self.comparisons)


def examine(patterns: Sequence[str], across: Sequence[str] = (), names: Mapping[str, str] | None = None) -> Report:
    """Read runs and compare those that share a recipe.

    Args:
        patterns: see `find_runs`.
        across, names: see `compare_like_with_like`.

    Raises:
        UserError: no run could be read.
    """
    found = find_runs(patterns)
    comparisons = compare_like_with_like(found.runs, across, names)
    apart = separation(comparisons)
    report = Report(comparisons, [*found.left_out, *([apart] if apart else [])])
    if apart and not report.overall:
        report.remarks.append(
            "No verdict over all comparisons together: no two of them share two optimizers with one group each."
        )
    return report


def write_report(
    report: Report,
    out: Path,
    beside: Sequence[str] = (),
    reload: float | None = None,
    sections: Sequence[tuple[str, str]] = (),
) -> list[Path]:
    """Write tables, claims, figures and the page into `out`. Return the paths a reader should open, the page first.

    Args:
        beside: further files in `out` that the page links to.
        reload: seconds after which an open page loads itself again; None for never.
        sections: further headings and HTML for the page's first tab.
    """
    files = write_tables(report, out)
    folders = [_figures(comparison, out) for comparison in report.comparisons]
    if report.overall:
        _overall_figures(report.overall, out)
    return [_page(report, out, [*files, *beside], reload, sections), *(out / name for name in files), *folders]


def own_files(out: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Return the files and folders in `out` that comparisons write, by name, with the state of each file in them."""
    entries = [entry for pattern in NAMES for entry in out.glob(pattern)]
    found = {}
    for entry in {*entries, *(picture.parent for picture in out.glob("*/*.svg"))}:
        files = [path for path in (entry, *entry.glob("*")) if path.is_file()]
        states = ((path, path.stat()) for path in files)
        found[entry.name] = sorted((path.name, state.st_ino, state.st_mtime_ns) for path, state in states)
    return found


def write_tables(report: Report, out: Path) -> list[str]:
    """Write all Markdown and CSV files into `out`, and return their names."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "claims.md": claims_page.markdown(report.comparisons),
        "table.md": "\n\n".join([*map(escaped, report.remarks), *map(table.markdown, report.comparisons)]),
    }
    if with_targets := [comparison for comparison in report.comparisons if has_targets(comparison)]:
        texts["targets.md"] = targets_table.markdown(with_targets)
    if report.overall:
        texts["workloads.md"] = workloads_text.markdown(report.overall)
    for name, text in texts.items():
        with create(out / name) as file:
            file.write(text)
    table.write_csv(report.comparisons, out / "table.csv")
    table.write_pairs(report.comparisons, out / "pairs.csv")
    files = [*texts, "table.csv", "pairs.csv"]
    if with_targets:
        targets_table.write_csv(with_targets, out / "targets.csv")
        files.append("targets.csv")
    if report.overall:
        files += workloads_text.write_csvs(report.overall, out)
    return files


def _figures(comparison: GroupComparison, out: Path) -> Path:
    """Write the comparison's figures into a folder of its own, and return it."""
    from ranger21.report.figures.gallery import write_gallery  # matplotlib takes a second to import
    from ranger21.report.targets.figure import write_targets_figure

    folder = out / comparison.slug
    folder.mkdir(exist_ok=True)
    write_gallery(comparison, folder)
    write_targets_figure(comparison, folder)
    return folder


def _overall_figures(overall: Overall, out: Path) -> None:
    from ranger21.report.workloads.figures import write_workloads_figures  # matplotlib takes a second to import

    write_workloads_figures(overall, out)


def _page(
    report: Report, out: Path, links: Sequence[str], reload: float | None, sections: Sequence[tuple[str, str]]
) -> Path:
    """Write index.html: a tab for each comparison, an overview if there are several, and links to the other files."""
    from ranger21.report.page.page import write_page
    from ranger21.report.page.sections import comparison_tab, overview_tab

    several = len(report.comparisons) > 1
    title = f"{len(report.comparisons)} comparisons" if several else report.comparisons[0].title
    tabs = []
    for comparison in report.comparisons:
        tab = comparison_tab(comparison)
        targets = [targets_table.section(comparison)] if has_targets(comparison) else []
        tabs.append(replace(tab, details=[*targets, *tab.details]))
    if several:
        overall = [workloads_text.section(report.overall)] if report.overall else []
        tabs = [overview_tab(report.comparisons, report.remarks, overall), *tabs]
    tabs[0] = replace(tabs[0], details=[*sections, *tabs[0].details])
    return write_page(tabs, out, title=title, links=links, reload=reload)
