"""Directions in the space of the weights: random directions, the plane through three points, and coordinates.

Points and directions are vectors of all parameters of a model in float64 (float32 on MPS), so that a checkpoint's
float32 weights are recovered exactly by rounding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranger21.system import randomness
from ranger21.system.errors import UserError

FIRST_AXIS, SECOND_AXIS, OF_SHARPNESS = range(3)  # purposes of random directions
LEAST_ANGLE = 1e-6  # sine of the angle below which three points count as lying on a line


class Layout:
    """The positions of a model's parameters in a vector of all parameters, in the model's order."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.size = sum(self.sizes)

    def join(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Concatenate parameters to a vector (size,), float64 (float32 on MPS)."""
        pieces = [parameters[name].detach().reshape(-1) for name in self.shapes]
        device = pieces[0].device
        return torch.cat(pieces).to(torch.float32 if device.type == "mps" else torch.float64)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Split vectors (..., size) into parameters (..., *shape), by name."""
        pieces = vectors.split(self.sizes, dim=-1)
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.reshape(*vectors.shape[:-1], *shape) for (name, shape), piece in named}


def random_direction(kind: str, weights: Tensor, layout: Layout, seed: int, purpose: int) -> Tensor:
    """Return a random direction (size,), determined by the seed and the purpose and scaled to the weights.

    Args:
        kind: `plain`, a Gaussian vector with the norm of the weights, or `filter` (see `filter_normalized`).
        weights: (size,), the center of the landscape.
        layout: the layout of the weights.
        seed: the seed of the direction.
        purpose: FIRST_AXIS, SECOND_AXIS or OF_SHARPNESS.
    """
    generator = torch.Generator().manual_seed(randomness.seed(randomness.DIRECTION, seed, purpose))
    noise = torch.randn(layout.size, generator=generator, dtype=torch.float64).to(weights)
    return filter_normalized(noise, weights, layout) if kind == "filter" else noise * (weights.norm() / noise.norm())


def filter_normalized(noise: Tensor, weights: Tensor, layout: Layout) -> Tensor:
    """Return noise (size,) with each filter scaled to the norm of the same filter of the weights.

    See Li et al. 2018 (arXiv:1712.09913, section 4). A filter is the slice of a parameter for one index of its first
    dimension: one output channel of a convolution, or one output of a linear layer. The direction is zero for
    parameters whose slices are single numbers (biases, scales of norms, gains), as in the authors' code with the
    option --xignore biasbn, which they used for their figures.
    """
    own, scaled = layout.split(weights), {}
    for name, piece in layout.split(noise).items():
        if piece.ndim < 2 or piece[0].numel() == 1:
            scaled[name] = torch.zeros_like(piece)
            continue
        rows = piece.flatten(1)
        factors = own[name].flatten(1).norm(dim=1) / rows.norm(dim=1)
        scaled[name] = (rows * factors[:, None]).view_as(piece)
    return layout.join(scaled)


def plane(points: Tensor) -> Tensor:
    """Return orthonormal axes (2, size) of the plane through three points (3, size).

    The first axis points from the first to the second point. Raises a UserError if the points lie on a line.
    """
    first, second = points[1] - points[0], points[2] - points[0]
    length = first.norm()
    across = second - first * (first @ second / length**2 if length else 0)
    if not across.norm() > LEAST_ANGLE * second.norm() or not length:
        raise UserError(
            "The three checkpoints lie on a line, or two of them are the same, so they do not span a plane: give three "
            "different checkpoints."
        )
    axes = torch.stack([first / length, across / across.norm()])
    axes[1] -= axes[0] * (axes[0] @ axes[1])  # again, to remove rounding errors
    axes[1] /= axes[1].norm()
    return axes


def coordinates(offsets: Tensor, axes: Tensor) -> Tensor:
    """Return the coordinates (n, 2) of the points of a plane nearest to `offsets` (n, size).

    The axes (2, size) need not be orthogonal.
    """
    return torch.linalg.solve(axes @ axes.T, axes @ offsets.T).T


def captured(offsets: Tensor, axes: Tensor) -> Tensor:
    """Return the fraction (n,) of each offset's squared length that lies in the plane; 1 for a zero offset."""
    within = (coordinates(offsets, axes) @ axes).square().sum(1)
    whole = offsets.square().sum(1)
    return torch.where(whole > 0, within / whole, torch.ones_like(whole))
