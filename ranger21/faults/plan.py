"""The plan of a campaign, which is a pure function of its seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from ranger21.faults.kinds import Between, Ending, Fault, Kind, Refused, Within
from ranger21.faults.listing import KINDS
from ranger21.faults.setups import Leg

K = TypeVar("K", bound=Kind)
REFUSALS, STARTS = 0.2, 0.15  # fractions of sessions with a refused start, and with a fault during startup
GROUPS = {"ranks": 1.0, "checkpoint": 0.6, "beside": 0.45}  # fractions of sessions with a fault of a group before them
QUIET = 7  # steps between the last fault that a run must survive and report, and the fault that ends it


class Turns:
    """Chooses kinds in random rounds, each of which has every kind `often` times, so that no kind is rare."""

    def __init__(self, seed: int, leg: Leg, run: int, session: int) -> None:
        self._name, self._place = f"{seed}/{leg.name}", 100 * run + session

    def one(self, kinds: Sequence[K], call: int = 0) -> K:
        """Return the next kind, skipping kinds that are impossible on this machine."""
        many = [kind for kind in kinds for _ in range(kind.often)]
        for number in itertools.count(self._place + 37 * call):
            turn, place = divmod(number, len(many))
            kind = random.Random(f"{self._name}/{turn}").sample(many, len(many))[place]
            if not kind.impossible():
                return kind
        raise AssertionError


def plan(seed: int, leg: Leg, run: int, session: int) -> list[Fault]:
    """Return the faults of one session (one start of the command) in order; the last one ends it."""
    rng, turns = random.Random(f"{seed}/{leg.name}/{run}/{session}"), Turns(seed, leg, run, session)
    kinds = [kind for kind in KINDS if kind.fits(leg, leg.setup(run))]
    refused = [kind for kind in kinds if isinstance(kind, Refused)]
    if session and refused and rng.random() < REFUSALS:
        return [Fault(turns.one(refused).name, 0, rng.random())]
    faults = _before(kinds, rng, turns) if session else []
    ending = turns.one([kind for kind in kinds if isinstance(kind, Ending)])
    if not ending.armed:
        faults += _during_startup(kinds, faults, rng, turns)
    if rng.random() < ending.starting:
        return [*faults, Fault(ending.name, 0, rng.random())]
    faults += _while_training(kinds, rng, turns)
    # The distance matters for a full disk: a replaced worker would find no space for shared memory either.
    last = max((fault.after for fault in faults), default=0)
    return [*faults, Fault(ending.name, last + rng.randint(QUIET, 2 * QUIET), rng.random())]


def _before(kinds: Sequence[Kind], rng: random.Random, turns: Turns) -> list[Fault]:
    """Return the faults between the session before and this one: at most one of each group."""
    faults = []
    for group, share in GROUPS.items():
        between = [kind for kind in kinds if isinstance(kind, Between) and kind.group == group]
        if between and rng.random() < share:
            faults.append(Fault(turns.one(between).name, 0, rng.random()))
    return faults


def _during_startup(kinds: Sequence[Kind], before: list[Fault], rng: random.Random, turns: Turns) -> list[Fault]:
    """Return at most one fault during startup; none if a fault before it may end the session."""
    starting = [kind for kind in kinds if isinstance(kind, Within) and kind.starting]
    names = {fault.kind for fault in before}
    if starting and not any(kind.ends for kind in kinds if kind.name in names) and rng.random() < STARTS:
        return [Fault(turns.one(starting).name, 0, rng.random())]
    return []


def _while_training(kinds: Sequence[Kind], rng: random.Random, turns: Turns) -> list[Fault]:
    """Return one or two faults that the run must survive, with at least two steps between them."""
    within = [kind for kind in kinds if isinstance(kind, Within) and not kind.starting]
    faults, step = list[Fault](), 0
    for call in range(rng.randint(1, 2)) if within else ():
        step += rng.randint(2, QUIET)
        faults.append(Fault(turns.one(within, call).name, step, rng.random()))
    return faults
