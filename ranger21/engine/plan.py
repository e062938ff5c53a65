"""When a run logs, evaluates and saves."""

import math
from dataclasses import dataclass

from ranger21.engine.course import Course


@dataclass
class Plan:
    """The steps at which a run logs, evaluates and saves. Steps are counted from 1.

    Attributes:
        course: which images each step takes, and how many steps there are.
        accumulate: forward and backward passes per batch of `course.unit` images, on every rank.
        eval_every_epochs: ignored if `eval_every_steps` is set.
        checkpoint_every_minutes: the running time between checkpoints; None saves at steps only.
        keep_every: steps between checkpoints that are kept, which may be a fraction; None keeps none.
        keep_from: the step from which they are counted.
    """

    course: Course
    accumulate: int
    eval_every_epochs: int
    log_every_steps: int
    checkpoint_every_steps: int | None
    checkpoint_every_minutes: float | None
    eval_every_steps: int | None = None
    keep_every: float | None = None
    keep_from: float = 0

    @property
    def total_steps(self) -> int:
        return self.course.total_steps

    def passes(self, step: int) -> int:
        """Return the number of forward and backward passes of a step, on every rank."""
        return self.accumulate * self.course.size(step) // self.course.unit

    def evaluates(self, step: int) -> bool:
        """Return whether the model is validated after a step. It always is after the last one."""
        if step <= 0 or step == self.total_steps:
            return step == self.total_steps
        if self.eval_every_steps:
            return step % self.eval_every_steps == 0
        epochs = self.course.ends_epoch(step)
        return epochs > 0 and epochs % self.eval_every_epochs == 0

    def logs(self, step: int) -> bool:
        """Return whether metrics are logged after a step. They always are when there is a validation."""
        return step > 0 and (step % self.log_every_steps == 0 or self.evaluates(step))

    def saves(self, step: int) -> bool:
        """Return whether a checkpoint is saved after a step. It always is when there is a validation."""
        every = self.checkpoint_every_steps
        return self.evaluates(step) or self.keeps(step) or (every is not None and step > 0 and step % every == 0)

    def keeps(self, step: int) -> bool:
        """Return whether the checkpoint after a step is kept beside later ones."""
        if self.keep_every is None:
            return False
        done, before = (math.floor((s - self.keep_from) / self.keep_every + 1e-9) for s in (step, step - 1))
        return done > max(0, before)
