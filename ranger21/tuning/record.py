"""Write and read tuned.json, the result of tuning. Its bytes depend only on the trials, not on workers, time or order.

{"version": 1,
 "tuned": [                                     # by experiment, then optimizer, in order of their names
   {"experiment": "fair_resnet", "optimizer": "adamw",
    "budget": {"trials": 16, "rungs": 1, "rounds": 1, "seed": 0},
    "arguments": ["trainer.epochs=2"],          # arguments of all trials that can change their results
    "spaces": [                                 # one per round; each is wider than the previous one
      {"hash": "1ca88ec103d72ae9", "dimensions": {"optimizer.lr": {"low": 1e-4, "high": 0.1}, …}}],
    "trials": [                                 # by round, rung, point
      {"round": 0, "rung": 0, "point": 0,       # counted from 0; the last rung has the full length
       "values": {"optimizer.lr": 0.02656, "warmup": "0", …},     # by dimension
       "overrides": ["optimizer.lr=0.02656", …],                  # arguments of train.py after optimizer=…
       "directory": "fair_resnet/resnet10t-adamw-s0-1234abcd",    # in OUTPUTS/tuning
       "state": "finished",                     # or "diverged", which is worse than any objective
       "objective": 88.25}],                    # final top-1 on the holdout, per cent; null if it diverged
    "winner": {"round": 0, "rung": 0, "point": 7, …},   # a copy of that trial; null if every trial diverged
    "edges": [{"dimension": "optimizer.lr", "side": "high"}]}]}   # where the winner has the most extreme value
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.reading import read_json
from ranger21.tuning.space import PARTS

NAME, VERSION = "tuned.json", 1
FINISHED, DIVERGED = "finished", "diverged"
SIDES = ("low", "high")
CURE = "move it away and run scripts/tune.py again, which reuses all finished runs"
TRIAL = {
    "round": int, "rung": int, "point": int, "values": dict, "overrides": [str], "directory": str, "state": str,
    "objective?": float,
}  # fmt: skip
SHAPE = {
    "version": int,
    "tuned": [
        {
            "experiment": str, "optimizer": str, "arguments": [str],
            "budget": {"trials": int, "rungs": int, "rounds": int, "seed": int},
            "spaces": [{"hash": str, "dimensions": dict}],
            "trials": [TRIAL], "winner?": TRIAL, "edges": [{"dimension": str, "side": str}],
        }
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """The tuning budget, the same for every optimizer of an experiment.

    Attributes:
        trials: the number of trials per round.
        rungs: the number of rungs of successive halving; 1 without it.
        rounds: 2 if the spaces were widened, else 1.
        seed: the seed of the trials.
    """

    trials: int
    rungs: int
    rounds: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """One trial and its result.

    Attributes:
        round: 0, or 1 in the wider spaces.
        rung: the rung of successive halving, from 0; the last has the full length.
        point: the index of the point in the sequence that all optimizers share.
        values: the values by dimension of the space.
        overrides: the arguments of train.py for these values.
        directory: the run directory, relative to OUTPUTS/tuning.
        state: FINISHED or DIVERGED.
        objective: the final top-1 on the holdout in per cent; None if the trial diverged, which is worse than any.
    """

    round: int
    rung: int
    point: int
    values: Mapping[str, float | str]
    overrides: tuple[str, ...]
    directory: str
    state: str
    objective: float | None

    @property
    def rank(self) -> tuple[float, int, int]:
        """The sort key for trials of one length, best first; ties go to the earlier point."""
        worst = float("inf")
        return (worst if self.objective is None else -self.objective, self.round, self.point)


@dataclass(frozen=True)
class Edge:
    """A dimension in which the winner has the most extreme value of all trials. `side` is "low" or "high"."""

    dimension: str
    side: str


@dataclass(frozen=True)
class Tuned:
    """The result of tuning one optimizer in one experiment.

    Attributes:
        arguments: the arguments of train.py for all trials that can change a result.
        spaces: hash and dimensions of the search space of each round.
        trials: the trials of all rounds and rungs.
        winner: the best trial of full length; None if all diverged.
        edges: the edges of the space at which the winner lies.
    """

    experiment: str
    optimizer: str
    budget: Budget
    arguments: tuple[str, ...]
    spaces: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    winner: Trial | None
    edges: tuple[Edge, ...]


def write_tuned(path: Path, tuned: Sequence[Tuned]) -> None:
    """Write a tuned.json, whole or not at all."""
    ordered = sorted(tuned, key=lambda one: (one.experiment, one.optimizer))
    content = {"version": VERSION, "tuned": [asdict(one) for one in ordered]}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_tuned(path: Path) -> list[Tuned]:
    """Read a tuned.json. Raises a UserError if it is missing, damaged, or of a newer version."""
    found = read_json(path, {"version": int}, cure=CURE)
    if found["version"] != VERSION:
        raise UserError(
            f"{path} has version {found['version']}, but this code reads version {VERSION}. Use newer code."
        )
    found = read_json(path, SHAPE, cure=CURE)
    tuned = [_tuned(path, entry) for entry in found["tuned"]]
    if len({(one.experiment, one.optimizer) for one in tuned}) < len(tuned):
        raise UserError(f"{path} is damaged: an experiment has the same optimizer twice. {CURE.capitalize()}.")
    return tuned


def winner(trials: Iterable[Trial], rungs: int) -> Trial | None:
    """Return the best trial of full length over all rounds; None if all diverged."""
    whole = [trial for trial in trials if trial.rung == rungs - 1 and trial.objective is not None]
    return min(whole, key=lambda trial: trial.rank, default=None)


def record_hash(path: Path) -> str:
    """Return the hash of a tuned.json, by which a run's `tuning.record` refers to it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def tuned_hash(one: Tuned) -> str:
    """Return the hash of one optimizer's tuning, by which a run's `tuning.record` refers to it.

    It does not depend on other entries of the file, nor on the arguments, in which a published copy may mask keys.
    """
    content = asdict(replace(one, arguments=()))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _tuned(path: Path, entry: Mapping[str, Any]) -> Tuned:
    if any(edge["side"] not in SIDES for edge in entry["edges"]):
        sides = " or ".join(SIDES)
        raise UserError(f"{path} is damaged: the side of every edge must be {sides}. {CURE.capitalize()}.")
    one = Tuned(
        entry["experiment"],
        entry["optimizer"],
        Budget(**_known(Budget, entry["budget"])),
        tuple(entry["arguments"]),
        tuple(entry["spaces"]),
        tuple(read_trial(path, trial) for trial in entry["trials"]),
        read_trial(path, entry["winner"]) if entry.get("winner") else None,
        tuple(Edge(**_known(Edge, edge)) for edge in entry["edges"]),
    )
    if why := _wrong(one):
        raise UserError(f"{path} is damaged: {one.optimizer} in {one.experiment} {why}. {CURE.capitalize()}.")
    return one


def _wrong(one: Tuned) -> str | None:
    """Return a clause that says why this cannot be the result of a tuning; None if it can."""
    budget = one.budget
    if min(budget.trials, budget.rungs, budget.rounds) < 1 or len(one.spaces) != budget.rounds:
        return "has different numbers of spaces and rounds, or no trials"
    if one.winner != winner(one.trials, budget.rungs):
        return "has a winner that is not the best of its trials"
    if any(
        not word.lstrip("+~").startswith(PARTS) or "=" not in word for trial in one.trials for word in trial.overrides
    ):
        return f"has a trial that sets something other than {', '.join(PARTS)}"
    return None


def read_trial(path: Path, found: Mapping[str, Any]) -> Trial:
    """Return a trial from its entry in a file; raise a UserError if it is not valid."""
    state, objective, directory = found["state"], found.get("objective"), Path(found["directory"])
    if directory.is_absolute() or ".." in directory.parts:
        raise UserError(f"{path} is damaged: the run directory {directory} is not in OUTPUTS/tuning.")
    known = state in (FINISHED, DIVERGED) and (state == FINISHED) == (objective is not None)
    if not known or not 0 <= (objective or 0) <= 100:
        raise UserError(
            f"{path} is damaged: trial {found['point']} has the state {state!r} and the objective {objective}."
        )
    return Trial(**{**_known(Trial, found), "overrides": tuple(found["overrides"]), "objective": objective})


def _known(cls: type, found: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: found[f.name] for f in fields(cls) if f.name in found}
