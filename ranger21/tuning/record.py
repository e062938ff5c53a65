"""tuned.json: what a tuning came to. Its bytes depend on the trials alone, not on who ran them, when or in which order.

{"version": 1,
 "tuned": [                                     # by experiment, then optimizer, in order of their names
   {"experiment": "fair_resnet", "optimizer": "adamw",
    "budget": {"trials": 16, "rungs": 1, "rounds": 1, "seed": 0},
    "arguments": ["trainer.epochs=2"],          # what was typed for all trials and changes their results
    "spaces": [                                 # one a round; each wider than the one before
      {"hash": "1ca88ec103d72ae9", "dimensions": {"optimizer.lr": {"low": 1e-4, "high": 0.1}, …}}],
    "trials": [                                 # by round, rung, point
      {"round": 0, "rung": 0, "point": 0,       # counted from 0; the last rung has the whole length
       "values": {"optimizer.lr": 0.02656, "warmup": "0", …},     # by dimension
       "overrides": ["optimizer.lr=0.02656", …],                  # of train.py, behind optimizer=…
       "directory": "fair_resnet/resnet10t-adamw-s0-1234abcd",    # below OUTPUTS/tuning
       "state": "finished",                     # or "diverged", which is worse than any objective
       "objective": 88.25}],                    # the holdout's top-1 at the end, per cent; null if it diverged
    "winner": {"round": 0, "rung": 0, "point": 7, …},   # that trial, whole; null if every trial diverged
    "edges": [{"dimension": "optimizer.lr", "side": "high"}]}]}   # where no trial lay further out than the winner
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
CURE = "move it away, and make it again with scripts/tune.py, which runs no trial twice"
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
    """What every optimizer of an experiment gets alike.

    Attributes:
        trials: in each round.
        rungs: of successive halving; 1 without it.
        rounds: 2 if the spaces were widened.
        seed: of the trials' runs.
    """

    trials: int
    rungs: int
    rounds: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """One run of a tuning.

    Attributes:
        round: 0, or 1 in the wider spaces.
        rung: of successive halving, from 0; the last has the whole length.
        point: of the sequence that all optimizers share.
        values: by dimension of the space.
        overrides: of train.py that these values mean.
        directory: of the run, below OUTPUTS/tuning.
        state: FINISHED or DIVERGED.
        objective: the holdout's top-1 at the end of the run, per cent; None if it diverged, which is worse than any.
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
        """What sorts trials of one length, the best first; of equals the earlier point."""
        worst = float("inf")
        return (worst if self.objective is None else -self.objective, self.round, self.point)


@dataclass(frozen=True)
class Edge:
    """A dimension in which no trial lay further out than the winner, to the SIDE "low" or "high"."""

    dimension: str
    side: str


@dataclass(frozen=True)
class Tuned:
    """What the trials of one optimizer in one experiment came to.

    Attributes:
        spaces: their hash and dimensions, one a round.
        trials: of all rounds and rungs.
        winner: the best trial of the whole length; None if all diverged.
        edges: where the space may have ended too early.
        arguments: of train.py that were typed for all trials.
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
    """Write the record, whole or not at all."""
    ordered = sorted(tuned, key=lambda one: (one.experiment, one.optimizer))
    content = {"version": VERSION, "tuned": [asdict(one) for one in ordered]}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_tuned(path: Path) -> list[Tuned]:
    """Read a record. Raises a UserError for one that is missing, damaged, or of a newer version."""
    found = read_json(path, {"version": int}, cure=CURE)
    if found["version"] != VERSION:
        raise UserError(
            f"{path} has version {found['version']}, and this code reads version {VERSION}: use newer code."
        )
    found = read_json(path, SHAPE, cure=CURE)
    tuned = [_tuned(path, entry) for entry in found["tuned"]]
    if len({(one.experiment, one.optimizer) for one in tuned}) < len(tuned):
        raise UserError(f"{path} is damaged: it has an optimizer twice in one experiment. {CURE.capitalize()}.")
    return tuned


def winner(trials: Iterable[Trial], rungs: int) -> Trial | None:
    """The best trial of the whole length, of all rounds; None if every one diverged."""
    whole = [trial for trial in trials if trial.rung == rungs - 1 and trial.objective is not None]
    return min(whole, key=lambda trial: trial.rank, default=None)


def record_hash(path: Path) -> str:
    """The hash of a record, by which a run's `tuning.record` names it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def tuned_hash(one: Tuned) -> str:
    """The hash of one optimizer's tuning, by which a run's `tuning.record` names it, whatever else the file holds.

    Of all but the arguments, in which a published copy masks what looks like a key; other arguments make other runs.
    """
    content = asdict(replace(one, arguments=()))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _tuned(path: Path, entry: Mapping[str, Any]) -> Tuned:
    if any(edge["side"] not in SIDES for edge in entry["edges"]):
        raise UserError(f"{path} is damaged: an edge has a side that is none of {', '.join(SIDES)}.")
    one = Tuned(
        entry["experiment"],
        entry["optimizer"],
        Budget(**_known(Budget, entry["budget"])),
        tuple(entry["arguments"]),
        tuple(entry["spaces"]),
        tuple(_trial(path, trial) for trial in entry["trials"]),
        _trial(path, entry["winner"]) if entry.get("winner") else None,
        tuple(Edge(**_known(Edge, edge)) for edge in entry["edges"]),
    )
    if why := _wrong(one):
        raise UserError(f"{path} is damaged: {one.optimizer} in {one.experiment} {why}. {CURE.capitalize()}.")
    return one


def _wrong(one: Tuned) -> str | None:
    """What no tuning comes to, as a clause."""
    budget = one.budget
    if min(budget.trials, budget.rungs, budget.rounds) < 1 or len(one.spaces) != budget.rounds:
        return "has another number of spaces than of rounds, or no trials"
    if one.winner != winner(one.trials, budget.rungs):
        return "has a winner that is not the best of its trials"
    if any(
        not word.lstrip("+~").startswith(PARTS) or "=" not in word for trial in one.trials for word in trial.overrides
    ):
        return f"has a trial that chose something else than {', '.join(PARTS)}"
    return None


def _trial(path: Path, found: Mapping[str, Any]) -> Trial:
    state, objective, directory = found["state"], found.get("objective"), Path(found["directory"])
    if directory.is_absolute() or ".." in directory.parts:
        raise UserError(f"{path} is damaged: the run directory {directory} is not below OUTPUTS/tuning.")
    known = state in (FINISHED, DIVERGED) and (state == FINISHED) == (objective is not None)
    if not known or not 0 <= (objective or 0) <= 100:
        raise UserError(
            f"{path} is damaged: trial {found['point']} has the state {state!r} and the objective {objective}."
        )
    return Trial(**{**_known(Trial, found), "overrides": tuple(found["overrides"]), "objective": objective})


def _known(cls: type, found: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: found[f.name] for f in fields(cls) if f.name in found}
