"""tuning.md and its figures: what was tried, what came of it, and what the winners are worth on fresh seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ranger21.report.groups.chance import chance
from ranger21.report.groups.failures import Scored, failed, top1_of_failed
from ranger21.report.groups.grouping import OPTIMIZER, group_runs, show, trials_of
from ranger21.report.groups.summary import mean_of, seeds
from ranger21.report.runs.run import FINISHED, Run
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, one_line
from ranger21.tuning.best_of import BestOf, best_of
from ranger21.tuning.record import Trial, Tuned, tuned_hash

NAME = "tuning.md"
METRIC = "holdout/acc1"
AT_THE_END = Scored(lambda run: run.last(METRIC), top1_of_failed)  # in per cent
TOP1 = "top-1 on the holdout (%)"
LR = "optimizer.lr"
HEAD = """# How the values were tuned

Every optimizer of a workload got the same number of trials, at the same points of one quasi-random sequence, each with
one seed. A trial is judged by its top-1 on the holdout of the training set at its end; one that diverged is worse than
any other. No trial read the official validation set.

- Untuned and tuned are over fresh seeds, which no trial had: top-1 on the same holdout, mean ± sample standard
  deviation. The best trial was chosen for being high, so it flatters itself: what tuning gained is tuned less untuned.
- The best of k is what a tuner gets who stops after k trials: the mean over all orders in which the trials could have
  come, and the limits between which it lies in 95 % of the orders. A trial that diverged counts as guessing."""


@dataclass(frozen=True)
class Tuning:
    """One optimizer's tuning in one workload, and its runs on fresh seeds."""

    tuned: Tuned
    untuned_runs: list[Run]
    tuned_runs: list[Run]
    others: int  # tuned runs that name another record
    guessing: float  # top-1, per cent: what a failed trial counts as
    unlike: tuple[str, ...] = ()  # groups of runs, untuned or tuned, of which none counts, as there are several

    @property
    def trials(self) -> list[Trial]:
        """Those of the whole length."""
        return [trial for trial in self.tuned.trials if trial.rung == self.tuned.budget.rungs - 1]

    @property
    def values(self) -> list[float]:
        """The top-1 of each trial, per cent."""
        return [self.guessing if trial.objective is None else trial.objective for trial in self.trials]

    @property
    def diverged(self) -> int:
        """How many trials of any length diverged."""
        return sum(trial.state != FINISHED for trial in self.tuned.trials)

    def best(self, k: int) -> BestOf:
        """The best of k trials."""
        return best_of(self.values, k)


def write_tuning(records: Sequence[Tuned], runs: Iterable[Run], out: Path) -> list[Path]:
    """Write tuning.md and a folder of figures into `out`; return their paths. The same input gives the same bytes."""
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


def tunings(records: Sequence[Tuned], runs: Sequence[Run]) -> dict[str, list[Tuning]]:
    """The tunings of each workload, in order of names, each with its runs."""
    found: dict[str, list[Tuning]] = {}
    for record in sorted(records, key=lambda record: (record.experiment, record.optimizer)):
        if not re.fullmatch(r"[^/\0.][^/\0]*", record.experiment):
            raise UserError(f"The record of a tuning names the experiment {record.experiment!r}, which is no folder.")
        if any(one.tuned.optimizer == record.optimizer for one in found.get(record.experiment, [])):
            raise UserError(
                f"Two records are of {record.optimizer} in {record.experiment}: give the one that its runs are from."
            )
        mine = [run for run in runs if run.config.get("experiment") == record.experiment]
        own = [run for run in mine if run.config.get(OPTIMIZER) == record.optimizer and not _is_trial(run)]
        guessing = min((one for run in mine if (one := chance(run)) is not None), default=0.0)
        untuned = [run for run in own if not trials_of(run)]
        winners = [run for run in own if trials_of(run) and run.config.get("tuning.record") == tuned_hash(record)]
        others = len(own) - len(untuned) - len(winners)
        (untuned, unlike), (winners, also) = _of_one_group(untuned), _of_one_group(winners)
        tuning = Tuning(record, untuned, winners, others, guessing, unlike + also)
        found.setdefault(record.experiment, []).append(tuning)
    return found


def _is_trial(run: Run) -> bool:
    """Whether a run is a trial, which alone never reads the official validation set, and is on no fresh seed."""
    return run.config.get("trainer.final_validation") is False


def _of_one_group(runs: list[Run]) -> tuple[list[Run], tuple[str, ...]]:
    """The runs; if they differ in more than their seeds, none of them, and the labels of their groups."""
    labels = [group.label for group in group_runs(runs)]
    return (runs, ()) if len(labels) < 2 else ([], tuple(labels))


def markdown(workloads: dict[str, list[Tuning]]) -> str:
    """The whole of tuning.md."""
    parts = [HEAD]
    for name, found in workloads.items():
        parts += [f"## {escaped(name)}", _summary(found)]
        parts.append("\n".join(f"- {escaped(note)}" for note in notes(found)))
        parts += [f"![{what}](tuning/{quote(name)}-{file}.png)" for file, what in _pictures(found)]
        parts += ["### The spaces and the winners", _spaces(found)]
        parts.append("### The trials")
        parts += [_trials(one) for one in found]
    return "\n\n".join(parts) + "\n"


def _rate(trial: Trial) -> float | None:
    """The learning rate of a trial, None where it has none that a logarithmic axis can show."""
    rate = trial.values.get(LR)
    return float(rate) if isinstance(rate, int | float) and 0 < rate < math.inf else None


def _pictures(found: Sequence[Tuning]) -> list[tuple[str, str]]:
    has_lr = any(_rate(trial) is not None for one in found for trial in one.trials)
    return [("lr", "top-1 against the learning rate")] * has_lr + [("trials", "what so many trials get")]


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


def _spread(runs: Sequence[Run]) -> str:
    """Mean ± sd over seeds, and how many diverged: they count as chance."""
    found = mean_of(seeds(runs, AT_THE_END))
    if found is None:
        return "–"
    sd = "" if found.sd is None else f" ± {found.sd:.2f}"
    lost = sum(map(failed, runs))
    return f"{found.mean:.2f}{sd} (n = {found.n}{f', {lost} diverged' if lost else ''})"


def _mean(runs: Sequence[Run]) -> float | None:
    found = mean_of(seeds(runs, AT_THE_END))
    return found.mean if found else None


def notes(found: Sequence[Tuning]) -> list[str]:
    """The sentences on a workload's tuning: what is not equal, what ended at an edge, what has no winner."""
    said = []
    budgets = {one.tuned.optimizer: one.tuned.budget for one in found}
    if len(set(budgets.values())) > 1:
        each = "; ".join(f"{name} {b.trials} trials, seed {b.seed}, {b.rounds} round(s)" for name, b in budgets.items())
        said.append(f"The optimizers did not get the same ({each}): their winners cannot be compared fairly.")
    for one in found:
        name, budget = one.tuned.optimizer, one.tuned.budget
        if one.tuned.winner is None:
            said.append(f"{name}: every trial diverged, so it has no winner and runs untuned alone.")
        for edge in one.tuned.edges:
            said.append(
                f"{name}: no trial had a {'higher' if edge.side == 'high' else 'lower'} {edge.dimension} than the "
                "winner: the best value may lie outside the space."
            )
        if budget.rounds > 1:
            said.append(f"{name}: {budget.rounds} rounds, the later in wider spaces; their trials count together.")
        if budget.rungs > 1:
            shorter = len(one.tuned.trials) - len(one.trials)
            said.append(
                f"{name}: {shorter} of its trials were shorter (successive halving) and are no part of best of k."
            )
    said += [
        f"{one.tuned.optimizer}: {one.others} tuned run(s) name another record than this one, and do not count here."
        for one in found
        if one.others
    ]
    said += [
        f"{one.tuned.optimizer}: its runs on fresh seeds differ in more than their seeds, so none counts: "
        f"{first_few(one.unlike)}."
        for one in found
        if one.unlike
    ]
    said += [
        f"{one.tuned.optimizer}: a run of the winner has the trials' own seed ({one.tuned.budget.seed}), which is not "
        "fresh: it was chosen for being high there."
        for one in found
        if any(run.seed == one.tuned.budget.seed for run in one.tuned_runs)
    ]
    return said + [
        f"{one.tuned.optimizer}: the winner has not run on fresh seeds."
        for one in found
        if one.tuned.winner and not one.tuned_runs and not one.unlike
    ]


def _spaces(found: Sequence[Tuning]) -> str:
    heads = ["optimizer", "dimension", "space", "winner"]
    rows = []
    for one in found:
        for name, dimension in one.tuned.spaces[-1]["dimensions"].items():
            winner = "–" if one.tuned.winner is None else show(one.tuned.winner.values.get(name))
            rows.append([one.tuned.optimizer, name, _dimension(dimension), winner])
    return "\n".join(table_lines(heads, rows))


def _dimension(content: Any) -> str:
    """A range or the labels of a choice."""
    if isinstance(content, dict) and set(content) == {"low", "high"}:
        return f"{show(content['low'])} to {show(content['high'])}, uniform in the logarithm"
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
