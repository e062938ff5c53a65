"""Validation. Every image is used exactly once, for any number of ranks and any batch size."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranger21.engine.precision import Precision
from ranger21.system.distributed import World
from ranger21.system.memory import enough_memory
from ranger21.tracking.splits import OFFICIAL

Interrupted = Callable[[], bool]
Observer = Callable[[Tensor, Tensor], None]  # receives the logits and labels of a batch


class Batch(Protocol):
    """Images with labels, such as `ranger21.data.images.ImageBatch`."""

    @property
    def labels(self) -> Tensor: ...
    def to(self, device: torch.device) -> tuple[Tensor, Any, Any]:
        """Return the images, the random numbers of the augmentation left to the device, and the labels."""


@torch.inference_mode()
def evaluate(
    model: Callable[[Tensor], Tensor],
    batches: Iterable[Batch | None],
    to_input: nn.Module,
    world: World,
    precision: Precision,
    label_smoothing: float,
    memory_format: torch.memory_format = torch.contiguous_format,
    interrupted: Interrupted = lambda: False,
    observe: Observer | None = None,
    split: str = OFFICIAL,
) -> dict[str, float] | None:
    """Return cross-entropy (nats per image), without and with label smoothing, and top-1 and top-5 accuracy (per cent).

    Args:
        model: the model, in evaluation mode.
        batches: this rank's batches; every rank must have the same number of them, and some may be None.
        interrupted: called once per batch; if it returns True, the validation ends and None is returned.
        observe: receives the logits and labels of each batch.
        split: the prefix of the metrics' names, such as `val/acc1`.
    """
    dtype = torch.float32 if world.device.type == "mps" else torch.float64
    sums = torch.zeros(5, device=world.device, dtype=dtype)
    for batch in batches:
        if interrupted():
            return None
        if batch is None:
            continue
        what = f"a validation in batches of {len(batch.labels)} images, in {precision.name} on {world.device}"
        with enough_memory(what, "a smaller data.eval_batch_size"):
            images, rest, labels = batch.to(world.device)
            with precision.autocast():
                logits = model(to_input(images, rest, precision.inputs, memory_format))
            logits = logits.to(precision.weights)
            sums += _sums(logits, labels, label_smoothing).to(dtype)
            if observe:
                observe(logits, labels)
    images_seen, loss, smoothed, top1, top5 = world.reduce(sums).tolist()
    return {
        f"{split}/loss": loss / images_seen,
        f"{split}/loss_smoothed": smoothed / images_seen,
        f"{split}/acc1": 100 * top1 / images_seen,
        f"{split}/acc5": 100 * top5 / images_seen,
    }


def _sums(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return images, loss, smoothed loss, top-1 hits and top-5 hits, summed over a batch."""
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return torch.stack(
        [
            torch.full_like(logits[0, 0], len(labels)),
            F.cross_entropy(logits, labels, reduction="sum"),
            F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing),
            guesses[:, 0].sum().to(logits.dtype),
            guesses.sum().to(logits.dtype),
        ]
    )
