"""The running statistics of batch norms: recomputed, averaged over the ranks, or protected from a second update."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ranger21.system.distributed import World

BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """Return the batch norms with running statistics, by name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.track_running_stats}


@contextlib.contextmanager
def gathering(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Make batch norms accumulate the plain average of the batches' statistics; restore their mode at the end."""
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, None  # None: the cumulative average
    try:
        yield
    finally:
        for norm, (training, momentum) in zip(norms, before, strict=True):
            norm.training, norm.momentum = training, momentum


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of the batch norms by averages over these batches of inputs, in place.

    Everything else works as `model` is set, which should be evaluation mode: torch's `update_bn` sets dropout to
    training mode, too.
    """
    norms = list(batch_norms(model).values())
    for norm in norms:
        norm.reset_running_stats()
    with gathering(norms):
        for images in batches:
            model(images)


def statistics(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances of the batch norms."""
    found = [(norm.running_mean, norm.running_var) for norm in batch_norms(model).values()]
    return [tensor for both in found for tensor in both if tensor is not None]


@torch.no_grad()
def average_over_ranks(model: nn.Module, world: World) -> None:
    """Replace the running statistics by their mean over the ranks, in place and without waiting for the device."""
    if world.size > 1 and (own := statistics(model)):
        mean = world.reduce(torch.cat([tensor.flatten() for tensor in own])) / world.size
        for tensor, part in zip(own, mean.split([tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextlib.contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the buffers on exit.

    A backward pass with gradient checkpointing runs parts of the model again, which would update the running
    statistics of their batch norms a second time.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    with torch.no_grad():
        for buffer, saved in before:
            buffer.copy_(saved)
