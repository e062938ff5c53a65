"""Say which images the figures of a comparison are measured on: those validated on in training, or only at the end."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.groups.grouping import Group
from ranger21.system.wording import first_few
from ranger21.tracking.splits import HOLDOUT, OFFICIAL

BEST = {
    OFFICIAL: "best top-1 and best.pt were selected on the official validation set itself (data.holdout=0), so best "
    "top-1 is biased upwards.",
    HOLDOUT: "best top-1 is measured on the holdout of the training set (data.holdout), on which best.pt was selected; "
    "the final figures are measured on the official validation set, once, at the end.",
}
UNREAD = "never evaluated on the official validation set (trainer.final_validation=false): it has no final figures."
AVERAGE = (
    "also kept an average of the weights (trainer.ema), which chose best.pt; its figures are those of the raw weights."
)


def sentences(groups: Sequence[Group]) -> list[str]:
    """Return a sentence for each split that best.pt was selected on, naming the groups if there are several splits.

    Further sentences name groups that were never evaluated on the official set, or that kept an average of the weights.
    """
    found = {split: [g.label for g in groups if any(run.watched == split for run in g.runs)] for split in BEST}
    several = all(found.values())
    said = [
        f"{first_few(labels)}: {BEST[split]}" if several else f"{BEST[split][0].upper()}{BEST[split][1:]}"
        for split, labels in found.items()
        if labels
    ]
    unread = [g.label for g in groups if any(run.config.get("trainer.final_validation") is False for run in g.runs)]
    averaged = [g.label for g in groups if any(run.config.get("trainer.ema") for run in g.runs)]
    return said + [f"{label} {UNREAD}" for label in unread] + [f"{label} {AVERAGE}" for label in averaged]
