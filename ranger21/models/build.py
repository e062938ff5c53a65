"""timm's models, by name, with timm's initialisation; batch norms or skip connections are removed if asked for."""

import difflib
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ranger21.config import ModelConfig
from ranger21.models.pretrained import SOURCES, timm_name
from ranger21.system.errors import UserError
from ranger21.system.memory import lacks_memory


def build_model(config: ModelConfig, classes: int, channels: int) -> nn.Module:
    """The model for images of `channels` channels and `classes` classes. Raises a UserError if timm refuses."""
    name = timm_name(config.name)
    if not name.startswith(SOURCES) and not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        hint = f" Near to it: {', '.join(near)}." if near else ""
        raise UserError(f"model={config.name} does not exist, neither here nor in timm {timm.__version__}.{hint}")
    try:
        model = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **config.kwargs)
    except Exception as error:  # whatever the model's own code makes of an argument it does not like
        if lacks_memory(error):
            raise
        reason = str(error) or type(error).__name__
        raise UserError(f"timm cannot make model={config.name} with model.kwargs={config.kwargs}: {reason}") from error
    if config.remove_batch_norm:
        remove_batch_norms(model)
    if config.remove_skips:
        remove_skips(model, config.name)
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


class NoShortcut(nn.Module):
    """Stands where a block's shortcut has its own layers, and adds nothing to what the block computes."""

    def forward(self, x: Tensor) -> float:
        return 0.0


def remove_skips(model: nn.Module, name: str) -> None:
    """Takes the skip connections out of a timm ResNet, in place: relu(f(x) + shortcut(x)) becomes relu(f(x)).

    What is left are the plain networks of Li et al. 2018 (arXiv:1712.09913, "ResNet-noshort"). timm begins with the
    scale of a block's last norm at 0, which without a skip would let nothing through: it begins at 1 instead.
    Raises a UserError for a model without the blocks of timm's ResNets.
    """
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    if not blocks:
        raise UserError(
            f"model.remove_skips=true is not possible for model={name}: only for timm's ResNets, such as resnet18 or "
            "resnet50."
        )
    for block in blocks:
        block.downsample = NoShortcut()
        last = block.bn2 if isinstance(block, BasicBlock) else block.bn3
        if getattr(last, "weight", None) is not None:
            nn.init.ones_(last.weight)


def heads(model: nn.Module) -> tuple[str, ...]:
    """The names of the layers that give a number for each class, as timm says; some models have two."""
    settings: dict[str, Any] = getattr(model, "default_cfg", {})
    names = settings.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def of_head(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """The names of the tensors that belong to the model's head."""
    return sorted(name for name in tensors if name.rpartition(".")[0] in heads(model))


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Any, fresh_head: bool = False) -> list[str]:
    """Loads `weights` into `model`; returns the names left fresh: a head (last layer) of another size.

    With `fresh_head` a head stays fresh in any case. Raises a UserError if anything else is missing, left over or of
    another shape.
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
    counters = {k for k in own if k.endswith(".num_batches_tracked")} - weights.keys()  # which old files do not have
    wrong = sorted(((own.keys() ^ weights.keys()) - counters) | (reshaped - set(fresh)))
    if wrong:
        raise UserError(f"The weights in {source} are not this model's: {len(wrong)} differ, such as {wrong[0]}.")
    model.load_state_dict(kept, strict=False)
    return fresh


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
