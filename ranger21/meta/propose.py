"""The searches: each proposes the arms of the next bracket from the results so far. They keep no state of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranger21.meta.features import Features
from ranger21.meta.regression import Posterior, fit
from ranger21.meta.space import NONE, Arm, Option, Space, groups
from ranger21.system.errors import UserError
from ranger21.tuning.journal import import_optuna

STARTS = 64  # random arms from which the maximization starts at the best
RESTARTS = 4  # of these, the best ones, from which it ascends
MOST_ASKED, MOST_DRAWN = 20, 2000  # tries for a new arm
MOST_INVALID = 1000  # invalid proposals of Optuna in a row


@dataclass(frozen=True)
class Observation:
    """A result.

    Attributes:
        arm: the arm.
        rung: the rung at which it ran; the last has the full length.
        response: the result; higher is better.
    """

    arm: Arm
    rung: int
    response: float


History = Sequence[Observation]
Search = Callable[[Space, int, History, int, int], list[Arm]]  # space, rungs, history, number of arms, seed


def thompson(space: Space, rungs: int, history: History, count: int, seed: int) -> list[Arm]:
    """Propose arms by Thompson sampling (Thompson 1933; Russo et al. 2018; Wang and Chen 2018 for combinations).

    Each arm maximizes the expected response under its own draw from the posterior of a Bayesian linear regression on
    the ingredients, their pairs, and their pairs with schedule and learning rate. Arms that ran before are not
    proposed again. Without results, the arms are random.
    """
    rng = np.random.default_rng(seed)
    known = {space.key(one.arm) for one in history}
    if not history:
        return _fresh(lambda: space.random(rng), space, known, count, rng)
    features = Features(space, rungs)
    posterior = posterior_of(features, history)
    return _fresh(lambda: best_arm(features, posterior.sample(rng), known, rng), space, known, count, rng)


def random(space: Space, rungs: int, history: History, count: int, seed: int) -> list[Arm]:
    """Propose random arms, by Optuna's RandomSampler. Arms that ran before are not proposed again."""
    return _by_optuna("RandomSampler", {"seed": seed}, space, rungs, history, count)


def tpe(space: Space, rungs: int, history: History, count: int, seed: int) -> list[Arm]:
    """Propose arms by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011).

    Arms that were not run to the full length count as pruned. The first bracket is random. Arms that ran before are
    not proposed again.
    """
    options = {"seed": seed, "n_startup_trials": count, "constant_liar": True}
    return _by_optuna("TPESampler", options, space, rungs, history, count)


SEARCHES: dict[str, Search] = {"thompson": thompson, "tpe": tpe, "random": random}


def posterior_of(features: Features, history: History) -> Posterior:
    """Return the posterior of the regression given the results so far."""
    x = np.stack([features.encode(one.arm, one.rung) for one in history])
    return fit(x, np.array([one.response for one in history]), features.terms)


def best_arm(features: Features, theta: NDArray[np.float64], known: set[Any], rng: np.random.Generator) -> Arm:
    """Return the valid arm with the largest x · θ that coordinate ascent finds, other than the known ones.

    It starts at the best of `STARTS` random arms and changes one or two slots at a time until no change is better.
    """
    space, scores = features.space, dict[Any, float]()

    def score(arm: Arm) -> float:
        key = space.key(arm)
        if key not in scores:
            scores[key] = float(features.encode(arm) @ theta)
        return scores[key]

    def ascend(arm: Arm) -> Arm:
        while True:
            near = [other for other in _neighbours(space, arm) if space.key(other) not in known]
            better = max(near, key=score, default=arm)
            if score(better) <= score(arm):
                return arm
            arm = better

    starts = [arm for _ in range(STARTS) if space.key(arm := space.random(rng)) not in known]
    starts = sorted(starts, key=score, reverse=True)[:RESTARTS]
    return max(map(ascend, starts), key=score) if starts else space.random(rng)


def _neighbours(space: Space, arm: Arm) -> list[Arm]:
    """Return the valid arms that differ in one slot; where that is invalid, those with another slot emptied, too."""
    filled = [slot for slot, options in space.slots.items() if options[0].group == NONE and arm[slot] != NONE]
    found: list[Arm] = []
    for slot, options in space.slots.items():
        for option in options:
            if option.label == arm[slot] or not space.matters(arm, slot):
                continue
            changed = {**arm, slot: option.label}
            near = [changed] if space.is_valid(changed) else [{**changed, other: NONE} for other in filled]
            found += [other for other in near if space.is_valid(other)]
    return found


def _fresh(draw: Callable[[], Arm], space: Space, known: set[Any], count: int, rng: np.random.Generator) -> list[Arm]:
    """Return `count` different arms that are not known, and add them to `known`.

    If `draw` returns a known arm `MOST_ASKED` times in a row, as it does in a space that is nearly used up, a random
    arm takes its place.

    Raises:
        UserError: the space has too few arms left.
    """
    found: list[Arm] = []
    while len(found) < count:
        tries = itertools.chain((draw() for _ in range(MOST_ASKED)), (space.random(rng) for _ in range(MOST_DRAWN)))
        arm = next((arm for arm in tries if space.key(arm) not in known), None)
        if arm is None:
            raise UserError(f"The space has no {count} arms left that this search has not run: use a smaller --budget.")
        known.add(space.key(arm))
        found.append(arm)
    return found


def _by_optuna(
    sampler: str, options: dict[str, Any], space: Space, rungs: int, history: History, count: int
) -> list[Arm]:
    optuna = import_optuna()
    study = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, sampler)(**options))
    for key in dict.fromkeys(space.key(one.arm) for one in history):
        study.add_trial(_told(optuna, space, [one for one in history if space.key(one.arm) == key], rungs))

    def draw() -> Arm:
        for _ in range(MOST_INVALID):
            trial = study.ask()
            arm = {slot: _asked(trial, slot, of) for slot, of in space.slots.items()}
            if space.is_valid(arm):
                return arm
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)  # worse than all trials with a result
        raise ValueError(f"Optuna's {sampler} proposed no valid arm in {MOST_INVALID:,} trials.")

    known, rng = {space.key(one.arm) for one in history}, np.random.default_rng(options["seed"])
    return _fresh(draw, space, known, count, rng)


def _asked(trial: Any, slot: str, options: tuple[Option, ...]) -> str:
    """Return the option that Optuna suggests: first its group, then one of the group."""
    if options[0].value is not None:
        return options[trial.suggest_int(slot, 0, len(options) - 1)].label
    group = trial.suggest_categorical(slot, groups(options))
    within = [option.label for option in options if option.group == group]
    return str(trial.suggest_categorical(f"{slot}: {group}", within)) if len(within) > 1 else within[0]


def _told(optuna: Any, space: Space, results: History, rungs: int) -> Any:
    """Return an arm with its results as one of Optuna's trials: complete if it ran to the full length, else pruned."""
    kinds = optuna.distributions
    params: dict[str, Any] = {}
    distributions: dict[str, Any] = {}
    for slot, options in space.slots.items():
        option = space.option(results[0].arm, slot)
        if option.value is not None:
            params[slot], distributions[slot] = options.index(option), kinds.IntDistribution(0, len(options) - 1)
            continue
        params[slot], distributions[slot] = option.group, kinds.CategoricalDistribution(groups(options))
        within = [other.label for other in options if other.group == option.group]
        if len(within) > 1:
            name = f"{slot}: {option.group}"
            params[name], distributions[name] = option.label, kinds.CategoricalDistribution(within)
    values = {one.rung: one.response for one in results}
    state = optuna.trial.TrialState.COMPLETE if rungs - 1 in values else optuna.trial.TrialState.PRUNED
    return optuna.trial.create_trial(
        state=state,
        value=values.get(rungs - 1),
        params=params,
        distributions=distributions,
        intermediate_values=values,
    )
