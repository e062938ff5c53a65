"""What a training adds to a model, by timm's functions, such as an average of its weights."""

import torch
from timm.layers import convert_sync_batchnorm
from timm.optim import param_groups_layer_decay
from timm.utils import ModelEmaV3
from torch import nn

from ranger21.engine.batch_norm import batch_norms
from ranger21.system.errors import UserError


def average_of(model: nn.Module, decay: float) -> ModelEmaV3:
    """Return an exponential moving average of a model, which begins as a copy of it, in evaluation mode.

    Floating point buffers, such as batch norm's running statistics, are averaged like parameters; counters are copied.
    """
    return ModelEmaV3(model, decay=decay)


def checkpoint_gradients(model: nn.Module, name: str) -> None:
    """Let the backward pass compute the activations inside the model's blocks again, instead of keeping them.

    Args:
        model: The model to change.
        name: Its name, for the error message.

    Raises:
        UserError: If the model does not support that.
    """
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise UserError(
            f"trainer.grad_checkpointing=true cannot be used with model={name}, for which timm has no gradient "
            "checkpointing: use trainer.grad_checkpointing=false, or a larger trainer.accumulate to save memory."
        ) from error


def synchronize_batch_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with batch norms that share their statistics over all ranks in every training pass.

    Raises:
        UserError: If the device is not a CUDA device.
    """
    if device.type != "cuda":
        raise UserError(
            f"trainer.batch_norm=sync cannot be used on {device}, because torch's SyncBatchNorm needs CUDA: use "
            "trainer.batch_norm=mean, or trainer.batch_norm_images=N."
        )
    synchronized: nn.Module = convert_sync_batchnorm(model)  # torch's own would drop the activations in timm's norms
    return synchronized


def require_batch_norms(model: nn.Module, key: str, name: str) -> None:
    """Raise a UserError if the model has no batch norms with running statistics, so that a setting has no effect.

    Args:
        model: The model.
        key: The setting with its value.
        name: The model's name.
    """
    if not batch_norms(model):
        raise UserError(f"{key} would have no effect, because model={name} has no batch norms: omit it.")


def layer_scales(model: nn.Module, decay: float, name: str) -> list[float]:
    """Return a factor of the learning rate for each parameter: `decay` to the power of its distance from the head.

    The distance is counted in timm's layers; that of the head is 0.

    Args:
        model: The model.
        decay: The factor from one layer to the one below it.
        name: Its name, for the error message.

    Raises:
        UserError: If timm does not know the model's layers.
    """
    scales: dict[int, float] = {}
    if hasattr(model, "group_matcher"):  # otherwise timm would guess layers by the order of parameters
        for group in param_groups_layer_decay(model, layer_decay=decay):
            scales |= {id(param): group["lr_scale"] for param in group["params"]}
    if len(set(scales.values())) < 2:
        raise UserError(
            f"trainer.layer_decay={decay:g} cannot be used with model={name}, whose layers timm does not know: use "
            "trainer.layer_decay=null, or another model."
        )
    return [scales.get(id(param), 1.0) for param in model.parameters()]
