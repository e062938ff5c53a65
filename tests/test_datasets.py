"""Datasets: what each declares about itself, and how a new one is added (a class, a settings file and one line)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fashion_mnist import idx_files
from support.training import TINY
from timm.data import ImageNetInfo

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.datasets import DATASETS
from ranger21.data.datasets.array import ArrayConfig
from ranger21.data.imbalance import choose_zipf
from ranger21.data.in_memory import InMemory
from ranger21.grid.cost import cost, images
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.likeness import other_classes
from ranger21.report.groups.chance import chance
from ranger21.run import experiment
from ranger21.system.errors import UserError


@dataclass
class StripesConfig(ArrayConfig):
    """A color dataset that only this file defines: two classes (vertical and horizontal stripes), 16 + 8 images."""

    CLASSES = ("upright", "level")
    SHAPE, MEAN, STD, TRAIN = (3, 32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 16

    def folder(self) -> Path:
        return Path(self.root or "/nowhere")

    def require(self) -> None:
        if not self.folder().is_dir():
            raise UserError(f"There are no stripes in {self.folder()}.")

    def read(self, folder: Path, split: str) -> InMemory:
        labels = np.arange(16 if split == "train" else 8) % 2
        one = np.repeat(np.tile(np.uint8([0, 255]), 16)[None, :, None], 32, 0).repeat(3, 2)
        return InMemory(np.stack([one.transpose(1, 0, 2) if label else one for label in labels]), labels, split)


@dataclass
class UncountedConfig(StripesConfig):
    """A dataset whose number of images is unknown until they are read."""

    def training_images(self) -> Any:
        return None


SETTINGS = """
name: stripes
root: null
batch_size: 8
eval_batch_size: 3
workers: 0
timeout: 300
padding: 2
flip: 0.5
train_images: 16
holdout: 0
imbalance: null
"""


@pytest.fixture
def stripes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Register the dataset and write its settings file; return the overrides that choose it."""
    monkeypatch.setitem(DATASETS, "stripes", StripesConfig)
    (tmp_path / "own" / "data").mkdir(parents=True)
    (tmp_path / "own" / "data" / "stripes.yaml").write_text(SETTINGS)
    tiny = [word for word in TINY if not word.startswith("data")]
    return [f"hydra.searchpath=[{tmp_path / 'own'}]", "data=stripes", f"data.root={tmp_path}", *tiny]


def test_a_new_dataset_trains_and_is_recorded_counted_and_evaluated(stripes: list[str], tmp_path: Path) -> None:
    config = compose_config([*stripes, "trainer.epochs=2", "data.holdout=4", f"run_dir={tmp_path / 'run'}"])
    assert images(PlannedRun((), config, tmp_path / "none")) == 2 * 12
    config.data.require()
    assert experiment.run(config, tmp_path / "run") == 0
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]
    counts = {"classes": 2, "train_images": 12, "val_images": 8, "holdout_images": 4}
    assert facts.items() >= {**counts, "root": str(tmp_path)}.items()
    assert images(PlannedRun((), config, tmp_path / "run")) == 2 * 12  # read from the run's manifest
    data = config.data.open_validation(config.data.view())
    batch = data.dataset.__getitems__([(0, index) for index in range(8)])
    assert batch.images.shape == (8, *config.data.shape) and batch.labels.tolist() == [0, 1] * 4
    assert (batch.images[0, :, 0] == batch.images[0, :, 31]).all() and (batch.images[1, :, :, 0] == 0).sum() == 48
    with pytest.raises(UserError, match="There are no stripes in /no"):
        replace(config.data, root="/no").require()
    with pytest.raises(UserError, match=r"data.train_images=17 is invalid: it must be from 1 to 16"):
        compose_config([*stripes, "data.train_images=17"])


def test_the_cost_of_a_run_on_a_dataset_of_unknown_size_is_unknown(
    stripes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost used to be computed with ImageNet's 1,281,167 images."""
    monkeypatch.setitem(DATASETS, "stripes", UncountedConfig)
    config = compose_config(stripes)
    job = PlannedRun((), config, tmp_path / "run")
    assert images(job) is None
    found = cost([job, PlannedRun((), compose_config(["experiment=fair_resnet"]), tmp_path / "other")])
    assert (found.hours, found.uncounted) == (None, ("data=stripes",))
    assert "hours unknown, as the number of images of data=stripes is known once a run has begun" in found.sentence(1)
    assert images(PlannedRun((), compose_config([*stripes, "trainer.steps=5"]), tmp_path / "run")) == 5 * 8


def test_other_images_are_not_counted_as_imagenets(images: Path, tmp_path: Path) -> None:
    """Another run on the same images, which its manifest names, tells their number."""
    config = compose_config(["experiment=paper", f"data.root={images}"])
    first, second = (PlannedRun((), config, tmp_path / name) for name in "ab")
    assert config.data.epoch_images() is None and cost([first, second]).uncounted == ("data=imagenet",)
    first.directory.mkdir()
    (first.directory / "manifest.json").write_text('{"data": {"train_images": 80}}')
    assert cost([first, second]).images == 2 * config.trainer.epochs * 80
    assert compose_config(["experiment=paper", "data.root=/nowhere"]).data.epoch_images() == 1_281_167


def test_classes_that_are_not_imagenets_are_reported(images: Path, tmp_path: Path) -> None:
    def warned(root: Path, *more: str) -> list[str]:
        return other_classes(
            [PlannedRun((), compose_config(["experiment=paper", f"data.root={root}", *more]), tmp_path)]
        )

    (warning,) = warned(images)
    assert (
        warning.startswith(f"the classes of data.root={images} (n99000000, ") and "are not ImageNet's 1,000" in warning
    )
    assert warned(images, "data=sample") == [] == warned(tmp_path / "nowhere")
    names = ImageNetInfo().label_names()
    for name in names:
        (tmp_path / "all/train" / name).mkdir(parents=True)
    assert warned(tmp_path / "all") == []
    (tmp_path / "all/train" / names[0]).rmdir()
    assert len(warned(tmp_path / "all")) == 1 and warned(tmp_path / "all", "data.classes=100") == []


@pytest.mark.parametrize("name", DATASETS)
def test_a_datasets_declared_shape_matches_the_models_input(name: str) -> None:
    """The shape holds after the device's part of the transform, which has a mean and a scale for each channel."""
    config = compose_config(["data=" + name, "data.root=/nowhere"]).data
    view = config.view()
    assert view.shape == config.shape and config.known_classes == config.classes_chosen()
    pixels = torch.randint(0, 256, (2, *config.shape), dtype=torch.uint8)
    assert view.to_input(pixels, None, torch.float32, torch.contiguous_format).shape == (2, *config.shape)


def test_the_declared_number_of_images_per_epoch_matches_the_built_dataset(tmp_path: Path) -> None:
    """Small datasets are built; for the whole ones the number is computed. Cases: holdout, fewer images, Zipf's law."""
    small: Any = idx_files(tmp_path / "idx", train=60)
    for changed in ({"holdout": 20}, {"train_images": 30}, {}):
        config = replace(small, **changed)
        assert len(build_data(config, 0).train) == min(60 - config.holdout, config.train_images)
    whole = compose_config(["data=fashion_mnist", "data.holdout=5000", "data.imbalance=1.0"]).data
    kept, _ = choose_zipf(np.arange(55_000) % 10, lambda i: b"%d" % i, "abcdefghij", 1.0, 0)
    assert whole.epoch_images() == len(kept) and whole.training_images() == 55_000
    names = "[n01440764,n01443537]"
    of_two = compose_config([f"data.classes={names}", "data.fraction=0.5", "data.root=/nowhere"]).data
    assert of_two.epoch_images() == round(1_281_167 * 2 / 1000 / 2)
    assert compose_config(["experiment=demo"]).data.epoch_images() == 1000


@pytest.mark.parametrize(("name", "classes"), [("imagenet", 1000), ("fashion_mnist", 10), ("sample", 10)])
def test_chance_is_known_without_a_manifest(name: str, classes: int) -> None:
    run: Any = type("Run", (), {"config": {"data.name": name}, "data": {}})
    assert chance(run) == 100 / classes
    run.config = {"data.name": name, "data.classes": "a file"}
    assert chance(run) is None
    run.config = {"data.name": "unheard of"}
    assert chance(run) is None
