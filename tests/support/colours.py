"""Twelve classes of single-colour images, and a network whose head is set by hand to recognize them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from ranger21.config import Config
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.models.build import build_model
from ranger21.records.directory import to_dict

NUMBERS = [0, 7, 100, 101, 217, 388, 482, 497, 569, 701, 850, 999]  # indices of ImageNet-1k's classes
ALL_WNIDS = list(ImageNetInfo("imagenet-1k").label_names())
WNIDS = [ALL_WNIDS[number] for number in NUMBERS]
LEVELS = [(r, g, b) for r in (20, 230) for g in (20, 125, 230) for b in (30, 220)]  # twelve colours
OVERRIDES = [
    "data=imagenet", "data.resize=36", "data.crop=32", "data.batch_size=12", "data.workers=0", "model=resnet10t",
    "+model.kwargs={channels:[8,16,16,16],stem_width:8}", "trainer.device=cpu", "logger=none",
]  # fmt: skip


def draw(folder: Path, name: str, colours: Sequence[tuple[int, int, int]], stem: str = "image_{:08d}") -> None:
    """Write a class folder with one image of each colour."""
    (folder / name).mkdir(parents=True)
    for number, colour in enumerate(colours, 1):
        picture = np.full((16, 20, 3), colour, np.uint8)
        Image.fromarray(picture).save(folder / name / f"{stem.format(number)}.png")


def val_colours(label: int) -> list[tuple[int, int, int]]:
    """Return the colours of a class's two validation images.

    One image of class 0 has the colour of class 1, so the network classifies 23 of 24 images correctly.
    """
    return [LEVELS[label], LEVELS[1 if label == 0 else label]]


@dataclass
class Colours:
    """A dataset (`root`), a run directory with a checkpoint (`run`), and the network."""

    root: Path
    run: Path
    config: Config
    model: nn.Module

    def state(self) -> dict[str, Any]:
        return torch.load(self.run / "checkpoints" / "last.pt")

    def save(self, state: dict[str, Any], run: Path) -> Path:
        """Write a run directory with this checkpoint and a copy of the manifest; return the directory."""
        (run / "checkpoints").mkdir(parents=True)
        torch.save(state, run / "checkpoints" / "last.pt")
        shutil.copy(self.run / "manifest.json", run)
        return run


def prototypes(model: nn.Module, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
    """Set the head so that it predicts the first twelve classes from their colours, with a large margin."""
    pictures = torch.tensor(LEVELS, dtype=torch.uint8)[:, :, None, None].expand(-1, 3, 32, 32)
    with torch.no_grad():
        inputs = ToInput(mean, std).float()(pictures.contiguous())
        found: torch.Tensor = model.eval().forward_head(model.forward_features(inputs), pre_logits=True)  # type: ignore
        head: Any = model.get_classifier()  # type: ignore[operator]
        scale = 100 / torch.cdist(found, found).add(torch.eye(12) * 1e9).min().square()
        head.weight.zero_()
        head.bias.fill_(-1e6)
        head.weight[:12] = 2 * scale * found
        head.bias[:12] = -scale * found.square().sum(1)


def place_rows(model: nn.Module, order: Sequence[int]) -> None:
    """Move row i of the head to row order[i]."""
    with torch.no_grad():
        for tensor in (model.get_classifier().weight, model.get_classifier().bias):  # type: ignore[operator]
            rows = tensor[: len(order)].clone()
            tensor.fill_(0 if tensor.ndim > 1 else -1e6)
            tensor[torch.tensor(order)] = rows


def make_colours(folder: Path) -> Colours:
    for label, name in enumerate(WNIDS):
        draw(folder / "data" / "train", name, [LEVELS[label]])
        draw(folder / "data" / "val", name, val_colours(label))
    config = compose_config([*OVERRIDES, f"data.root={folder / 'data'}"])
    torch.manual_seed(0)
    model = build_model(config.model, 12, 3)
    prototypes(model)
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    facts = {"classes": 12, "names": WNIDS, "channels": 3}
    state = {"format": 2, "model": model.state_dict(), "config": to_dict(config), "data": facts}
    torch.save(state, run / "checkpoints" / "last.pt")
    data = build_data(config.data, 0)
    manifest = {"data": {"fingerprint": data.fingerprint, "classes": 12}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return Colours(folder / "data", run, config, model)
