"""Snapshot ensembles (Huang et al. 2017, arXiv:1704.00109): average the predictions of checkpoints of one run."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ranger21.records.checkpoint import Checkpoints
from ranger21.system.errors import UserError


class Ensemble(nn.Module):
    """A model whose probabilities are the mean of its members'."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the mean of the members' probabilities, in float32, (batch, classes)."""
        each = torch.stack([member(images).float().log_softmax(1) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))


def snapshots(run: str) -> list[Path]:
    """Return the checkpoints that a run kept, by step.

    Raises:
        UserError: If there are fewer than two.
    """
    found = Checkpoints(Path(run) / "checkpoints").kept()
    if len(found) < 2:
        count = f"only one kept checkpoint, {found[0]}" if found else "no kept checkpoints"
        raise UserError(
            f"{run} has {count}: --ensemble needs the directory of a run with at least two. schedule=cyclic keeps a "
            "checkpoint at the end of every cycle, and 'trainer.keep_every=5 epochs' every five epochs."
        )
    return found
