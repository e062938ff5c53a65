"""Which images a comparison's figures are of: what was looked at while its runs trained, and what only at their end."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.groups.grouping import Group
from ranger21.system.wording import first_few
from ranger21.tracking.splits import HOLDOUT, OFFICIAL

BEST = {
    OFFICIAL: "best top-1 and best.pt were chosen on the official validation set itself (data.holdout=0): the best of "
    "several looks flatters.",
    HOLDOUT: "best top-1 is of the holdout of the training set (data.holdout), by which best.pt was chosen; the final "
    "figures are of the official validation set, read once, at the end.",
}
UNREAD = "never read the official validation set (trainer.final_validation=false), and has no final figures."


def sentences(groups: Sequence[Group]) -> list[str]:
    """A sentence on each way of choosing the best validation, with its groups where there are several."""
    found = {split: [g.label for g in groups if any(run.watched == split for run in g.runs)] for split in BEST}
    several = all(found.values())
    said = [
        f"{first_few(labels)}: {BEST[split]}" if several else f"{BEST[split][0].upper()}{BEST[split][1:]}"
        for split, labels in found.items()
        if labels
    ]
    unread = [g.label for g in groups if any(run.config.get("trainer.final_validation") is False for run in g.runs)]
    return said + [f"{label} {UNREAD}" for label in unread]
