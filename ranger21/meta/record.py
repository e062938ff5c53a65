"""Write and read composed.json, the result of the searches. Its bytes depend only on the trials.

{"version": 1, "experiment": "fair_resnet", "arguments": [], "budget": 16, "steps": 858, "images": 109824,
 "chance": 0.1,
 "space": {"agc": ["none", "agc", …], …, "optimizer.lr": ["0.0001", …]},    # the options of each slot
 "searches": [
   {"search": "thompson", "seed": 0,
    "trials": [{"round": 0, "rung": 0, "point": 0, "values": {"agc": "none", …},       # as in tuned.json; `round` is
                "overrides": ["optimizer.parts=[…]", …], "directory": "fair_resnet/…", # the bracket, and `point` the
                "state": "finished", "objective": 71.3}],                              # arm's place in it
    "winner": {…}}],                                     # a copy of that trial; null if all of full length diverged
 "rivals": [{"optimizer": "adamw", "trials": 16, "record": "0d90a4503a73a211"}]}    # tuned for the final runs
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.masking import masked_values
from ranger21.system.reading import read_json
from ranger21.system.wording import counted
from ranger21.tuning.record import TRIAL, Trial, read_trial, winner

NAME, VERSION = "composed.json", 1
RUNGS = 4
CURE = "move it away and run scripts/compose.py again, which reuses all finished runs"
SHAPE = {
    "version": int, "experiment": str, "arguments": [str], "budget": int, "steps": int, "images": int, "chance": float,
    "space": dict,
    "searches": [{"search": str, "seed": int, "trials": [TRIAL], "winner?": TRIAL}],
    "rivals": [{"optimizer": str, "trials": int, "record": str}],
}  # fmt: skip


@dataclass(frozen=True)
class Searched:
    """One search and its trials.

    Attributes:
        search: its name in `ranger21.meta.propose.SEARCHES`.
        seed: the seed of its proposals and of its runs.
        winner: the best trial of full length; None if all of them diverged.
    """

    search: str
    seed: int
    trials: tuple[Trial, ...]
    winner: Trial | None

    @property
    def name(self) -> str:
        return f"{self.search}-{self.seed}"

    @property
    def hash(self) -> str:
        """A hash of the winner, by which a run's `tuning.record` refers to it. Equal winners share it."""
        words = None if self.winner is None else [*self.winner.overrides, self.winner.directory.partition("/")[0]]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Rival:
    """A tuned optimizer that the winners are compared with.

    Attributes:
        trials: the number of its trials of full length.
        record: the hash of its tuning, by which runs refer to it.
    """

    optimizer: str
    trials: int
    record: str


@dataclass(frozen=True)
class Composed:
    """The searches for an optimizer for one task.

    Attributes:
        arguments: the arguments of train.py for all trials that can change a result.
        budget: the budget of each search, in full runs.
        steps, images: the numbers of steps and images of a full run.
        chance: the accuracy of guessing, as a fraction.
        space: the labels of the options of each slot.
        rivals: the optimizers with which the final runs compare the winners; empty before the final runs.
    """

    experiment: str
    arguments: tuple[str, ...]
    budget: int
    steps: int
    images: int
    chance: float
    space: Mapping[str, Sequence[str]]
    searches: tuple[Searched, ...]
    rivals: tuple[Rival, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the winners in comparisons of runs, by their hashes. Equal winners share one."""
        names: dict[str, list[str]] = {}
        for one in self.searches:
            if one.winner:
                names.setdefault(one.hash, []).append(one.name)
        how = f"composed, {counted(self.budget, 'full run')}"
        return {record: f"{' and '.join(found)} ({how})" for record, found in names.items()}


def write_composed(path: Path, composed: Composed) -> None:
    """Write a composed.json, whole or not at all."""
    content = {"version": VERSION, **asdict(composed)}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def for_publication(composed: Composed, folder: Path) -> Composed:
    """Return a composed.json's content for publication in a folder. Arguments that look like keys are masked.

    Raises:
        UserError: the folder has a composed.json of another task, or a damaged one.
    """
    shown = replace(composed, arguments=tuple(masked_values(composed.arguments)))
    if (path := folder / NAME).exists():
        there = read_composed(path)
        if (there.experiment, there.arguments) != (shown.experiment, shown.arguments):
            task = " ".join((f"experiment={there.experiment}", *there.arguments))
            raise UserError(f"{path} has the searches of another task, {task}: choose another --record.")
    return shown


def read_composed(path: Path) -> Composed:
    """Read a composed.json.

    Raises:
        UserError: the file is damaged, is no composed.json, or is of a newer version.
    """
    if read_json(path, {"version": int}, cure=CURE)["version"] != VERSION:
        raise UserError(f"{path} is of another version than {VERSION}, which this code reads. Use newer code.")
    found = read_json(path, SHAPE, cure=CURE)
    searches = []
    for one in found["searches"]:
        trials = tuple(read_trial(path, trial) for trial in one["trials"])
        won = read_trial(path, one["winner"]) if one.get("winner") else None
        if won != winner(trials, RUNGS):
            raise UserError(
                f"{path} is damaged: the winner of {one['search']} is not its best trial. {CURE.capitalize()}."
            )
        searches.append(Searched(one["search"], one["seed"], trials, won))
    names = ("experiment", "budget", "steps", "images", "chance", "space")
    more = {name: found[name] for name in names}
    rivals = tuple(Rival(one["optimizer"], one["trials"], one["record"]) for one in found["rivals"])
    return Composed(**more, arguments=tuple(found["arguments"]), searches=tuple(searches), rivals=rivals)
