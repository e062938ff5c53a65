"""The training loss."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor

from ranger21.config import TrainerConfig


def training_loss(trainer: TrainerConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean loss of a batch as a function of the logits (batch, classes) and the labels (batch,).

    `trainer.loss=bce` treats each class as a binary decision, as in "ResNet strikes back" (Wightman et al. 2021); it is
    timm's, which averages over the classes as well.
    """
    if trainer.loss == "bce":
        return BinaryCrossEntropy(trainer.label_smoothing)
    return partial(F.cross_entropy, label_smoothing=trainer.label_smoothing)
