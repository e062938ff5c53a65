"""Muon's orthogonalisation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import COUNT, Place, Transform, argument, one_of
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0, so that few steps will do
LEAST = 1e-7  # norm that a matrix is divided by


@dataclass(frozen=True)
class Orthogonalize(Transform):
    """Muon's orthogonalisation (Jordan et al. 2024): of a matrix U S V^T about U V^T, by `steps` of Newton and Schulz.

    A tensor of more axes is a matrix of its output channels; one of fewer cannot have it. Whatever size comes in, what
    goes out has the size of `scale`: "spectral", singular values of about sqrt(max(1, rows / columns)); "rms", elements
    of about 0.2, which is AdamW's size (Liu et al. 2025), so that both can share a learning rate.
    """

    name, place, role = "orthogonalize", Place.UPDATE, "orthogonalisation"
    sees = "a tensor"
    steps: int = argument(5, COUNT)
    scale: str = argument("spectral", one_of("spectral", "rms"))

    def check_param(self, param: Tensor) -> None:
        if param.ndim < 2:
            raise ValueError(
                f"orthogonalize is for matrices, and not for a tensor of shape {tuple(param.shape)}: give such tensors "
                "other parts, as in parts={matrices: […], vectors: […]}, or in a group of their own."
            )

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [self.orthogonal(x.flatten(1)).reshape(x.shape) for x in xs]

    def orthogonal(self, x: Tensor) -> Tensor:
        """Return a matrix with singular values near the scale, and the singular vectors of `x`."""
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
