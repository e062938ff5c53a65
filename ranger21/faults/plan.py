"""Which faults hit which process of which run: pure functions of the campaign's seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TypeVar

from ranger21.faults.kinds import Between, Ending, Fault, Kind, Refused, Within
from ranger21.faults.listing import KINDS
from ranger21.faults.setups import Leg

K = TypeVar("K", bound=Kind)
REFUSALS, STARTS = 0.2, 0.15  # of the sessions are refused, are hit by something as they start and go on
GROUPS = {"ranks": 1.0, "checkpoint": 0.6, "beside": 0.45}  # of the sessions begin with something of these groups
QUIET = 7  # steps between the last fault that a run must survive, and tell of, and the one that ends it


class Turns:
    """Takes from lists of kinds each once (or as often as it says), in a random order, then again: none is rare."""

    def __init__(self, seed: int, leg: Leg, run: int, session: int) -> None:
        self._name, self._place = f"{seed}/{leg.name}", 100 * run + session

    def one(self, kinds: Sequence[K], call: int = 0) -> K:
        """One of the kinds that this machine can do; it takes the place of one that it cannot."""
        many = [kind for kind in kinds for _ in range(kind.often)]
        for number in itertools.count(self._place + 37 * call):
            turn, place = divmod(number, len(many))
            kind = random.Random(f"{self._name}/{turn}").sample(many, len(many))[place]
            if not kind.impossible():
                return kind
        raise AssertionError


def plan(seed: int, leg: Leg, run: int, session: int) -> list[Fault]:
    """The faults of one session (one start of the command), in their order; the last one ends it."""
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
    # A loader process that is replaced when the disk is full would have no room for shared memory either.
    return [*faults, Fault(ending.name, step + rng.randint(QUIET, 2 * QUIET), rng.random())]
