"""The interface of a transform of single images. All random numbers are passed in."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

NUMBERS = 9  # random numbers per image


class Transform:
    """A transform of single images on the CPU, with an optional second part for batches on the device."""

    def __call__(self, image: Any, numbers: np.ndarray) -> Tensor:
        """Return pixels, uint8 (channels, height, width), using the random numbers (NUMBERS,)."""
        raise NotImplementedError

    def at(self, epoch: int) -> Transform:
        """Return the transform of an epoch, counted from 0."""
        return self

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the parameters of the device's operations (see `flips_and_jitters`), or None if there are none.

        Args:
            numbers: The random numbers of each image, (n, NUMBERS).
        """
        return None
