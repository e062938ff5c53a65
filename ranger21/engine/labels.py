"""The labels of mixed images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    """The labels of images that were mixed in pairs.

    Attributes:
        own: The label of each image, int64 (n,).
        others: The label of the image that it was mixed with.
        share: The share of the image itself, from 0 to 1; `others` has the rest.
    """

    own: Tensor
    others: Tensor
    share: Tensor

    @property
    def larger(self) -> Tensor:
        """The label with the larger share of each image."""
        return torch.where(self.share >= 0.5, self.own, self.others)


Labels = Tensor | Mixed
