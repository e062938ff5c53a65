"""Landscapes: surveys of checkpoints, records, options, and the command."""

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
from support.landscape import make_model
from support.training import run_ranks
from torch import nn

from ranger21.config.compose import compose_config
from ranger21.data.sample import CLASSES
from ranger21.landscape import survey
from ranger21.landscape.figures import Scale, contour_figure
from ranger21.landscape.record import LandscapeRecord
from ranger21.landscape.settings import Settings
from ranger21.records import directory as records
from ranger21.system.errors import UserError
from ranger21.tracking.colours import look_of

SMALL: dict[str, Any] = {"points": 3, "images": 24, "bn_images": 32, "sharpness_seeds": 2, "points_at_once": 2}


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
    figure = contour_figure(surfaces, Scale(surfaces, 1e4), "")
    stars = [
        line.get_markerfacecolor() for axes in figure.axes for line in axes.get_lines() if line.get_marker() == "*"
    ]
    assert stars == [look_of("ranger21").dark] * 2
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
    with pytest.raises(UserError, match=r"has a different landscape .*: choose another --out"):
        show(tmp_path, source, bn_images=16)


def test_a_record_of_other_images_is_not_continued(tiny: list[str], images: Path, tmp_path: Path) -> None:
    """The images changed in the same folder. An older record, which does not identify its images, is continued."""
    root, record = tmp_path / "data", tmp_path / "out" / "landscape.json"
    shutil.copytree(images, root)
    source = save(tmp_path / "a.pt", make_model(), [*tiny, f"data.root={root}"])
    whole = show(tmp_path, source)[0].losses
    kept = record.read_bytes()
    image = next((root / "train").rglob("*.JPEG"))
    image.write_bytes(image.read_bytes() + b"longer")
    os.utime(image.parent)  # makes the index look for changes
    with pytest.raises(
        UserError, match=r"was computed on different images \(the files have the same names, but other sizes"
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
        ({"checkpoints": ("a", "b"), "directions": "plane"}, "--directions plane cannot be used with 2 checkpoints: "),
        ({"points": 8}, "--points=8 is invalid: it must be odd"),
        ({"bn_images": 1}, "--bn-images=1 is invalid: it must be at least 2"),
        ({"radius": 0.0}, "--radius=0.0 is invalid: it must be above 0."),
        ({"sharpness_radius": float("nan")}, "--sharpness-radius=nan is invalid: it must be above 0."),
        ({"points_at_once": 0}, "--points-at-once=0 is invalid: it must be at least 1."),
        ({"margin": -0.1}, "--margin=-0.1 is invalid: it must be at least 0."),
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
    text = "has a different model (resnet10t_noskip) from"
    for checkpoints, trajectory in (((a, b, other), ()), ((a,), (other,))):
        with pytest.raises(UserError) as caught:
            show(tmp_path, *checkpoints, trajectory=trajectory)
        assert text in str(caught.value) and str(caught.value).startswith(other)
    third = save(tmp_path / "d.pt", make_model(2), tiny)
    with pytest.raises(UserError, match=r"^--bn keep cannot be used on a plane, .* use --bn recompute\.$"):
        show(tmp_path, a, b, third, bn="keep")
