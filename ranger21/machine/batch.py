"""Check of the largest batch that fits into the device's memory, found by doubling."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ranger21.engine.precision import choose_precision
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of
from ranger21.machine.model import CLASSES
from ranger21.models.build import build_model, memory_format
from ranger21.models.training import average_of, checkpoint_gradients
from ranger21.run.optimizers import build_optimizer
from ranger21.system.memory import lacks_memory

MOST = 1 << 16  # images
ON_CPU = 2  # times the configured batch, the largest tried on a CPU, whose memory is shared with other programs


def largest(machine: Machine) -> CheckResult:
    """Double the batch of one pass until the device runs out of memory in a training step."""
    here, config = device_of(machine), machine.config
    wanted = max(1, config.data.batch_size // config.trainer.accumulate)
    most = MOST if here.type == "cuda" else ON_CPU * wanted
    fitting, stopped = doubled(lambda images: fits(machine, here, images), wanted, most)
    numbers = {"images": fitting, "wanted": wanted, "stopped": stopped}
    if fitting < wanted:
        text = f"{fitting or 'no'} images per pass fit, but the run needs {wanted}"
        remedy = "use a smaller data.batch_size, trainer.accumulate, or more ranks"
        return CheckResult(text, FAILED, remedy, numbers)
    if stopped:
        why = "more were not tried" if here.type == "cuda" else "more were not tried, to leave memory to other programs"
        return CheckResult(f"{fitting} images per pass fit; {why}", numbers=numbers)
    seen = f"{fitting} images per pass fit, {2 * fitting} do not (the run needs {wanted})"
    if fitting == wanted:
        return CheckResult(seen, WARNING, "little memory is left: run nothing else on this device", numbers)
    return CheckResult(seen, numbers=numbers)


def doubled(fit: Callable[[int], bool], first: int, most: int) -> tuple[int, bool]:
    """Return the largest number that fits among `first`, 2 * `first`, …, and whether `most` ended the search.

    If `first` does not fit, it is halved until it does; 0 means that not even 1 fits.
    """
    if not fit(first):
        while first > 1:
            first //= 2
            if fit(first):
                return first, False
        return 0, False
    while 2 * first <= most:
        if not fit(2 * first):
            return first, False
        first *= 2
    return first, True


def fits(machine: Machine, here: torch.device, images: int) -> bool:
    """Return whether there is enough memory for a training step with `images` images per pass."""
    try:
        step(machine, here, images)
    except Exception as error:
        if not lacks_memory(error):
            raise
        return False
    finally:
        if here.type == "cuda":
            torch.cuda.empty_cache()
    return True


def step(machine: Machine, here: torch.device, images: int) -> None:
    """Take two steps of the configured model and optimizer on noise; the first creates the optimizer's state."""
    config = machine.config
    channels, height, width = config.data.shape
    precision, form = choose_precision(config.trainer.precision, here), memory_format(config.trainer.channels_last)
    model = build_model(config.model, CLASSES, channels).to(here, precision.weights)
    model = model.to(memory_format=form)
    if config.trainer.grad_checkpointing:
        checkpoint_gradients(model, config.model.name)
    optimizer = build_optimizer(params=model.parameters(), **vars(config.optimizer))
    average = average_of(model, config.trainer.ema) if config.trainer.ema else None
    scaler = precision.scaler()
    inputs = torch.rand(images, channels, height, width, device=here, dtype=precision.weights).to(memory_format=form)
    labels = torch.zeros(images, dtype=torch.int64, device=here)
    for _ in range(2):
        with precision.autocast():
            logits = model(inputs)
        scaler.scale(F.cross_entropy(logits.to(precision.weights), labels)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if average:
            average.update(model)
    if here.type == "cuda":
        torch.cuda.synchronize(here)
