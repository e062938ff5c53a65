"""Landscapes: directions, the loss at given weights, and sharpness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.landscape import make_model
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ranger21.landscape import directions, survey
from ranger21.landscape.directions import Layout
from ranger21.landscape.loss import Loss
from ranger21.landscape.settings import Settings
from ranger21.landscape.subject import LoadedCheckpoint
from ranger21.system.errors import UserError


def vector(model: nn.Module) -> tuple[Layout, Tensor]:
    layout = Layout(dict(model.named_parameters()))
    return layout, layout.join(dict(model.named_parameters()))


def batches(count: int, size: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    return [(torch.randn(size, 3, 32, 32), torch.randint(0, 10, (size,))) for _ in range(count)]


def test_each_filter_of_a_filter_direction_has_the_norm_of_the_weights_filter() -> None:
    layout, weights = vector(make_model())
    found = directions.random_direction("filter", weights, layout, 0, directions.FIRST_AXIS)
    own = layout.split(weights)
    zero = 0
    for name, piece in layout.split(found).items():
        if piece.ndim == 1:
            assert not piece.any(), name
            zero += 1
        else:
            torch.testing.assert_close(piece.flatten(1).norm(dim=1), own[name].flatten(1).norm(dim=1))
            assert piece.any()
    assert zero > 10
    again = directions.random_direction("filter", weights, layout, 0, directions.FIRST_AXIS)
    other = directions.random_direction("filter", weights, layout, 0, directions.SECOND_AXIS)
    assert torch.equal(found, again) and abs(found @ other) < 0.1 * weights @ weights


def test_a_plain_direction_has_the_norm_of_all_weights() -> None:
    layout, weights = vector(make_model())
    found = directions.random_direction("plain", weights, layout, 3, directions.FIRST_AXIS)
    assert found.norm() == pytest.approx(weights.norm().item()) and found.all()


def test_a_plane_passes_exactly_through_its_points() -> None:
    """The points are reproduced bit for bit in float32, and the axes are orthonormal."""
    points = torch.stack([vector(make_model(seed))[1] for seed in range(3)])
    axes = directions.plane(points)
    torch.testing.assert_close(axes @ axes.T, torch.eye(2, dtype=torch.float64), atol=1e-14, rtol=0)
    places = directions.coordinates(points - points[0], axes)
    assert places[0].abs().max() == 0 and abs(places[1, 1]) < 1e-12
    assert torch.equal((points[0] + places @ axes).float(), points.float())
    for same in (points[[0, 1, 1]], points[[0, 0, 1]], torch.stack([points[0], points[1], 2 * points[1] - points[0]])):
        with pytest.raises(
            UserError, match=r"^The three checkpoints lie on a line, .* give three different checkpoints\.$"
        ):
            directions.plane(same)


def test_the_projection_is_exact_within_the_plane_and_least_squares_outside() -> None:
    torch.manual_seed(0)
    axes = torch.randn(2, 50, dtype=torch.float64) + 1  # not orthogonal
    places = torch.randn(6, 2, dtype=torch.float64)
    inside, outside = places @ axes, torch.randn(6, 50, dtype=torch.float64)
    torch.testing.assert_close(directions.coordinates(inside, axes), places, atol=1e-12, rtol=0)
    torch.testing.assert_close(directions.captured(inside, axes), torch.ones(6, dtype=torch.float64))
    best = torch.linalg.lstsq(axes.T, outside.T).solution.T
    torch.testing.assert_close(directions.coordinates(outside, axes), best, atol=1e-12, rtol=0)
    assert (directions.captured(outside, axes) < 0.5).all()
    assert directions.captured(torch.zeros(1, 50, dtype=torch.float64), axes).item() == 1


@pytest.mark.parametrize("statistics", [0, 2])
@pytest.mark.parametrize("at_once", [2, 5])
def test_vmap_gives_the_losses_of_a_loop_and_leaves_the_model_unchanged(statistics: int, at_once: int) -> None:
    """Batch norm statistics are kept, or recomputed at every point."""
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layout, weights = vector(model)
    step = directions.random_direction("filter", weights, layout, 0, 0)
    points = weights + torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None] * step
    loss = Loss(model, layout, batches(2, 8), [images for images, _ in batches(statistics, 16, 1)], 0.1)
    one_by_one = torch.cat([loss(point[None]) for point in points])
    together = torch.cat([loss(points[begin : begin + at_once]) for begin in range(0, 5, at_once)])
    torch.testing.assert_close(together, one_by_one, atol=1e-6, rtol=1e-6)
    assert one_by_one.std() > 0.01
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()) and not model.training


def test_recomputed_statistics_match_torchs_update_bn() -> None:
    model, other = make_model(), make_model(1)
    layout, weights = vector(other)
    data, images = batches(1, 8), [images for images, _ in batches(3, 16, 1)]
    update_bn(images, other)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(other.eval()(data[0][0]), data[0][1]).item()
    assert Loss(model, layout, data, images, 0.0)(weights[None]).item() == pytest.approx(expected, abs=1e-6)


class Linear(nn.Module):
    """Logits that are linear in the weights, so that the loss and its second derivative have a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def linear_problem() -> tuple[LoadedCheckpoint, np.ndarray, np.ndarray]:
    torch.manual_seed(0)
    model, x, labels = Linear(), torch.randn(20, 6, dtype=torch.float64), torch.randint(0, 4, (20,))
    layout, weights = vector(model)
    loss = Loss(model, layout, [(x[:12], labels[:12]), (x[12:], labels[12:])], [], 0.0)
    checkpoint: Any = type("Checkpoint", (), {"label": "linear", "source": "linear", "step": 0})
    return LoadedCheckpoint(checkpoint, layout, weights, loss, {}, {}), x.numpy(), labels.numpy()


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_surface_of_a_linear_model_matches_its_formula(at_once: int) -> None:
    subject, x, labels = linear_problem()
    view = survey._views([subject], Settings(("w",), points=5, radius=0.8))[0]
    surface = survey._empty(view)
    heights = np.array(list(survey._rows(view, surface, at_once)))
    w, u, v = (vector.numpy().reshape(4, 6) for vector in (view.origin, *view.axes))
    for (j, i), found in np.ndenumerate(heights):
        logits = x @ (w + view.xs[i] * u + view.ys[j] * v).T
        expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(20), labels])
        assert found == pytest.approx(expected, abs=1e-13)
    assert view.xs == view.ys == [-0.8, -0.4, 0, 0.4, 0.8]


def test_sharpness_is_the_local_curvature_and_depends_only_on_the_seeds() -> None:
    """S = r^2 / 2 d'Hd + O(r^4). Each seed has its own direction d, and the result has the spread over the seeds."""
    subject, x, labels = linear_problem()

    def loss(weights: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.from_numpy(x) @ weights.view(4, 6).T, torch.from_numpy(labels))

    hessian: Any = torch.autograd.functional.hessian(loss, subject.weights)
    found = survey.sharpness(subject, 1e-3, [0, 1, 2])
    for seed, value in zip(found.seeds, found.values, strict=True):
        d = directions.random_direction("filter", subject.weights, subject.layout, seed, directions.OF_SHARPNESS)
        assert value == pytest.approx((5e-7 * d @ hessian @ d).item(), rel=1e-4)
    assert survey.sharpness(subject, 1e-3, [0, 1, 2]) == found and len(set(found.values)) == 3
    assert (found.mean, found.sd) == (pytest.approx(np.mean(found.values)), pytest.approx(np.std(found.values, ddof=1)))
    assert "± " in found.sentence() and "(n = 3)" in found.sentence()
    assert survey.sharpness(subject, 1e-3, [0]).sd is None
