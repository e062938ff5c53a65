"""The validations of a run: on which images, and when on the official validation set."""

from torch import nn

from ranger21.data.loader import Loader
from ranger21.data.order import EvalBatches
from ranger21.engine.evaluation import Interrupted, evaluate
from ranger21.engine.parts import TrainState
from ranger21.run.build import Parts
from ranger21.system import stalls
from ranger21.tracking.splits import HOLDOUT, OFFICIAL


class Validations:
    """Validates a run's model; call it to validate once.

    Every validation reads the split `watched`, by which the best checkpoint is chosen. If that is a holdout, the
    validation after the last step reads the official validation set as well, unless `trainer.final_validation` is
    false; no other validation does.

    Args:
        model: `state.model`, compiled if trainer.compile is set, and not wrapped for distributed training.

    Attributes:
        loaders: the loaders by split.
    """

    def __init__(self, parts: Parts, state: TrainState, model: nn.Module) -> None:
        self.parts, self.state, self.model = parts, state, model
        self.watched = parts.data.watched
        holdout = self.watched == HOLDOUT and parts.config.trainer.final_validation
        self.at_the_end = [OFFICIAL] if holdout else []
        self.loaders = {split: self._loader(split) for split in (self.watched, *self.at_the_end)}

    def _loader(self, split: str) -> Loader:
        images = self.parts.data.validated(split)
        return self.parts.loader(
            images, EvalBatches(len(images), self.parts.config.data.eval_batch_size, self.parts.share)
        )

    def __call__(self, interrupted: Interrupted) -> dict[str, float] | None:
        """Return the metrics, named by their split; None as soon as `interrupted` returns True."""
        parts, last = self.parts, self.state.progress.step == self.parts.plan.total_steps
        parts.world.share_buffers(self.state.model)
        self.model.eval()

        def asked() -> bool:
            stalls.alive()
            return interrupted()

        metrics: dict[str, float] = {}
        for split in (self.watched, *(self.at_the_end if last else ())):
            found = evaluate(
                self.model,
                self.loaders[split],
                parts.to_input,
                parts.world,
                parts.precision,
                parts.config.trainer.label_smoothing,
                parts.memory_format,
                interrupted=asked,
                split=split,
            )
            if found is None:
                return None
            metrics |= found
        return metrics
