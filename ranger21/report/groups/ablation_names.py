"""Name the configurations of the ablation, such as `minus_pnm`, in place of a list of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ranger21.config.ablation import INGREDIENTS, ON

RANGER21 = "ranger21"
# The value of each setting in Ranger21's own configuration (configs/optimizer/ranger21.yaml).
DEFAULTS: dict[str, Any] = {
    "schedule.name": "explore_exploit",
    "optimizer.agc_clipping": 0.01,
    "optimizer.centralize": True,
    "optimizer.pnm": True,
    "optimizer.stable_decay": "layer",
    "optimizer.norm_loss": True,
    "optimizer.lookahead_k": 5,
}
FEW = 2  # a label with at most this many of the settings is as clear as the name
NAMES = {frozenset(on): name for name, on in ON.items()}


def ablation_name(settings: Mapping[str, Any], listed: Sequence[str]) -> tuple[str | None, set[str]]:
    """Return the name of a group's configuration in the ablation, and the settings that this name replaces in a label.

    Args:
        listed: the dotted keys that a label would list.

    Returns:
        The name, or None if the optimizer is not Ranger21, the label would list only a few of the ingredients, or no
        configuration of the ablation has these ingredients with Ranger21's own values.
    """
    spared = {key for key, _ in INGREDIENTS.values() if key in listed}
    if settings.get("optimizer.name") != RANGER21 or len(spared) <= FEW:
        return None, set()
    on = set()
    for name, (key, off) in INGREDIENTS.items():
        value = settings.get(key, off)
        if value != off:
            on.add(name)
        if value not in (off, DEFAULTS[key]):
            spared.discard(key)
    found = NAMES.get(frozenset(on))
    return (found, spared) if found else (None, set())
