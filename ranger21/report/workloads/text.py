"""Write workloads.md, its CSV files and the page's section: the verdicts over all comparisons."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ranger21.report.page.tables import html_table
from ranger21.report.statistics.pairs import Estimate
from ranger21.report.statistics.ttests import ENOUGH_SEEDS
from ranger21.report.statistics.verdicts import show_p
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.report.workloads.profiles import LARGEST_RATIO
from ranger21.report.workloads.scores import Scores
from ranger21.report.workloads.workloads import Overall
from ranger21.system.wording import counted, defused, first_few

SCORES, PROFILES = "workloads_scores", "workloads_profiles"  # the names of the figures
ALL = "all"
HEAD = f"""# Over all workloads

- All workloads have the same weight. The final top-1 of every seed counts. A diverged run counts as chance and ranks
  below all others; a run that has not ended does not count yet.
- Verdicts are based on the probability that a run of the first optimizer is better than a run of the second (ties count
  half). It is the mean over the workloads, with Newcombe's 95 % interval. p comes from the permutation test that
  exchanges runs within workloads, after Holm's correction over all pairs with at least {ENOUGH_SEEDS} seeds on every
  workload. A verdict applies to these workloads only.
- The score of a run is (top-1 − chance) / (100 % − chance). IQM is the interquartile mean, that of the middle half of
  all scores, with its 95 % interval from a stratified bootstrap over seeds."""
TIMES = (
    "Time to target: the share of all targets, with equal weights for the workloads, that half of an optimizer's runs "
    "reached within a multiple of the images that the fastest optimizer needed. The score is the mean of this share "
    f"over multiples from 1 to {LARGEST_RATIO:g}, as in AlgoPerf. No verdict is based on it."
)


class CaptionedTable(NamedTuple):
    """A table, and the text above it."""

    text: str
    heads: list[str]
    rows: list[list[str]]


def markdown(overall: Overall) -> str:
    """Return the text of workloads.md."""
    numbered = (f"{number}. {escaped(title)}" for number, title in enumerate(_titles(overall), 1))
    parts = [HEAD, "\n".join(numbered), _bullets(overall.sentences)]
    for part in tables(overall):
        parts += [part.text, "\n".join(table_lines(part.heads, part.rows, right=range(1, len(part.heads))))]
    return "\n\n".join([*parts, _bullets(notes(overall))]).rstrip() + "\n"


def section(overall: Overall) -> tuple[str, str]:
    """Return a heading and the same content as HTML, in which all text from runs is escaped."""
    parts = [f"<ol>{''.join(f'<li>{escape(title)}</li>' for title in _titles(overall))}</ol>", _list(overall.sentences)]
    for part in tables(overall):
        rows = [[escape(cell) for cell in row] for row in part.rows]
        parts += [f"<p>{escape(part.text)}</p>", html_table(map(escape, part.heads), rows, "workloads")]
    links = [f'<a href="{name}.svg">{text}</a>' for name, text in pictures(overall).items()]
    parts += [f"<p>Figures: {' · '.join(links)}</p>"] if links else []
    return f"Over all {len(overall.meeting.workloads)} workloads", "\n".join([*parts, _list(notes(overall))])


def pictures(overall: Overall) -> dict[str, str]:
    """Return the figures that exist, by name, with a short description."""
    named = {SCORES: ("interquartile means", overall.means), PROFILES: ("time to target", overall.profiles)}
    return {name: text for name, (text, found) in named.items() if found}


def tables(overall: Overall) -> list[CaptionedTable]:
    """Return the tables of scores and pairs, and of time to target if there are targets."""
    numbers = [str(number) for number in range(1, len(overall.meeting.workloads) + 1)]
    parts = [
        CaptionedTable(
            "The IQM of the scores over all workloads, and the final top-1 on each (%, failed runs at chance):",
            ["optimizer", "IQM", "95 % interval", *numbers],
            [[name, *_mean(overall.means.get(name)), *map(_cell, overall.scores[name])] for name in overall.order],
        ),
        CaptionedTable(
            "The probability that a run of the first is better than one of the second, over all and on each workload:",
            ["first", "second", "probability", "95 % interval", "p", "verdict on the first", *numbers],
            [
                [
                    pair.a,
                    pair.b,
                    f"{pair.found.probability:.2f}",
                    "–" if pair.few else f"{pair.found.low:.2f} to {pair.found.high:.2f}",
                    "–" if pair.p_adjusted is None else show_p(pair.p_adjusted).removeprefix("p = ").removeprefix("p "),
                    pair.verdict,
                    *(f"{each:.2f}" for each in pair.found.each),
                ]
                for pair in overall.pairs
            ],
        ),
    ]
    if overall.profiles:
        ratios = (1, 1.5, 2, LARGEST_RATIO)
        found = sorted(overall.profiles.items(), key=lambda item: (-item[1].score, item[0]))
        rows = [[name, f"{p.score:.2f}", *(f"{100 * p.share(ratio):.0f} %" for ratio in ratios)] for name, p in found]
        heads = ["optimizer", "score", "as the fastest", *(f"within {ratio:g} times" for ratio in ratios[1:])]
        parts.append(CaptionedTable(TIMES, heads, rows))
    return [part for part in parts if part.rows]


def notes(overall: Overall) -> list[str]:
    """Return sentences on what is left out or unknown."""
    told = list(overall.meeting.remarks)
    for name in overall.order:
        for title, found in zip(_titles(overall), overall.scores[name], strict=True):
            if found and found.running:
                told.append(f"{name} on {title}: {counted(found.running, 'unfinished run')} not counted yet.")
        everywhere = zip(_titles(overall), overall.scores[name], strict=True)
        if empty := [title for title, found in everywhere if found and not found.n]:
            told.append(f"{name} has no verdict, as it has no final top-1 on {first_few(empty)}.")
        ended = [found for found in overall.scores[name] if found and found.n]
        share = sum(len(found.failed) / found.n for found in ended) / max(1, len(ended))
        if 0 < share <= 0.25:
            told.append(f"{name}: some runs diverged, which the IQM hides because it ignores the worst quarter.")
    for index, title in enumerate(_titles(overall)):
        if None in [found.chance for row in overall.scores.values() if (found := row[index])]:
            told.append(
                f"{title}: the number of classes is unknown, or not the same in all runs, so there are no scores."
            )
    return told


def write_csvs(overall: Overall, out: Path) -> list[str]:
    """Write workloads.csv and workloads_pairs.csv with full precision, and return their names."""
    with create(out / "workloads.csv") as file:
        writer = csv.writer(file)
        head = ["optimizer", "workload", "group", "n", "failed", "running", "chance_percent", "top1_percent_mean"]
        writer.writerow([*head, "iqm", "iqm_low", "iqm_high", "targets_score"])
        for name in overall.order:
            for workload, found in zip(overall.meeting.workloads, overall.scores[name], strict=True):
                if found:
                    names = [defused(name), defused(workload.title), defused(workload.groups[name].label)]
                    counts = [found.n, len(found.failed), found.running]
                    writer.writerow([*names, *counts, found.chance, found.mean, *[None] * 4])
            everywhere = [found for found in overall.scores[name] if found]
            counts = [
                sum(f.n for f in everywhere),
                sum(len(f.failed) for f in everywhere),
                sum(f.running for f in everywhere),
            ]
            mean, profile = overall.means.get(name), overall.profiles.get(name)
            figures = [mean.mean, mean.low, mean.high] if mean else [None] * 3
            writer.writerow([defused(name), ALL, "", *counts, None, None, *figures, profile and profile.score])
    with create(out / "workloads_pairs.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "workload", "probability", "low", "high", "p", "p_adjusted", "verdict_on_a"])
        for pair in overall.pairs:
            names, over = [defused(pair.a), defused(pair.b)], pair.found
            whole = [over.probability, over.low, over.high, over.p, pair.p_adjusted, pair.verdict]
            writer.writerow([*names, ALL, *whole])
            for title, each in zip(pair.titles, over.each, strict=True):
                writer.writerow([*names, defused(title), each, *[None] * 5])
    return ["workloads.csv", "workloads_pairs.csv"]


def _titles(overall: Overall) -> list[str]:
    return [workload.title for workload in overall.meeting.workloads]


def _mean(mean: Estimate | None) -> tuple[str, str]:
    if mean is None:
        return "–", "–"
    return f"{mean.mean:.3f}", "–" if mean.low is None else f"{mean.low:.3f} to {mean.high:.3f}"


def _cell(found: Scores | None) -> str:
    if found is None or not found.n:
        return "–"
    failed = f", {len(found.failed)} failed" if found.failed else ""
    return f"{'–' if found.mean is None else f'{found.mean:.2f}'} (n = {found.n}{failed})"


def _bullets(phrases: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(phrase)}" for phrase in phrases)


def _list(phrases: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(phrase)}</li>' for phrase in phrases)}</ul>" if phrases else ""
