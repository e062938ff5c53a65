"""The validations of a run: on which images, and when on the official validation set."""

import torch
from torch import nn

from ranger21.data.loader import Loader
from ranger21.data.order import EvalBatches
from ranger21.engine.evaluation import Interrupted, evaluate
from ranger21.engine.parts import TrainState
from ranger21.run.build import Parts
from ranger21.run.statistics import recompute
from ranger21.system import stalls
from ranger21.tracking.splits import AVERAGED, HOLDOUT, OFFICIAL, images_of


class Validations:
    """Validates a run's model, and then the average of its weights if there is one; call it to validate once.

    Every validation reads the same split. If that is a holdout, the validation after the last step reads the official
    validation set as well, unless `trainer.final_validation` is false; no other validation does.

    Args:
        model: `state.model`, compiled if trainer.compile is set, and not wrapped for distributed training.

    Attributes:
        watched: the split by which the best checkpoint is chosen, such as `val`, or `val_ema` if there is an average.
        loaders: the loaders by split.
    """

    def __init__(self, parts: Parts, state: TrainState, model: nn.Module) -> None:
        self.parts, self.state = parts, state
        self.models = dict.fromkeys((OFFICIAL, HOLDOUT), (state.model, model))
        if state.ema:
            average = state.ema.module
            called: nn.Module = torch.compile(average) if parts.config.trainer.compile else average  # type: ignore[assignment]
            self.models |= dict.fromkeys(AVERAGED.values(), (average, called))
        self.watched = parts.watched
        holdout = parts.data.watched == HOLDOUT and parts.config.trainer.final_validation
        self.at_the_end = [OFFICIAL] if holdout else []
        self.loaders = {split: self._loader(split) for split in (parts.data.watched, *self.at_the_end)}

    def _loader(self, split: str) -> Loader:
        images = self.parts.data.validated(split)
        return self.parts.loader(
            images, EvalBatches(len(images), self.parts.config.data.eval_batch_size, self.parts.share)
        )

    def __call__(self, interrupted: Interrupted) -> dict[str, float] | None:
        """Return the metrics, named by their split; None as soon as `interrupted` returns True."""
        last = self.state.progress.step == self.parts.plan.total_steps

        def asked() -> bool:
            stalls.alive()
            return interrupted()

        if not self._recompute_statistics(asked):
            return None
        metrics: dict[str, float] = {}
        for split in (self.parts.data.watched, *(self.at_the_end if last else ())):
            for name in (split, AVERAGED[split]):
                if name not in self.models:
                    continue
                found = self._validate(name, asked)
                if found is None:
                    return None
                metrics |= found
        return metrics

    def _recompute_statistics(self, interrupted: Interrupted) -> bool:
        """Recompute what trainer.batch_norm_images says; return False as soon as `interrupted` returns True."""
        images, step = self.parts.config.trainer.batch_norm_images, self.state.progress.step
        if images is None:
            return True
        models = {id(model): model for model, _ in self.models.values()}
        return all(recompute(self.parts, model, step, images, interrupted) for model in models.values())

    def _validate(self, split: str, interrupted: Interrupted) -> dict[str, float] | None:
        parts, (model, called) = self.parts, self.models[split]
        parts.world.share_buffers(model)
        called.eval()
        return evaluate(
            called,
            self.loaders[images_of(split)],
            parts.to_input,
            parts.world,
            parts.precision,
            parts.config.trainer.label_smoothing,
            parts.memory_format,
            interrupted=interrupted,
            split=split,
        )
