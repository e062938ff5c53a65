"""Batch norms' running statistics recomputed before a validation (trainer.batch_norm_images)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ranger21.data.order import TrainBatches
from ranger21.engine.batch_norm import average_over_ranks, recompute_statistics
from ranger21.engine.course import Course
from ranger21.engine.evaluation import Interrupted
from ranger21.run.build import Parts


class Stopped(Exception):
    """A signal ends the recomputation."""


def first_step(course: Course, step: int, images: int) -> int:
    """Return the step from which the steps up to `step` have at least so many images, or 1."""
    first = step
    while first > 1 and course.seen(step) - course.seen(first - 1) < images:
        first -= 1
    return first


def recompute(parts: Parts, model: nn.Module, step: int, images: int, interrupted: Interrupted) -> bool:
    """Replace a model's running statistics by the mean over the last training batches, of at least so many images.

    The batches are those of the steps up to `step`, augmented and divided among the ranks and passes as there. Nothing
    else changes. Returns False, and changes nothing, if `interrupted` returns True; all ranks must agree on that.
    """
    course = parts.plan.course
    steps = TrainBatches(course, parts.config.seed_of_data, first_step(course, step, images), step, parts.share)

    def inputs() -> Iterator[Tensor]:
        for batch in parts.loader(parts.data.train, steps):
            if interrupted():
                raise Stopped
            assert batch is not None  # only validations have empty batches
            pixels, rest, _ = batch.to(parts.world.device)
            yield parts.to_input(pixels, rest, parts.precision.inputs, parts.memory_format)

    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.eval()
    try:
        with parts.precision.autocast():
            recompute_statistics(model, inputs())
    except Stopped:
        with torch.no_grad():
            for buffer, saved in before:
                buffer.copy_(saved)
        return False
    average_over_ranks(model, parts.world)
    return True
