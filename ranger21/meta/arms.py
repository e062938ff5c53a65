"""The arms of a search: chains with a schedule, a learning rate and a weight decay, as arguments of train.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ranger21.meta import grammar
from ranger21.meta.space import Arm, Option, Space
from ranger21.tuning.space import Choice, LogRange, read_space
from ranger21.tuning.space import Space as TuningSpace

LEVELS = 3  # values per decade of a range
SAMPLED = 5000  # combinations of options by which the space is measured
WEIGHT_DECAY = "optimizer.weight_decay"


class Arms:
    """All arms: the chains that the ingredients permit, times the dimensions of configs/space/chain.yaml.

    Ranges are divided into `LEVELS` values per decade. An arm without a decaying ingredient has no weight decay.
    """

    def __init__(self) -> None:
        self._dimensions = read_space("chain")
        slots = grammar.slots()
        for name, one in self._dimensions.dimensions.items():
            slots[name] = _levels(one) if isinstance(one, LogRange) else _choices(name, one)
        needs = {WEIGHT_DECAY: grammar.DECAY} if WEIGHT_DECAY in self._dimensions.dimensions else {}
        self.space = Space(slots, grammar.is_chain, needs)

    def overrides(self, arm: Arm) -> tuple[str, ...]:
        """Return the arguments of train.py for an arm, to follow `optimizer=chain`."""
        values = {
            name: float(arm[name]) if isinstance(one, LogRange) else arm[name]
            for name, one in self._dimensions.dimensions.items()
        }
        words = [
            f"{WEIGHT_DECAY}=0" if word.startswith(f"{WEIGHT_DECAY}=") and not grammar.decays(arm) else word
            for word in self._dimensions.overrides(values)
        ]
        return (*_parts(grammar.parts(arm)), *words)

    def sets(self) -> set[str]:
        """Return the keys of train.py that arms set."""
        return {"optimizer.parts", *self._dimensions.sets()}

    def sizes(self) -> tuple[float, float]:
        """Return the approximate numbers of chains and of arms, from random combinations of options."""
        rng, slots = np.random.default_rng(0), grammar.slots()
        drawn = [
            {slot: options[int(rng.integers(len(options)))].label for slot, options in slots.items()}
            for _ in range(SAMPLED)
        ]
        valid = [arm for arm in drawn if grammar.is_chain(arm)]
        all_chains = math.prod(len(options) for options in slots.values())
        others = {name: len(self.space.slots[name]) for name in self._dimensions.dimensions}
        decays = others.pop(WEIGHT_DECAY, 1)
        per_chain = [math.prod(others.values()) * (decays if grammar.decays(arm) else 1) for arm in valid]
        return all_chains * len(valid) / SAMPLED, all_chains * sum(per_chain) / SAMPLED

    def recorded(self) -> TuningSpace:
        """Return the space as one of `ranger21.tuning`, for the journal of the trials."""
        choices = {slot: Choice(dict.fromkeys(labels, ())) for slot, labels in self.space.content().items()}
        return TuningSpace("chain", choices)

    def shown(self, arm: Arm) -> str:
        """Return an arm as text for people: its chain, then the other slots."""
        others = [
            f"{slot.removeprefix('optimizer.')} {arm[slot]}"
            for slot in self._dimensions.dimensions
            if self.space.matters(arm, slot)
        ]
        return "; ".join((grammar.shown(grammar.chain(arm)), ", ".join(others)))


def _levels(one: LogRange) -> tuple[Option, ...]:
    """Return values that divide a range evenly on a logarithmic scale, about `LEVELS` per decade."""
    steps = max(1, round(LEVELS * math.log10(one.high / one.low)))
    values = [float(f"{one.low * (one.high / one.low) ** (step / steps):.2g}") for step in range(steps + 1)]
    return tuple(Option(f"{value:g}", f"{value:g}", (), math.log10(value)) for value in values)


def _choices(name: str, one: Choice) -> tuple[Option, ...]:
    return tuple(Option(label, label if name == "schedule" else f"{name} {label}") for label in one.options)


def _parts(parts: Any) -> tuple[str, ...]:
    """Return the arguments that set `optimizer.parts`. A mapping must first remove the list that it replaces."""
    if isinstance(parts, Mapping):
        return "~optimizer.parts", f"+optimizer.parts={_hydra(parts)}"
    return (f"optimizer.parts={_hydra(parts)}",)


def _hydra(value: Any) -> str:
    """Return a value as Hydra's grammar writes it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_hydra, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
