"""Choose the colours and dash patterns of groups: those of their optimizers, whatever else is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ranger21.config.ablation import LADDER
from ranger21.report.groups.grouping import OPTIMIZER, Group, show
from ranger21.tracking.colours import Look, look_of, variants

COMPLETE = tuple(LADDER)[-1]  # the name of the ablation's configuration with every ingredient


def looks(groups: Sequence[Group]) -> list[Look]:
    """Return the look of each group."""
    found = looks_of({group.label: optimizer_of(group) for group in groups})
    return [found[group.label] for group in groups]


def looks_of(optimizers: Mapping[str, str]) -> dict[str, Look]:
    """Return the look of each label, given the name of its optimizer.

    The shortest label of an optimizer, or in an ablation its complete configuration, has the optimizer's own look; its
    other labels have variants of it.
    """
    members: dict[str, list[str]] = {}
    for label, optimizer in optimizers.items():
        members.setdefault(optimizer, []).append(label)
    found: dict[str, Look] = {}
    for optimizer, labels in members.items():
        labels = sorted(labels, key=lambda label: (not label.endswith(COMPLETE), len(label), label))
        made = variants(look_of(optimizer), len(labels), alone=len(members) == 1)
        found |= dict(zip(labels, made, strict=True))
    return found


def optimizer_of(group: Group) -> str:
    """Return the name of a group's optimizer; empty if its runs record none."""
    return show(group.settings.get(OPTIMIZER, ""))
