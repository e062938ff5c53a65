"""A trial pass of the model, before the run directory is made."""

import torch
from torch import Tensor

from ranger21.config import Config, ModelConfig
from ranger21.data.order import Share
from ranger21.models.build import build_model
from ranger21.models.pretrained import SOURCES, timm_name
from ranger21.system.errors import UserError
from ranger21.system.memory import lacks_memory
from ranger21.system.wording import reason

CLASSES = 2  # whether a model runs does not depend on the number


def require_it_runs(config: Config, ranks: int) -> None:
    """Run the model forward on at most two images of each size: in training mode, and for validation if it differs.

    It runs on the meta device, which does no arithmetic; if that fails, it runs on the CPU, because some models need
    real numbers. The random state is not changed.

    Raises a UserError that names the setting to change if the model fails on both devices, or if its output is not one
    number for each class.
    """
    for setting, size in config.data.sizes.items():
        _require_it_runs(config, ranks, setting, size, training=True)
    validated = config.data.eval_shape[1]
    if validated not in config.data.sizes.values():
        _require_it_runs(config, ranks, "data.eval_crop", validated, training=False)


def _require_it_runs(config: Config, ranks: int, setting: str, size: int, training: bool) -> None:
    share = Share(0, ranks, config.trainer.accumulate)
    start = getattr(config.batch_schedule, "start", None)
    images = share.per_pass(start or config.data.batch_size, "batch_schedule.start" if start else "data.batch_size")
    shape = (min(images, 2), config.data.shape[0], size, size)
    try:
        output = _output(config.model, shape, "meta", training)
    except Exception as first:  # a model's own code may raise anything
        if isinstance(first, UserError) and timm_name(config.model.name).startswith(SOURCES):
            raise  # do not try again to download weights
        try:
            output = _output(config.model, shape, "cpu", training)
        except UserError:
            raise
        except Exception as error:
            if lacks_memory(error):  # the run itself reports a lack of memory
                return
            raise UserError(_sentence(config, error, setting, size, ranks)) from error
    if not isinstance(output, Tensor) or output.shape != (shape[0], CLASSES):
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"model={config.model.name} with model.kwargs={config.model.kwargs} gives a {given} for {shape[0]} images "
            "instead of one number for each class: remove the cause, such as model.kwargs.features_only."
        )


def _output(config: ModelConfig, shape: tuple[int, ...], device: str, training: bool) -> object:
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        model = build_model(config, CLASSES, shape[1])
        return model.train(training)(torch.zeros(shape))


def _sentence(config: Config, error: Exception, setting: str, size: int, ranks: int) -> str:
    why = reason(error)
    name, folders = config.model.name, setting.startswith("data.")
    images = f"model={name} cannot be trained on images of {size} pixels ({setting}={size})"
    if "more than 1 value per channel" in why:
        start = getattr(config.batch_schedule, "start", None)
        key, batch = ("batch_schedule.start", start) if start else ("data.batch_size", config.data.batch_size)
        larger = f"a larger {setting}, " if folders else ""
        return (
            f"{images}: a batch norm gets a single value for each channel, of one image a pass ({key}={batch} ÷ "
            f"({ranks} ranks × trainer.accumulate={config.trainer.accumulate})). Choose {larger}a larger {key} or a "
            "smaller trainer.accumulate."
        )
    own = _fixed_size(config.model)
    if own and own != size:
        and_resize = " (and data.resize, which is at least that)" if setting == "data.crop" else ""
        crop = f"{setting}={own}{and_resize}, or " if folders else ""
        return (
            f"{images}, because it is made for {own}: choose {crop}+model.kwargs.img_size={size}, where the model "
            f"takes that ({why})."
        )
    cure = f"another {setting} or " if folders else ""
    return f"{images}: choose {cure}another model, or see to model.kwargs={config.model.kwargs} ({why})."


def _fixed_size(config: ModelConfig) -> int | None:
    """Return the only image size in pixels that the model accepts; None if it accepts others or does not say."""
    with torch.device("meta"):
        try:
            settings = getattr(build_model(config, CLASSES, 3), "pretrained_cfg", {})
        except Exception:  # only the error message loses a hint
            return None
    size = config.kwargs.get("img_size") or (settings.get("input_size") or (3, 0, 0))[-1]
    return int(size) if settings.get("fixed_input_size") and isinstance(size, int) else None
