"""Write compose.md with its figures: the searches, the winners on fresh seeds, and what helps with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ranger21.meta.arms import Arms
from ranger21.meta.effects import Effect, main_effects, most_certain, pair_effects
from ranger21.meta.features import Features
from ranger21.meta.propose import posterior_of
from ranger21.meta.record import RUNGS, Composed, Searched
from ranger21.meta.results import best_so_far, observations
from ranger21.meta.space import NONE
from ranger21.meta.standings import Standings, standings
from ranger21.report.page.sections import bullets
from ranger21.report.page.tables import html_table
from ranger21.report.runs.run import RecordedRun
from ranger21.report.statistics.pairs import Estimate
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.system.errors import UserError
from ranger21.system.project import command
from ranger21.system.wording import counted
from ranger21.tuning.record import Trial

NAME, FIGURES = "compose.md", "compose"
PAIRS = 12  # pairs in the table
HEAD = """# Composing an optimizer for {experiment}

The searches compose an optimizer from the ingredients (`optimizer=chain`), with a schedule, a learning rate and a
weight decay. Every trial is a run of train.py, judged by the top-1 on the holdout; no trial read the official
validation set. Each search has the budget of {budget} full runs ({images:.3g} million images), as {brackets} of
successive halving: 8 arms with 1/8 of the steps, the best 4 with 1/4, the best 2 with 1/2, the best one with all
{steps:,}. The first bracket is random, and the same for all searches with the same seed."""
VERDICTS = """The unit of the verdicts is a search: n is the number of searches, each with the mean top-1 of its winner
over the seeds. A run that diverged counts as chance. A tuned optimizer was tuned once; its n is the number of seeds, so
how much its tuning would vary is not in the verdict. "Random" is the same effort without a model. The p-values of each
task are corrected with Holm's method."""
EFFECTS = """From the Bayesian linear regression over the trials of all searches together. An effect is the change in
the top-1 of an optimizer that reaches {accuracy:.0f} %, in points, averaged over random valid optimizers, with its 95 %
credible interval. It is the difference from nothing in the ingredient's place; for schedules and warm-ups, from
{first}. The regression sees pairs, but nothing beyond, so an effect is a hint for what to try, not a finding: an
ablation is the test."""


def write_compose(composed: Composed, runs: Iterable[RecordedRun], out: Path) -> tuple[list[Path], tuple[str, str]]:
    """Write compose.md and its figures into `out`. The output is reproducible.

    Returns:
        The paths, and the heading and HTML of a section for the page.
    """
    from ranger21.meta.figures import write_effects, write_progress

    folder = out / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    found, effects = standings(composed, runs), posterior_effects(composed)
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    for one in composed.searches:
        curves.setdefault(one.search, []).append(best_so_far(composed, one.trials))
    write_progress(curves, folder / "progress")
    write_effects(effects[0], _accuracy(composed), folder / "effects")
    with create(out / NAME) as file:
        file.write(_text(composed, found, *effects))
    return [out / NAME, folder], (
        f"Composing an optimizer for {composed.experiment}",
        _section(composed, found, effects[0]),
    )


def _section(composed: Composed, found: Sequence[Standings], mains: Sequence[Effect]) -> str:
    """Return the tables of compose.md as HTML."""
    parts = []
    for one in found:
        heads, rows = _methods(one, composed)
        parts.append(f"<h3>{escape(_title(one, composed))}</h3>")
        parts.append(html_table(map(escape, heads), [[escape(cell) for cell in row] for row in rows], "composed"))
        told = [pair.difference.brief(pair.a, pair.b, unit="points") for pair in one.pairs]
        parts.append(bullets([*told, *one.notes]))
    heads, rows = _effect_rows(mains)
    parts.append("<h3>What helps (points of top-1, 95 % credible interval)</h3>")
    parts.append(html_table(map(escape, heads), [[escape(cell) for cell in row] for row in rows], "effects"))
    pictures = {"progress": "best top-1 so far", "effects": "effect of each ingredient"}
    links = " · ".join(f'<a href="{FIGURES}/{name}.svg">{title}</a>' for name, title in pictures.items())
    return "\n".join([*parts, f"<p>{links}</p>"])


def _text(composed: Composed, found: Sequence[Standings], mains: Sequence[Effect], pairs: Sequence[Effect]) -> str:
    brackets = counted(composed.budget // RUNGS, "bracket")
    facts = {"experiment": escaped(composed.experiment), "budget": composed.budget, "brackets": brackets}
    parts = [HEAD.format(**facts, images=composed.budget * composed.images / 1e6, steps=composed.steps)]
    parts += ["![best top-1 on the holdout against the images seen](compose/progress.png)"]
    parts += ["## On fresh seeds", VERDICTS, *(_task(one, composed) for one in found)]
    if not found:
        parts.append("The winners have not been run on fresh seeds.")
    parts += ["## The winners", _winners(composed)]
    parts += [_line(composed, one) for one in composed.searches if one.winner]
    parts += ["## What helps, and with what", EFFECTS.format(accuracy=100 * _accuracy(composed), first=_first())]
    parts += ["![effect of each ingredient](compose/effects.png)", _effects(mains)]
    parts += [
        f"The {PAIRS} pairs that differ most surely from the sum of their parts:",
        _effects(most_certain(pairs, PAIRS)),
    ]
    return "\n\n".join(parts) + "\n"


def text_of(composed: Composed, runs: Iterable[RecordedRun]) -> str:
    """Return the text of compose.md."""
    return _text(composed, standings(composed, runs), *posterior_effects(composed))


def posterior_effects(composed: Composed) -> tuple[list[Effect], list[Effect]]:
    """Return the effects of ingredients and of pairs, from the trials of all searches.

    Raises:
        UserError: the searches had an option that this code does not have.
    """
    try:
        space = Arms().space.restricted(composed.space)  # without what later code adds
    except KeyError as error:
        raise UserError(
            f"The searches in {composed.experiment} tried {': '.join(error.args[0])}, which this code does not have. "
            "Write the report with the code that made them."
        ) from error
    features = Features(space, RUNGS)
    trials = list({trial.directory: trial for one in composed.searches for trial in one.trials}.values())
    posterior = posterior_of(features, observations(trials, composed.chance))
    accuracy = _accuracy(composed)
    return main_effects(features, posterior, accuracy), pair_effects(features, posterior, accuracy)


def _first() -> str:
    """Return the choices from which the effects of the other choices are the differences."""
    options = [of[0] for of in Arms().space.slots.values()]
    return " and ".join(one.group for one in options if one.value is None and one.group != NONE)


def _accuracy(composed: Composed) -> float:
    """Return the median top-1 of the winners, as a fraction; 0.5 without a winner."""
    values = [one.winner.objective for one in composed.searches if one.winner and one.winner.objective is not None]
    return float(np.median(values)) / 100 if values else 0.5


def _task(one: Standings, composed: Composed) -> str:
    heads, rows = _methods(one, composed)
    lines = "\n".join(table_lines(heads, rows, right=(1,)))
    listed = "\n".join(f"- {sentence}" for sentence in one.sentences)
    return "\n\n".join((f"### {escaped(_title(one, composed))}", lines, listed))


def _title(one: Standings, composed: Composed) -> str:
    seen = "the task of the search" if one.experiment == composed.experiment else "a task that no search saw"
    return f"{one.experiment}, {seen}"


def _methods(one: Standings, composed: Composed) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of the table of methods, the best first."""
    rows, trials = [], {rival.optimizer: rival.trials for rival in composed.rivals}
    for method, found in sorted(one.methods.items(), key=lambda item: -item[1].mean):
        mine = [_spread(value) for name, value in one.winners.items() if name.rpartition("-")[0] == method]
        if method in trials:
            count = f"{counted(found.n, 'seed')}, tuned once with {counted(trials[method], 'trial')}"
        else:
            count = f"{found.n} search{'es' if found.n > 1 else ''}"
        rows.append([method, _spread(found), count, "; ".join(mine) or "–"])
    return ["method", "final top-1 (%)", "n", "each winner over its seeds"], rows


def _spread(value: Estimate) -> str:
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" ± {value.sd:.2f}")


def _winners(composed: Composed) -> str:
    heads = ["search", "winner", "top-1 on the holdout (%)", "full-length trials", "diverged trials"]
    rows = [
        [
            one.name,
            shown(one.winner) if one.winner else "none: every trial of full length diverged",
            "–" if one.winner is None else f"{one.winner.objective:.2f}",
            str(sum(trial.rung == RUNGS - 1 for trial in one.trials)),
            f"{sum(trial.objective is None for trial in one.trials)} of {len(one.trials)}",
        ]
        for one in composed.searches
    ]
    return "\n".join(table_lines(heads, rows, right=range(2, len(heads))))


def shown(trial: Trial) -> str:
    """Return the arm of a trial as text."""
    arms = Arms()
    values = {slot: str(label) for slot, label in trial.values.items()}
    try:
        return arms.shown(values)
    except KeyError:  # an ingredient of another version of the code
        return "; ".join(f"{slot} {label}" for slot, label in values.items())


def _line(composed: Composed, one: Searched) -> str:
    assert one.winner is not None
    words = (f"experiment={composed.experiment}", *composed.arguments, "optimizer=chain", *one.winner.overrides)
    return f"{one.name}:\n\n```bash\n{command('python', 'train.py', *words)}\n```"


def _effects(effects: Sequence[Effect]) -> str:
    heads, rows = _effect_rows(effects)
    return "\n".join(table_lines(heads, rows, right=(1, 2)))


def _effect_rows(effects: Sequence[Effect]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [" with ".join(one.names), f"{one.mean:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}", "sure" * one.is_sure]
        for one in sorted(effects, key=lambda one: -one.mean)
    ]
    return ["ingredient", "effect (points)", "95 % interval", ""], rows
