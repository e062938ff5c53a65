"""timm's own weights, with their head, the names of its classes, and the recipe by which they want images."""

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
from ranger21.data.transforms import Complete
from ranger21.data.validation import View
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

PREFIX = "timm:"
SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")
PLACES = ("url", "file", "hf_hub_id", "state_dict")  # keys of timm's pretrained_cfg that say where weights are


def is_timms(source: str) -> bool:
    """Whether a user's word means weights that timm finds: by its names, on the Hub, or in a directory as it writes."""
    folder = Path(source)
    return source.startswith((PREFIX, *SOURCES, "timm/")) or (folder / "config.json").is_file()


def timm_name(source: str) -> str:
    """The name as `timm.create_model` takes it: timm/NAME is one of the Hub's, a directory has local-dir: before it."""
    name = source.removeprefix(PREFIX)
    if name.startswith("timm/"):
        return f"hf-hub:{name}"
    if timm.is_model(name) or not (Path(name) / "config.json").is_file():
        return name
    return f"local-dir:{name}"


@dataclass(frozen=True)
class Pretrained:
    """A model with timm's weights. `classes`: the names, in the order of its head; `how`: by what they are known."""

    model: nn.Module
    classes: list[str] | None
    how: str
    source: str

    @property
    def settings(self) -> dict[str, Any]:
        return self.model.pretrained_cfg  # type: ignore[return-value]


def load_pretrained(source: str, kwargs: dict[str, Any]) -> Pretrained:
    """The model with its weights and the head that they have.

    `kwargs` are for `timm.create_model`. Raises a UserError if timm has no such weights, or none with a head.
    """
    name = timm_name(source)
    try:
        model = timm.create_model(name, pretrained=True, **kwargs)
    except Exception as error:  # no network, no such name, no such file, or whatever a model makes of an argument
        raise UserError(f"timm cannot make {source} with its weights ({reason(error, 300)}).") from error
    settings: dict[str, Any] = model.pretrained_cfg
    if not any(settings.get(place) for place in PLACES):
        raise UserError(f"timm has no weights for {source}, only the model.")
    if not model.num_classes or model.num_classes != settings.get("num_classes"):
        raise UserError(
            f"{source} has no head with the {model.num_classes} classes asked for: its weights have "
            f"{settings.get('num_classes') or 'none'}. Such a head would begin at random, and is not evaluated."
        )
    return Pretrained(model, *class_names(settings), source)


def read_pretrained(source: str) -> tuple[dict[str, Tensor], list[str] | None]:
    """The weights of timm's source, and the names of its classes. Raises a UserError as `load_pretrained` does."""
    with torch.random.fork_rng(devices=[]):
        loaded = load_pretrained(source, {})
    return loaded.model.state_dict(), loaded.classes


def class_names(settings: dict[str, Any]) -> tuple[list[str] | None, str]:
    """The names of the classes of timm's weights, None if they are unknown, and where they are from.

    From `label_names` in the settings (pretrained_cfg), or else from timm's table of the ImageNet of so many classes.
    """
    count, names = settings.get("num_classes"), settings.get("label_names")
    if isinstance(names, dict):  # index -> name; JSON has the indices as text
        numbered = {int(index): name for index, name in names.items()}
        names = [numbered.get(index, f"#{index}") for index in range(count or 0)]
    if names and len(names) == count:
        return list(names), "its label_names"
    subset = infer_imagenet_subset(settings)
    if subset is None:
        return None, "nothing"
    return list(ImageNetInfo(subset).label_names()), f"timm's table {subset}"


def imagenet_names() -> list[str]:
    """The 1000 wnids of ImageNet-1k in order, by which ReaL's labels are numbered."""
    return list(ImageNetInfo("imagenet-1k").label_names())


class TimmTransform(Complete):
    """timm's own evaluation transform, up to the pixels."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        self.transform = create_transform(**recipe, is_training=False, use_prefetcher=True)

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(self.transform(to_picture(image)))


def view_of_timm(pretrained: Pretrained, crop: int | None, resize: int | None, squash: bool | None) -> tuple[View, str]:
    """How the weights want to see images, and the sentence for it; what is not None was typed and goes first.

    `crop` and `resize` are in pixels.
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
        f"Images as {pretrained.source} wants them: {size} pixels, crop_pct {recipe['crop_pct']:.4g} "
        f"({recipe['crop_mode']}), {recipe['interpolation']}, mean {mean}, std {std}."
    )
    return View(TimmTransform(recipe), ToInput(recipe["mean"], recipe["std"]), recipe["input_size"]), text
