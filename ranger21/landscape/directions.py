"""Directions in the space of the weights: random ones, the plane through three points, and coordinates on them.

Points and directions are vectors of all parameters of a model, float64 (float32 on MPS, which has no other): what is
added up there and rounded to a checkpoint's own float32 is that checkpoint again.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranger21.system import randomness
from ranger21.system.errors import UserError

FIRST_AXIS, SECOND_AXIS, OF_SHARPNESS = range(3)  # what a seed's random direction is for
LEAST_ANGLE = 1e-6  # sine of the angle at which three points lie on a line


class Layout:
    """Where each parameter of a model lies in a vector of them all, in the model's own order."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.size = sum(self.sizes)

    def join(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The vector (size,) of these parameters, float64."""
        pieces = [parameters[name].detach().reshape(-1) for name in self.shapes]
        device = pieces[0].device
        return torch.cat(pieces).to(torch.float32 if device.type == "mps" else torch.float64)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Of vectors (..., size) the parameters, (..., *shape) each."""
        pieces = vectors.split(self.sizes, dim=-1)
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.reshape(*vectors.shape[:-1], *shape) for (name, shape), piece in named}


def random_direction(kind: str, weights: Tensor, layout: Layout, seed: int, purpose: int) -> Tensor:
    """A random direction (size,), a function of the seed and of what it is for. Its length 1 is that of the weights.

    Args:
        kind: `plain`, a Gaussian vector scaled to the norm of the weights as a whole, or `filter`, see below.
        weights: (size,), around which one looks.
    """
    generator = torch.Generator().manual_seed(randomness.seed(randomness.DIRECTION, seed, purpose))
    noise = torch.randn(layout.size, generator=generator, dtype=torch.float64).to(weights)
    return filter_normalized(noise, weights, layout) if kind == "filter" else noise * (weights.norm() / noise.norm())


def filter_normalized(noise: Tensor, weights: Tensor, layout: Layout) -> Tensor:
    """The noise with each filter scaled to the norm of the same filter of the weights, (size,).

    Li et al. 2018 (arXiv:1712.09913, section 4). A filter is what makes one output channel, or one output of a linear
    layer: an index of a parameter's first dimension. Where that leaves single numbers (biases, norms' scales, gains),
    the direction is zero, as in their code with --xignore biasbn, with which they drew.
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
    """Orthonormal axes (2, size) of the plane through three points (3, size): the first leads from the first to the
    second. Raises a UserError if they lie on a line."""
    first, second = points[1] - points[0], points[2] - points[0]
    length = first.norm()
    across = second - first * (first @ second / length**2 if length else 0)
    if not across.norm() > LEAST_ANGLE * second.norm() or not length:
        raise UserError(
            "The three checkpoints lie on a line, or two of them are the same, so that they make no plane: give three "
            "that differ."
        )
    axes = torch.stack([first / length, across / across.norm()])
    axes[1] -= axes[0] * (axes[0] @ axes[1])  # once more: what rounding left of the first
    axes[1] /= axes[1].norm()
    return axes


def coordinates(offsets: Tensor, axes: Tensor) -> Tensor:
    """The coordinates (n, 2) on two axes (2, size), orthogonal or not, of the points nearest to `offsets` (n, size)."""
    return torch.linalg.solve(axes @ axes.T, axes @ offsets.T).T


def captured(offsets: Tensor, axes: Tensor) -> Tensor:
    """What part (n,) of each offset's squared length lies in the plane, from 0 to 1; 1 where there is no offset."""
    within = (coordinates(offsets, axes) @ axes).square().sum(1)
    whole = offsets.square().sum(1)
    return torch.where(whole > 0, within / whole, torch.ones_like(whole))
