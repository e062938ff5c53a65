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
    fitting = [kind for kind in KINDS if kind.fits(leg, leg.setup(run))]
    faults, step = list[Fault](), 0
    refused = [kind for kind in fitting if isinstance(kind, Refused)]
    if session and refused and rng.random() < REFUSALS:
        return [Fault(turns.one(refused).name, 0, rng.random())]
    for group, share in GROUPS.items():
        between = [kind for kind in fitting if isinstance(kind, Between) and kind.group == group]
        if session and between and rng.random() < share:
            faults.append(Fault(turns.one(between).name, 0, rng.random()))
    ending = turns.one([kind for kind in fitting if isinstance(kind, Ending)])
    starting = [kind for kind in fitting if isinstance(kind, Within) and kind.starting]
    may_end = any(kind.ends for kind in fitting if kind.name in {fault.kind for fault in faults})
    if starting and not may_end and not ending.armed and rng.random() < STARTS:
        faults.append(Fault(turns.one(starting).name, 0, rng.random()))
    if rng.random() < ending.starting:
        return [*faults, Fault(ending.name, 0, rng.random())]
    within = [kind for kind in fitting if isinstance(kind, Within) and not kind.starting]
    if not within:
        return [*faults, Fault(ending.name, rng.randint(QUIET, 2 * QUIET), rng.random())]
    for call in range(rng.randint(1, 2)):
        step += rng.randint(2, QUIET)
        faults.append(Fault(turns.one(within, call).name, step, rng.random()))
    # The distance matters for a full disk: a replaced worker would find no space for shared memory either.
    return [*faults, Fault(ending.name, step + rng.randint(QUIET, 2 * QUIET), rng.random())]
