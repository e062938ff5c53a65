"""timm's pretrained weights, with the class names of their head and their image preprocessing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_model_data_config
from torch import Tensor, nn

from ranger21.data.decode import Encoded, to_picture
from ranger21.data.on_device import ToInput
from ranger21.data.transforms.base import Transform
from ranger21.data.validation import Preprocessing
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

PREFIX = "timm:"
SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")
PLACES = ("url", "file", "hf_hub_id", "state_dict")  # keys of timm's pretrained_cfg with the location of weights


def is_timms(source: str) -> bool:
    """Return whether timm can load this source: one of its names, a Hub ID, or a directory in its format."""
    folder = Path(source)
    return source.startswith((PREFIX, *SOURCES, "timm/")) or (folder / "config.json").is_file()


def timm_name(source: str) -> str:
    """Return the name for `timm.create_model`: "hf-hub:timm/NAME" for timm/NAME, "local-dir:PATH" for a directory."""
    name = source.removeprefix(PREFIX)
    if name.startswith("timm/"):
        return f"hf-hub:{name}"
    if timm.is_model(name) or not (Path(name) / "config.json").is_file():
        return name
    return f"local-dir:{name}"


@dataclass(frozen=True)
class Pretrained:
    """A model with timm's weights.

    Attributes:
        model: The model.
        classes: Class names in the order of its outputs; None if unknown.
        how: The source of the class names.
        source: The source that the user named.
    """

    model: nn.Module
    classes: list[str] | None
    how: str
    source: str

    @property
    def settings(self) -> dict[str, Any]:
        """timm's settings of the weights, `pretrained_cfg`."""
        return self.model.pretrained_cfg  # type: ignore[return-value]


def load_pretrained(source: str, kwargs: dict[str, Any]) -> Pretrained:
    """Return a model with its pretrained weights and head.

    Args:
        source: A source for which `is_timms` holds.
        kwargs: Arguments for `timm.create_model`.

    Raises:
        UserError: If timm has no such weights, or if they have no matching head.
    """
    name = timm_name(source)
    try:
        model = timm.create_model(name, pretrained=True, **kwargs)
    except Exception as error:  # no network, no such name or file, or anything that a model's code raises
        raise UserError(f"timm cannot load {source} with its weights ({reason(error, 300)}).") from error
    settings: dict[str, Any] = model.pretrained_cfg
    if not any(settings.get(place) for place in PLACES):
        raise UserError(f"timm has no weights for {source}, only the architecture.")
    if not model.num_classes or model.num_classes != settings.get("num_classes"):
        raise UserError(
            f"{source} has no head with the requested {model.num_classes} classes: its weights have "
            f"{settings.get('num_classes') or 'none'}. A randomly initialized head cannot be evaluated."
        )
    return Pretrained(model, *class_names(settings), source)


def read_pretrained(source: str) -> tuple[dict[str, Tensor], list[str] | None]:
    """Return the weights of a timm source and its class names, without changing torch's random state.

    Raises:
        UserError: See `load_pretrained`.
    """
    with torch.random.fork_rng(devices=[]):
        loaded = load_pretrained(source, {})
    return loaded.model.state_dict(), loaded.classes


def class_names(settings: dict[str, Any]) -> tuple[list[str] | None, str]:
    """Return the class names of timm's weights (None if unknown) and their source.

    They come from `label_names` in the settings (pretrained_cfg), or else from timm's table of the ImageNet subset with
    this number of classes.
    """
    count, names = settings.get("num_classes"), settings.get("label_names")
    if isinstance(names, dict):  # index -> name, where JSON has the indices as strings
        numbered = {int(index): name for index, name in names.items()}
        names = [numbered.get(index, f"#{index}") for index in range(count or 0)]
    if names and len(names) == count:
        return list(names), "its label_names"
    subset = infer_imagenet_subset(settings)
    if subset is None:
        return None, "nothing"
    return list(ImageNetInfo(subset).label_names()), f"timm's table {subset}"


def imagenet_names() -> list[str]:
    """Return the 1000 wnids of ImageNet-1k in the order of ReaL's label numbers."""
    return list(ImageNetInfo("imagenet-1k").label_names())


class TimmTransform(Transform):
    """timm's evaluation transform without normalization."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        self.transform = create_transform(**recipe, is_training=False, use_prefetcher=True)

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(self.transform(to_picture(image)))


def view_of_timm(
    pretrained: Pretrained, crop: int | None, resize: int | None, squash: bool | None
) -> tuple[Preprocessing, str]:
    """Return the preprocessing for pretrained weights, and a sentence that describes it.

    Args:
        pretrained: The model with its settings.
        crop: Crop size in pixels; None for the weights' own.
        resize: Size in pixels to which images are resized before the crop; None for the weights' own.
        squash: Whether resizing ignores the aspect ratio; None for the weights' own mode.
    """
    recipe = resolve_model_data_config(pretrained.model)
    if crop is not None:
        recipe["input_size"] = (recipe["input_size"][0], crop, crop)
    if resize is not None:
        recipe["crop_pct"] = recipe["input_size"][1] / (resize + 0.5)  # timm divides by it and rounds down
    if squash is not None:
        recipe["crop_mode"] = "squash" if squash else "center"
    mean, std = (", ".join(f"{value:.4g}" for value in recipe[key]) for key in ("mean", "std"))
    size = "x".join(map(str, recipe["input_size"][1:]))
    text = (
        f"Images are prepared as {pretrained.source} expects: {size} pixels, crop_pct {recipe['crop_pct']:.4g} "
        f"({recipe['crop_mode']}), {recipe['interpolation']}, mean {mean}, std {std}."
    )
    return Preprocessing(TimmTransform(recipe), ToInput(recipe["mean"], recipe["std"]), recipe["input_size"]), text
