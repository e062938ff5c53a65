"""Write tuning.md and its figures: the spaces, the trials, and the winners' results on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ranger21.report.groups.failures import ScoredFigure, failed, top1_of_failed
from ranger21.report.groups.grouping import show
from ranger21.report.groups.summary import mean_of, seeds
from ranger21.report.runs.run import RecordedRun
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.system.wording import one_line
from ranger21.tuning.notes import notes
from ranger21.tuning.record import Trial, Tuned
from ranger21.tuning.results import Tuning, tunings

NAME = "tuning.md"
METRIC = "holdout/acc1"
AT_THE_END = ScoredFigure(lambda run: run.last(METRIC), top1_of_failed)  # in per cent
TOP1 = "top-1 on the holdout (%)"
LR = "optimizer.lr"
HEAD = """# Tuning

Each optimizer of a workload was tuned with the same number of trials, at the same points of one quasi-random sequence,
with one seed per trial. The objective is the final top-1 on the holdout of the training set; a trial that diverged is
worse than all others. No trial read the official validation set.

- "untuned" and "tuned" are over fresh seeds, which no trial used: final top-1 on the same holdout, mean ± sample
  standard deviation. The gain from tuning is the difference of the two. It is not the best trial minus untuned: the
  best trial was selected for its result, which is therefore biased upwards.
- "best of k" is the result of stopping after k trials: the mean over all orders of the trials and, in brackets, the
  limits within which it lies for 95 % of the orders. A trial that diverged counts as chance."""


def write_tuning(records: Sequence[Tuned], runs: Iterable[RecordedRun], out: Path) -> list[Path]:
    """Write tuning.md and a folder of figures into `out`, and return their paths. The output is reproducible."""
    from ranger21.tuning.figures import Point, write_best_of, write_sensitivity

    workloads = tunings(records, list(runs))
    with create(out / NAME) as file:
        file.write(markdown(workloads))
    folder = out / "tuning"
    folder.mkdir(exist_ok=True)
    for name, found in workloads.items():
        points = {
            one.tuned.optimizer: [
                Point(lr, value, trial.objective is None)
                for trial, value in zip(one.trials, one.values, strict=True)
                if (lr := _rate(trial)) is not None
            ]
            for one in found
        }
        if any(points.values()):
            write_sensitivity(points, TOP1, folder / f"{name}-lr")
        curves = {one.tuned.optimizer: [one.best(k + 1) for k in range(len(one.values))] for one in found}
        known = {one.tuned.optimizer: mean for one in found if (mean := _mean(one.untuned_runs)) is not None}
        write_best_of(curves, known, TOP1, folder / f"{name}-trials")
    return [out / NAME, folder]


def markdown(workloads: dict[str, list[Tuning]]) -> str:
    """Return the text of tuning.md."""
    parts = [HEAD]
    for name, found in workloads.items():
        parts += [f"## {escaped(name)}", _summary(found)]
        parts.append("\n".join(f"- {escaped(note)}" for note in notes(found)))
        parts += [f"![{what}](tuning/{quote(name)}-{file}.png)" for file, what in _pictures(found)]
        parts += ["### Search spaces and winners", _spaces(found)]
        parts.append("### Trials")
        parts += [_trials(one) for one in found]
    return "\n\n".join(parts) + "\n"


def _rate(trial: Trial) -> float | None:
    """Return the learning rate of a trial; None if it has none that a logarithmic axis can show."""
    rate = trial.values.get(LR)
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def _pictures(found: Sequence[Tuning]) -> list[tuple[str, str]]:
    has_lr = any(_rate(trial) is not None for one in found for trial in one.trials)
    return [("lr", "top-1 against the learning rate")] * has_lr + [
        ("trials", "expected best result against the number of trials")
    ]


def _summary(found: Sequence[Tuning]) -> str:
    most = max(len(one.values) for one in found)
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64, 128) if count < most] + [most]
    heads = ["optimizer", "untuned", *(f"best of {count}" for count in counts), "tuned", "diverged trials"]
    rows = [
        [
            one.tuned.optimizer,
            _spread(one.untuned_runs),
            *(_best(one, count) for count in counts),
            _spread(one.tuned_runs),
            f"{one.diverged} of {len(one.tuned.trials)}",
        ]
        for one in found
    ]
    return "\n".join(table_lines(heads, rows, right=range(1, len(heads))))


def _best(one: Tuning, count: int) -> str:
    if count > len(one.values):
        return "–"
    best = one.best(count)
    return f"{best.mean:.2f}" + (f" ({best.low:.2f} to {best.high:.2f})" if best.low < best.high else "")


def _spread(runs: Sequence[RecordedRun]) -> str:
    """Return mean ± sd over seeds, with n and the number that diverged, which count as chance."""
    found = mean_of(seeds(runs, AT_THE_END))
    if found is None:
        return "–"
    sd = "" if found.sd is None else f" ± {found.sd:.2f}"
    lost = sum(map(failed, runs))
    return f"{found.mean:.2f}{sd} (n = {found.n}{f', {lost} diverged' if lost else ''})"


def _mean(runs: Sequence[RecordedRun]) -> float | None:
    found = mean_of(seeds(runs, AT_THE_END))
    return found.mean if found else None


def _spaces(found: Sequence[Tuning]) -> str:
    heads = ["optimizer", "dimension", "space", "winner"]
    rows = []
    for one in found:
        for name, dimension in one.tuned.spaces[-1]["dimensions"].items():
            winner = "–" if one.tuned.winner is None else show(one.tuned.winner.values.get(name))
            rows.append([one.tuned.optimizer, name, _dimension(dimension), winner])
    return "\n".join(table_lines(heads, rows))


def _dimension(content: Any) -> str:
    """Return a range, or the labels of a choice, as text."""
    if isinstance(content, dict) and set(content) == {"low", "high"}:
        return f"{show(content['low'])} to {show(content['high'])}, log-uniform"
    labels = content if isinstance(content, dict | list) else [content]
    return one_line(", ".join(map(str, labels)))


def _trials(one: Tuning) -> str:
    names = list(dict.fromkeys(name for trial in one.tuned.trials for name in trial.values))
    several = one.tuned.budget.rounds > 1 or one.tuned.budget.rungs > 1
    heads = [one.tuned.optimizer, *(name.removeprefix("optimizer.") for name in names), TOP1]
    rows = []
    for trial in one.tuned.trials:
        number = f"{trial.round}.{trial.rung}.{trial.point}" if several else str(trial.point)
        top1 = "diverged" if trial.objective is None else f"{trial.objective:.2f}"
        mark = "**" if one.tuned.winner == trial else ""
        rows.append([number, *(show(trial.values.get(name)) for name in names), f"{mark}{top1}{mark}"])
    return "\n".join(table_lines(heads, rows, right=range(1, len(heads))))
