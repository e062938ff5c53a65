"""The sentences of tuning.md on what makes a comparison of tuned optimizers unfair or incomplete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ranger21.system.wording import counted, first_few
from ranger21.tuning.record import Edge
from ranger21.tuning.results import Tuning


def notes(found: Sequence[Tuning]) -> list[str]:
    """Return sentences on a workload's tuning: unequal budgets first, then each optimizer's trials and runs."""
    said = []
    budgets = {one.tuned.optimizer: one.tuned.budget for one in found}
    if len(set(budgets.values())) > 1:
        each = "; ".join(
            f"{name} {counted(b.trials, 'trial')}, seed {b.seed}, {counted(b.rounds, 'round')}"
            for name, b in budgets.items()
        )
        said.append(f"The optimizers were tuned with different budgets ({each}), so comparing them is not fair.")
    for one in found:
        said += [f"{one.tuned.optimizer}: {sentence}." for sentence in (*_on_trials(one), *_on_runs(one))]
    return said


def _on_trials(one: Tuning) -> Iterator[str]:
    budget = one.tuned.budget
    if one.tuned.winner is None:
        yield "every trial diverged, so there is no winner and there are only untuned runs"
    yield from map(_at_edge, one.tuned.edges)
    if budget.rounds > 1:
        yield f"{budget.rounds} rounds of trials, the second in a wider space, are combined"
    if budget.rungs > 1:
        shorter = len(one.tuned.trials) - len(one.trials)
        yield f"{counted(shorter, 'shorter trial')} (successive halving) not included in best of k"


def _at_edge(edge: Edge) -> str:
    more = "higher" if edge.side == "high" else "lower"
    return f"no trial had a {more} {edge.dimension} than the winner, so the best value may lie outside the search space"


def _on_runs(one: Tuning) -> Iterator[str]:
    seed = one.tuned.budget.seed
    if one.others:
        yield f"{counted(one.others, 'tuned run')} from another tuning left out"
    if one.unlike:
        yield f"its runs on fresh seeds differ in more than their seeds, so none is used: {first_few(one.unlike)}"
    if any(run.seed == seed for run in one.tuned_runs):
        yield (
            f"a run of the winner uses the trials' seed ({seed}), on which the winner was selected, so it is biased "
            "upwards"
        )
    if one.tuned.winner and not one.tuned_runs and not one.unlike:
        yield "the winner has not been run on fresh seeds"
