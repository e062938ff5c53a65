"""Models to evaluate: load a run's or timm's model, with the configuration and preprocessing of its evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranger21.config import Config, ImageFolderConfig
from ranger21.config.compose import compose_config, with_overrides
from ranger21.data.build import build_data
from ranger21.data.validation import Preprocessing
from ranger21.models.build import build_model, load_weights
from ranger21.models.pretrained import load_pretrained, view_of_timm
from ranger21.models.weights import Weights, named
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

AVERAGED_NOTE = "the average over the steps (trainer.ema); --raw takes the raw weights"
OF_TIMM = ("data.interpolation", "data.mean", "data.std")  # settings that timm's own weights bring along


@dataclass(frozen=True)
class Request:
    """The arguments of `scripts/evaluate.py`, as its --help describes them."""

    source: str
    overrides: Sequence[str] = ()
    among: str = "all"
    by_position: bool = False
    real_labels: Path | None = None
    predictions: Path | None = None
    raw: bool = False
    members: Sequence[Path] = ()  # the checkpoints of an ensemble, the first of which is `source`

    @property
    def typed(self) -> set[str]:
        """The configuration keys that the user gave."""
        return {override.partition("=")[0].lstrip("+") for override in self.overrides}


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate.

    Attributes:
        source: Name of the model in messages.
        model: The model.
        classes: Class names in the order of its outputs; None if unknown.
        count: Number of classes.
        config: The configuration of the evaluation.
        view: The image preprocessing.
        notes: Sentences to print.
    """

    source: str
    model: nn.Module
    classes: list[str] | None
    count: int
    config: Config
    view: Preprocessing
    notes: list[str] = field(default_factory=list)


def config_of(request: Request, run: dict[str, Any]) -> Config:
    """Return the run's configuration with the user's overrides.

    If the user gave only data.root or only data.pack, the run's value of the other one is ignored. Other data, such as
    data=imagenet, is normalized as the run's was.
    """
    config = with_overrides(run["config"], list(request.overrides))
    trained_on = run["config"].get("data") if "data" in request.typed else None
    for name in ("mean", "std"):
        if isinstance(trained_on, dict) and f"data.{name}" not in request.typed:
            setattr(config.data, name, trained_on.get(name))
    typed = request.typed & {"data.root", "data.pack"}
    if isinstance(config.data, ImageFolderConfig) and len(typed) == 1:
        if "data.root" in typed:
            config.data.pack = None
        elif config.data.pack:
            config.data.root = None
    if isinstance(config.data, ImageFolderConfig):
        _require_effect(request.typed, config.data)
    return config


def _require_effect(typed: set[str], data: ImageFolderConfig) -> None:
    """Raise a UserError if a size on the command line has no effect, because the run has another for validation."""
    for name, own in (("crop", data.eval_crop), ("resize", data.eval_resize)):
        used = own is None or f"data.eval_{name}" in typed or (name == "resize" and data.pack)
        if f"data.{name}" in typed and not used:
            raise UserError(
                f"data.{name} has no effect here, because the run has data.eval_{name}={own}: give data.eval_{name}."
            )


def config_of_timms(request: Request) -> Config:
    """Return the default configuration with the user's overrides, for timm's own weights.

    Raises:
        UserError: If the overrides choose a pack, transforms, or a dataset that is not a folder of images.
    """
    config = compose_config(list(request.overrides))
    for key in sorted(request.typed & {"data.eval_crop", "data.eval_resize", *OF_TIMM}):
        other = f": give {key.replace('eval_', '')}" if "eval" in key else ", which come with their own"
        raise UserError(f"{key} has no effect on timm's own weights{other}.")
    wrong = sorted(request.typed & {"data.pack", "data.transforms"})
    if wrong or not isinstance(config.data, ImageFolderConfig):
        what = wrong[0] if wrong else f"data={config.data.name}"
        raise UserError(f"{what} cannot be used with timm's own weights, because timm's transform needs image files.")
    config.data.pack = None
    return config


def run_of(weights: Weights) -> dict[str, Any]:
    """Return the configuration and data that a checkpoint recorded; raise a UserError if it recorded none."""
    if weights.run is None:
        raise UserError(
            f"{weights.source} has weights but does not record the run that made them: the keys 'config' and 'data' "
            "are missing. Give a checkpoint that train.py wrote, a file of scripts/export.py, or timm:NAME."
        )
    return weights.run


def own_model(request: Request, weights: Weights, config: Config, world: World) -> EvaluatedModel:
    """Return the model of a run of this project.

    Raises:
        UserError: If the checkpoint's head or channels do not fit.
    """
    facts, view = run_of(weights)["data"], config.data.view()
    if view.shape[0] != facts["channels"]:
        raise UserError(
            f"{request.source} was trained on images with {facts['channels']} channels, but data={config.data.name} "
            f"has {view.shape[0]}. Choose other data."
        )
    if not any(facts["classes"] in tensor.shape for tensor in weights.tensors.values()):  # before a huge head is built
        raise UserError(f"{request.source} has no head with the {facts['classes']} classes that it records.")
    model = build_model(config.model, facts["classes"], facts["channels"])
    if load_weights(model, weights.tensors, request.source):
        raise UserError(
            f"{request.source} has a head whose size is not that of the {facts['classes']} classes that it records."
        )
    names = weights.classes
    if names is None and not request.by_position:
        names = world.on_main(lambda: names_by_data(weights, config))
    notes = [f"Weights: {AVERAGED_NOTE}."] if weights.averaged else []
    return EvaluatedModel(request.source, model, names, facts["classes"], config, view, notes)


def names_by_data(weights: Weights, config: Config) -> list[str] | None:
    """Return the class names of an older checkpoint, which lacks them, from the data of its run; None if not found.

    The data is searched for at the run's recorded place and at the configured one.
    """
    for data in (with_overrides(run_of(weights)["config"], []).data, config.data):
        try:
            data.prepare()
            classes = named(weights, build_data(data, 0)).classes
        except UserError:
            continue
        if classes is not None:
            return classes
    return None


def timm_model(request: Request, config: Config) -> EvaluatedModel:
    """Return a model with timm's weights and preprocessing.

    Raises:
        UserError: If the weights cannot be loaded or need images with other than 3 channels.
    """
    loaded = load_pretrained(request.source, config.model.kwargs)
    data = config.data
    assert isinstance(data, ImageFolderConfig)
    crop, resize = (getattr(data, key) if f"data.{key}" in request.typed else None for key in ("crop", "resize"))
    squash = data.resize_mode == "squash" if "data.resize_mode" in request.typed else None
    view, note = view_of_timm(loaded, crop, resize, squash)
    if view.shape[0] != 3:
        raise UserError(f"{request.source} needs images with {view.shape[0]} channels, but those of the data have 3.")
    notes = [note] if loaded.classes is None else [note, f"Its class names are from {loaded.how}."]
    return EvaluatedModel(
        request.source, loaded.model, loaded.classes, int(loaded.settings["num_classes"]), config, view, notes
    )


def require_forward_pass(subject: EvaluatedModel) -> None:
    """Raise a UserError if the model rejects images of this size or does not return one logit per class."""
    channels, height, width = subject.view.shape
    try:
        with torch.inference_mode():
            shape = tuple(subject.model.eval()(torch.zeros(1, channels, height, width)).shape)
    except Exception as error:  # a model's code may raise anything
        raise UserError(
            f"{subject.source} does not accept images of {height}x{width} pixels ({reason(error)}). Choose another "
            "data.crop, or set +model.kwargs.img_size if the model has that argument."
        ) from error
    if shape != (1, subject.count):
        raise UserError(
            f"{subject.source} returns an output of shape {shape[1:]} per image, not one logit for each of its "
            f"{subject.count} classes."
        )
