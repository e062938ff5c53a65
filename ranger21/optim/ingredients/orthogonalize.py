"""Muon's orthogonalization."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import GradientTransform, Place, argument
from ranger21.optim.ranges import COUNT, one_of
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al.'s: steep at 0, so that few steps suffice
LEAST = 1e-7  # lower bound of the norm that a matrix is divided by


@dataclass(frozen=True)
class Orthogonalize(GradientTransform):
    """Replace a matrix U S V^T by approximately U V^T, with Newton-Schulz iterations (Muon, Jordan et al. 2024).

    Tensors with more than two axes are flattened to matrices with one row per output channel. The scale of the result
    does not depend on that of the input.

    Attributes:
        steps: Number of Newton-Schulz iterations, at least 1.
        scale: "spectral" gives singular values of about sqrt(max(1, rows / columns)). "rms" gives elements with a
            root mean square of about 0.2, like AdamW's (Liu et al. 2025), so that both can share a learning rate.

    Raises:
        ValueError: If a tensor has fewer than two axes.
    """

    name, place, role = "orthogonalize", Place.UPDATE, "orthogonalization"
    sees = "a tensor"
    steps: int = argument(5, COUNT)
    scale: str = argument("spectral", one_of("spectral", "rms"))

    def check_param(self, param: Tensor) -> None:
        if param.ndim < 2:
            raise ValueError(
                f"orthogonalize needs tensors with at least two axes, not shape {tuple(param.shape)}. Give other "
                "tensors different parts, as in parts={matrices: […], vectors: […]}, or put them in a different group."
            )

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [self.orthogonal(x.flatten(1)).reshape(x.shape) for x in xs]

    def orthogonal(self, x: Tensor) -> Tensor:
        """Return a matrix with the singular vectors of `x` and singular values near the scale."""
        rows, columns = x.shape
        scale = math.sqrt(max(1, rows / max(1, columns)))
        if self.scale == "rms":
            scale = 0.2 * math.sqrt(max(rows, columns))
        a, b, c = COEFFICIENTS
        x = x / torch.linalg.vector_norm(x).clamp(min=LEAST)
        x = x.T if rows > columns else x
        for _ in range(self.steps):
            squares = x @ x.T
            x = a * x + (b * squares + c * squares @ squares) @ x
        return scale * (x.T if rows > columns else x)
