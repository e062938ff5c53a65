"""Landscapes: directions, the loss at given weights, sharpness, options, and the command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_runner import CommandRunner
from support.training import TINY, run_ranks
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ranger21.config.compose import compose_config
from ranger21.data.sample import CLASSES
from ranger21.landscape import directions, survey
from ranger21.landscape.directions import Layout
from ranger21.landscape.loss import Loss
from ranger21.landscape.record import LandscapeRecord
from ranger21.landscape.settings import Settings
from ranger21.landscape.subject import LoadedCheckpoint
from ranger21.models.build import build_model
from ranger21.records import directory as records
from ranger21.system.errors import UserError

SMALL: dict[str, Any] = {"points": 3, "images": 24, "bn_images": 32, "sharpness_seeds": 2, "points_at_once": 2}


def make_model(seed: int = 0, *overrides: str) -> nn.Module:
    """Return the tiny ResNet in evaluation mode, with batch norm statistics that differ from the initial ones."""
    torch.manual_seed(seed)
    model = build_model(compose_config([*TINY, *overrides]).model, 10, 3)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model.eval()


def vector(model: nn.Module) -> tuple[Layout, Tensor]:
    layout = Layout(dict(model.named_parameters()))
    return layout, layout.join(dict(model.named_parameters()))


def save(path: Path, model: nn.Module, overrides: list[str], step: int = 0) -> str:
    """Write a checkpoint with the parts that landscapes read; return its path."""
    config = records.to_dict(compose_config(overrides))
    of_run = {
        "config": config,
        "data": {"classes": 10, "names": sorted(CLASSES), "channels": 3},
        "progress": {"step": step},
    }
    torch.save({"model": model.state_dict()} | of_run, path)
    return str(path)


def show(tmp_path: Path, *checkpoints: str, **options: Any) -> Any:
    return survey.survey(Settings(checkpoints, **(SMALL | options)), tmp_path / "out", {})


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
    """In float32 the points are reproduced bit for bit. The axes are orthonormal."""
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
    """This includes recomputed batch norm statistics."""
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


@pytest.mark.parametrize("bn", ["keep", "recompute"])
def test_the_middle_of_a_surface_has_the_checkpoints_loss(bn: str, tiny: list[str], tmp_path: Path) -> None:
    """The loss is that of `ranger21.engine.evaluation`, for two checkpoints of different models."""
    sources = [save(tmp_path / "a.pt", make_model(), tiny)]
    more = [*tiny, "model.remove_skips=true"]
    sources.append(save(tmp_path / "b.pt", make_model(0, "model.remove_skips=true"), more))
    surfaces = show(tmp_path, *sources, bn=bn)
    kind = {"keep": "stored", "recompute": "recomputed"}[bn]
    for surface in surfaces:
        mark = surface.marks[0]
        assert surface.losses[1][1] == pytest.approx(mark.own_loss[kind], abs=1e-6)
        assert abs(mark.difference) < 1e-6 and abs(mark.own_loss["stored"] - mark.own_loss["recomputed"]) > 1e-3
    assert surfaces[0].title.startswith("resnet10t ") and surfaces[1].title.startswith("resnet10t_noskip ")
    arrays = np.load(tmp_path / "out" / "landscape.npz")
    assert arrays["losses"].shape == (2, 3, 3) and arrays["losses"][1].tolist() == surfaces[1].losses


@pytest.mark.parametrize("batch_size", [1, 79])
def test_batch_norm_statistics_are_never_computed_on_a_single_image(
    batch_size: int, tiny: list[str], tmp_path: Path
) -> None:
    """torch's batch norm has none for one image, so the last of 80 is left out in batches of 79."""
    source = save(tmp_path / "a.pt", make_model(), [*tiny, f"data.batch_size={batch_size}"])
    surface = show(tmp_path, source, bn_images=1000)[0]
    assert np.isfinite(surface.heights()).all() and surface.bn_images == {1: 80, 79: 79}[batch_size]


def test_an_interrupted_survey_continues(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "a.pt", make_model(), tiny)
    whole = show(tmp_path, source)[0].losses
    (tmp_path / "out" / "landscape.json").unlink()
    real = LandscapeRecord.save

    def interrupted(self: LandscapeRecord, surfaces: Any, facts: Any) -> None:
        real(self, surfaces, facts)
        if len(surfaces[0].losses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(LandscapeRecord, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        show(tmp_path, source)
    monkeypatch.setattr(LandscapeRecord, "save", real)
    left: Any = json.loads((tmp_path / "out" / "landscape.json").read_text())
    assert left["surfaces"][0]["losses"] == whole[:2]
    left["surfaces"][0]["losses"][0] = [7.0, 7.0, 7.0]  # marks the row, to show that it is reused
    (tmp_path / "out" / "landscape.json").write_text(json.dumps(left))
    assert show(tmp_path, source)[0].losses == [[7.0, 7.0, 7.0], *whole[1:]]
    with pytest.raises(UserError, match=r"has another landscape .*: choose another --out"):
        show(tmp_path, source, bn_images=16)


def test_a_record_of_other_images_is_not_continued(tiny: list[str], images: Path, tmp_path: Path) -> None:
    """The images changed in the same folder. An older record without their identity is used."""
    root, record = tmp_path / "data", tmp_path / "out" / "landscape.json"
    shutil.copytree(images, root)
    source = save(tmp_path / "a.pt", make_model(), [*tiny, f"data.root={root}"])
    whole = show(tmp_path, source)[0].losses
    kept = record.read_bytes()
    image = next((root / "train").rglob("*.JPEG"))
    image.write_bytes(image.read_bytes() + b"longer")
    os.utime(image.parent)  # makes the index look for changes
    with pytest.raises(
        UserError, match=r"was computed on other images \(the files have the same names, but other sizes"
    ):
        show(tmp_path, source)
    assert record.read_bytes() == kept
    old: Any = json.loads(kept)
    record.write_text(json.dumps({key: old[key] for key in old if key not in ("format", "images")}))
    assert show(tmp_path, source)[0].losses == whole
    record.write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="the format is 99"):
        show(tmp_path, source)


def test_the_command_draws_a_plane_with_a_trajectory_of_a_real_run(
    commands: CommandRunner, tiny: list[str], tmp_path: Path
) -> None:
    """The plane goes through a run's checkpoint and two others; two of them form the trajectory."""
    assert run_ranks([*tiny, "trainer.steps=2"], tmp_path / "run", 1) == [0]
    kept = [str(tmp_path / "run" / "checkpoints" / "last.pt"), save(tmp_path / "b.pt", make_model(1), tiny, 7)]
    third = save(tmp_path / "c.pt", make_model(2), tiny)
    options = ["--points=5", "--images=50", "--split=val", "--bn-images=16", "--sharpness-seeds=2"]
    out = tmp_path / "out"
    done = commands.complete(
        "landscape.py", *kept, third, *options, "data.eval_batch_size=12", "--trajectory", *kept, "--out", str(out)
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "sharpness" in done.stdout
    pictures = [f"{name}.{kind}" for name in ("contours", "surface") for kind in ("png", "svg")]
    for name in (*pictures, "landscape.json", "landscape.npz"):
        assert (out / name).stat().st_size > 500 and name in done.stdout
    record: Any = json.loads((out / "landscape.json").read_text())
    surface = record["surfaces"][0]
    assert np.shape(surface["losses"]) == (5, 5)
    assert record["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    said = "Loss over 30 images (val), batch norm statistics over 16 at every point."
    assert surface["images"] == 30 and f"<!-- {said} -->" in (out / "contours.svg").read_text()
    assert all(abs(mark["difference"]) < 1e-6 for mark in surface["marks"]) and len(surface["marks"]) == 3
    for station, mark in zip(surface["trajectory"], surface["marks"][:2], strict=True):
        assert (station["x"], station["y"]) == pytest.approx((mark["x"], mark["y"]), abs=1e-9)
        assert station["captured"] == pytest.approx(1)
    refused = commands.complete("landscape.py", str(tmp_path / "nothing.pt"))
    assert (refused.returncode, refused.stderr) == (1, f"error: There is no checkpoint {tmp_path / 'nothing.pt'}.\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoints": ("a", "b"), "directions": "plane"}, "--directions plane is not possible with 2 checkpoints: "),
        ({"points": 8}, "--points=8 is not possible: it must be odd"),
        ({"bn_images": 1}, "--bn-images=1 is not possible: it must be at least 2"),
        ({"radius": 0.0}, "--radius=0.0 is not possible: it must be above 0."),
        ({"sharpness_radius": float("nan")}, "--sharpness-radius=nan is not possible: it must be above 0."),
        ({"points_at_once": 0}, "--points-at-once=0 is not possible: it must be at least 1."),
        ({"margin": -0.1}, "--margin=-0.1 is not possible: it must be at least 0."),
        ({"checkpoints": ("a", "b"), "trajectory": ("c",)}, "--trajectory needs a single plot, not 2: "),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings(**({"checkpoints": ("a",)} | options))
    assert str(caught.value).startswith(sentence) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("kind", "without_effect"),
    [
        ({"directions": "filter"}, {"margin"}),
        ({"directions": "plain", "bn": "keep"}, {"margin", "bn_images"}),
        ({"directions": "plane"}, {"radius", "seed"}),
    ],
)
def test_rows_are_computed_again_only_for_options_that_change_them(
    kind: dict[str, Any], without_effect: set[str]
) -> None:
    never = {"points_at_once": 2, "sharpness_seeds": 1, "sharpness_radius": 0.1}
    others = {"points": 3, "radius": 0.5, "margin": 0.1, "seed": 1, "images": 5, "split": "val", "bn_images": 7}
    options: dict[str, Any] = never | others | {"overrides": ("data.resize=40",)}
    before = Settings(tuple("abc"), **kind).identity()
    same = {name for name in options if Settings(tuple("abc"), **kind, **{name: options[name]}).identity() == before}
    assert same == without_effect | never.keys()


def test_three_checkpoints_make_a_plane_unless_directions_are_chosen() -> None:
    found = [Settings(tuple("abcd"[:count])).directions for count in (1, 2, 3, 4)]
    assert found == ["filter", "filter", "plane", "filter"]
    assert Settings(("a", "b", "c"), directions="filter").directions == "filter"


def test_checkpoints_of_different_models_are_refused(tiny: list[str], tmp_path: Path) -> None:
    a, b = (save(tmp_path / f"{seed}.pt", make_model(seed), tiny) for seed in (0, 1))
    other = save(tmp_path / "c.pt", make_model(0, "model.remove_skips=true"), [*tiny, "model.remove_skips=true"])
    text = "has another model (resnet10t_noskip) than"
    for checkpoints, trajectory in (((a, b, other), ()), ((a,), (other,))):
        with pytest.raises(UserError) as caught:
            show(tmp_path, *checkpoints, trajectory=trajectory)
        assert text in str(caught.value) and str(caught.value).startswith(other)
    third = save(tmp_path / "d.pt", make_model(2), tiny)
    with pytest.raises(UserError, match=r"^--bn keep is not possible on a plane, .* use --bn recompute\.$"):
        show(tmp_path, a, b, third, bn="keep")
