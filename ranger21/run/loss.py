"""The training loss."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor

from ranger21.config import TrainerConfig
from ranger21.engine.labels import Labels, Mixed


def training_loss(trainer: TrainerConfig) -> Callable[[Tensor, Labels], Tensor]:
    """Return the mean loss of a batch as a function of the logits (batch, classes) and the labels (batch,).

    `trainer.loss=bce` treats each class as a binary decision, as in "ResNet strikes back" (Wightman et al. 2021); it is
    timm's, which averages over the classes as well. The loss of a mixed image is the mean of the losses for its two
    labels, weighted by their shares.
    """
    mean, each = _reduced(trainer, "mean"), _reduced(trainer, "none")

    def loss(logits: Tensor, labels: Labels) -> Tensor:
        if not isinstance(labels, Mixed):
            return mean(logits, labels)
        own, others = (each(logits, some).view(len(logits), -1).mean(1) for some in (labels.own, labels.others))
        return torch.lerp(others, own, labels.share.to(own.dtype)).mean()

    return loss


def _reduced(trainer: TrainerConfig, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
    if trainer.loss == "bce":
        return BinaryCrossEntropy(trainer.label_smoothing, reduction=reduction)
    return partial(F.cross_entropy, label_smoothing=trainer.label_smoothing, reduction=reduction)
