"""The optimizers that the winners are compared with: AdamW and Ranger21, tuned with an equal budget."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ranger21.meta.plan import CompositionRequest
from ranger21.meta.record import Composed, Rival
from ranger21.system.errors import UserError
from ranger21.tuning.plan import TuningRequest
from ranger21.tuning.record import Tuned, read_tuned, tuned_hash
from ranger21.tuning.search import Search

RIVALS = ("adamw", "ranger21")


def rivals_in(path: Path, experiment: str) -> list[Tuned]:
    """Return the tuned rivals from a tuned.json.

    Raises:
        UserError: a rival was not tuned in this experiment, or all of its trials diverged.
    """
    cure = "Tune it with scripts/tune.py, or omit --tuned, so that this command tunes it."
    return _winners(read_tuned(path), experiment, f"{path} has", cure)


def just_tuned(search: Search) -> list[Tuned] | None:
    """Return the rivals from a search of `rivals_search`; None until it has ended.

    Raises:
        UserError: all trials of a rival diverged.
    """
    if not all(task.job.ended for task in search.present()):
        return None
    cure = "All of its trials diverged: give a tuned.json with --tuned, or end after the searches with --search-only."
    return _winners(search.tuned(), search.request.experiments[0], "There is", cure)


def _winners(tuned: Sequence[Tuned], experiment: str, where: str, cure: str) -> list[Tuned]:
    known = {one.optimizer: one for one in tuned if one.experiment == experiment and one.winner}
    if lacking := [name for name in RIVALS if name not in known]:
        raise UserError(f"{where} no winner of optimizer={lacking[0]} in experiment={experiment}. {cure}")
    return [known[name] for name in RIVALS]


def with_rivals(composed: Composed, rivals: Sequence[Tuned]) -> Composed:
    """Return the record of the searches with their rivals."""
    found = tuple(Rival(one.optimizer, one.budget.trials * one.budget.rounds, tuned_hash(one)) for one in rivals)
    return replace(composed, rivals=found)


def require_fair(rivals: Sequence[Tuned], request: CompositionRequest, seeds: Collection[int], path: Path) -> None:
    """Raise a UserError if rivals were tuned with other arguments than the searches', or on a seed of the final runs.

    Args:
        rivals: the tuned rivals.
        request: the request of the searches.
        seeds: the seeds of the final runs in the experiment of the searches.
        path: the tuned.json.
    """
    for one in rivals:
        if set(one.arguments) != set(request.recorded):
            had, have = (" ".join(words) or "no arguments" for words in (one.arguments, request.recorded))
            raise UserError(
                f"{path} has optimizer={one.optimizer} tuned with {had}, but this command has {have}, which changes "
                "results: tune it with the same arguments, or omit --tuned, so that this command tunes it."
            )
        if one.budget.seed in seeds:
            raise UserError(
                f"{path} has optimizer={one.optimizer} tuned on seed {one.budget.seed}, which is one of the seeds of "
                "the final runs. It would have an advantage: tune it with another --seed."
            )


def rivals_search(request: CompositionRequest) -> Search:
    """Return the tuning of the rivals in the request's experiment, with as many trials as its budget has full runs."""
    trials = TuningRequest(
        (request.experiment,), RIVALS, request.budget, 1, False, 0, request.outputs, request.arguments
    )
    return Search(trials)
