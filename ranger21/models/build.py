"""Build timm models, optionally with batch norms or skip connections removed or with blur pooling, and load weights."""

import difflib
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, BlurPool2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ranger21.config import ModelConfig
from ranger21.models.pretrained import SOURCES, timm_name
from ranger21.system.errors import UserError
from ranger21.system.memory import lacks_memory

BLURRED = 16  # channels


def build_model(config: ModelConfig, classes: int, channels: int) -> nn.Module:
    """Return a newly initialized model.

    Args:
        config: The model's configuration.
        classes: Number of outputs.
        channels: Number of channels of the input images.

    Raises:
        UserError: If timm does not have the model or rejects its arguments.
    """
    name = timm_name(config.name)
    if not name.startswith(SOURCES) and not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        hint = f" Similar names: {', '.join(near)}." if near else ""
        raise UserError(f"model={config.name} does not exist, neither here nor in timm {timm.__version__}.{hint}")
    try:
        model = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **config.kwargs)
    except Exception as error:  # a model's code may raise anything for an invalid argument
        if lacks_memory(error):
            raise
        reason = str(error) or type(error).__name__
        raise UserError(f"timm cannot build model={config.name} with model.kwargs={config.kwargs}: {reason}") from error
    if config.remove_batch_norm:
        remove_batch_norms(model)
    if config.remove_skips:
        remove_skips(model, config.name)
    if config.blur_pool and not blur_strided(model):
        raise UserError(
            f"model.blur_pool=true would have no effect, because model={config.name} has no strided convolution of at "
            f"least {BLURRED} channels: leave it out."
        )
    if config.init != "default":
        initialize(model, config)
    return model


def initialize(model: nn.Module, config: ModelConfig) -> None:
    """Draw the weights of all convolutional and linear layers anew, in place, with the function of torch that is named.

    Kaiming's has the gain of ReLU. Biases, norms and other parameters keep the model's own initial values.

    Args:
        model: The model to change.
        config: Its configuration; `config.init` is the name of the function in `torch.nn.init`, without the underscore.

    Raises:
        UserError: If the model has no such layers.
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    if not layers:
        raise UserError(
            f"model.init={config.init} cannot be used with model={config.name}, which has no convolutional or linear "
            "layers: use model.init=default."
        )
    draw = getattr(nn.init, f"{config.init}_")
    gain = {"nonlinearity": "relu"} if config.init.startswith("kaiming") else {}
    for layer in layers:
        draw(layer.weight, **gain)


def remove_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm by the identity, in place. Activations that timm fused into batch norms stay."""
    for name, child in module.named_children():
        if isinstance(child, BatchNormAct2d):
            setattr(module, name, nn.Sequential(child.drop, child.act))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, nn.Identity())
        else:
            remove_batch_norms(child)


def blur_strided(module: nn.Module) -> int:
    """Blur the input of every strided convolution of at least BLURRED channels, in place. Return their number.

    As in ffcv-imagenet (use_blurpool): the binomial filter of 3x3 pixels, with zeros around the image, comes before the
    convolution. timm's `aa_layer` does something else: it replaces the stride by a blur after the activation.
    """
    blurred = 0
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= BLURRED:
            setattr(module, name, nn.Sequential(BlurPool2d(child.in_channels, stride=1, pad_mode="constant"), child))
            blurred += 1
        else:
            blurred += blur_strided(child)
    return blurred


class NoShortcut(nn.Module):
    """A replacement of a residual block's shortcut that contributes zero to the block's output."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def remove_skips(model: nn.Module, name: str) -> None:
    """Remove the skip connections of a timm ResNet, in place: relu(f(x) + shortcut(x)) becomes relu(f(x)).

    The result is the "ResNet-noshort" of Li et al. 2018 (arXiv:1712.09913). timm initializes the scale of a block's
    last norm to 0, which would block the signal without a skip connection, so it is set to 1.

    Args:
        model: The model to change.
        name: Its name, for the error message.

    Raises:
        UserError: If the model has no blocks of timm's ResNets.
    """
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    if not blocks:
        raise UserError(
            f"model.remove_skips=true cannot be used with model={name}. It needs one of timm's ResNets, such as "
            "resnet18 or resnet50."
        )
    for block in blocks:
        block.downsample = NoShortcut()
        last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
        if getattr(last, "weight", None) is not None:
            nn.init.ones_(last.weight)


def heads(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the model's classifier layers, according to timm. Some models have two."""
    settings: dict[str, Any] = getattr(model, "default_cfg", {})
    names = settings.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def of_head(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors that belong to the model's classifier layers."""
    return sorted(name for name in tensors if name.rpartition(".")[0] in heads(model))


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Any, fresh_head: bool = False) -> list[str]:
    """Load weights into a model. A head (classifier layer) with a different shape keeps its initial values.

    Args:
        model: The model to change.
        weights: Tensors by name.
        source: The source of the weights, for the error message.
        fresh_head: Whether the head keeps its initial values even if its shape is the same.

    Returns:
        The names of the tensors that keep their initial values.

    Raises:
        UserError: If any other tensor is missing, unknown, or of a different shape.
    """
    own = model.state_dict()
    reshaped = {k for k, v in weights.items() if k in own and own[k].shape != v.shape}
    if fresh_head:
        fresh = of_head(model, own)
        weights = {k: v for k, v in weights.items() if k not in of_head(model, weights)} | {k: own[k] for k in fresh}
        reshaped -= set(fresh)
    else:
        fresh = of_head(model, {k: weights[k] for k in reshaped})
    kept = {k: v for k, v in weights.items() if k not in fresh}
    counters = {k for k in own if k.endswith(".num_batches_tracked")} - weights.keys()  # absent in old files
    wrong = sorted(((own.keys() ^ weights.keys()) - counters) | (reshaped - set(fresh)))
    if wrong:
        raise UserError(
            f"The weights in {source} do not fit this model: {len(wrong)} tensors differ, such as {wrong[0]}."
        )
    model.load_state_dict(kept, strict=False)
    return fresh


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters (elements)."""
    return sum(p.numel() for p in model.parameters())


def memory_format(channels_last: bool) -> torch.memory_format:
    """Return torch's memory format for the setting `trainer.channels_last`."""
    return torch.channels_last if channels_last else torch.contiguous_format
