"""timm's models, by name, with timm's initialisation; batch norms removed where that is asked for."""

import difflib
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from ranger21.config import ModelConfig
from ranger21.errors import UserError


def build_model(config: ModelConfig, classes: int, channels: int, pretrained: bool = False) -> nn.Module:
    """The model for images of `channels` channels and `classes` classes. Raises a UserError if timm refuses."""
    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name.split(".")[0], timm.list_models(), n=4)
        hint = f" Near to it: {', '.join(near)}." if near else ""
        raise UserError(f"model={config.name} does not exist, neither here nor in timm {timm.__version__}.{hint}")
    try:
        model = timm.create_model(
            config.name, pretrained=pretrained, num_classes=classes, in_chans=channels, **config.kwargs
        )
    except Exception as error:  # whatever the model's own code makes of an argument it does not like
        raise UserError(f"timm cannot make model={config.name} with model.kwargs={config.kwargs}: {error}") from error
    if config.remove_batch_norm:
        remove_batch_norms(model)
    return model


def remove_batch_norms(module: nn.Module) -> None:
    """Replaces every batch norm by the identity, in place; an activation that timm fused into one stays."""
    for name, child in module.named_children():
        if isinstance(child, BatchNormAct2d):
            setattr(module, name, nn.Sequential(child.drop, child.act))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, nn.Identity())
        else:
            remove_batch_norms(child)


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Any) -> list[str]:
    """Loads `weights` into `model`; returns the names left fresh: a head (last layer) of another size.

    Raises a UserError if anything else is missing, left over or of another shape.
    """
    own = model.state_dict()
    reshaped = {k for k, v in weights.items() if k in own and own[k].shape != v.shape}
    settings: dict[str, Any] = getattr(model, "default_cfg", {})
    heads = settings.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    fresh = sorted(k for k in reshaped if k.rpartition(".")[0] in heads)
    kept = {k: v for k, v in weights.items() if k not in fresh}
    wrong = sorted((own.keys() ^ weights.keys()) | (reshaped - set(fresh)))
    if wrong:
        raise UserError(f"The weights in {source} are not this model's: {len(wrong)} differ, such as {wrong[0]}.")
    model.load_state_dict(kept, strict=False)
    return fresh


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
