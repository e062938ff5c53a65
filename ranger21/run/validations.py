"""The validations of a run: which images they read, and when the official validation set is read."""

from collections.abc import Callable
from typing import Any

from ranger21.config import Config
from ranger21.data.build import Data
from ranger21.data.loader import Loader
from ranger21.data.order import EvalBatches, Share
from ranger21.engine.evaluation import Interrupted, evaluate
from ranger21.system import stalls
from ranger21.tracking.splits import HOLDOUT, OFFICIAL


class Validations:
    """Validations of one process's part of a run.

    Each reads the split `watched`, by which the best checkpoint is chosen. Where that is a holdout, the one after the
    last step reads the official validation set, too, unless `trainer.final_validation` is false; no other ever does.
    `loaders` are the loaders, by split.
    """

    def __init__(self, config: Config, data: Data, share: Share, *of_loader: Any) -> None:
        self.watched = data.watched
        self.at_the_end = [OFFICIAL] if self.watched == HOLDOUT and config.trainer.final_validation else []
        self.loaders = {split: self._loader(config, data, split, share, of_loader) for split in self._splits(True)}

    def _loader(self, config: Config, data: Data, split: str, share: Share, of_loader: tuple[Any, ...]) -> Loader:
        pictures = data.validated(split)
        return Loader(pictures, EvalBatches(len(pictures), config.data.eval_batch_size, share), *of_loader)

    def _splits(self, last: bool) -> list[str]:
        return [self.watched, *(self.at_the_end if last else [])]

    def run(
        self, model: Callable[[Any], Any], last: bool, interrupted: Interrupted, **how: Any
    ) -> dict[str, float] | None:
        """The metrics of a model in evaluation mode, named by their split; None if `interrupted` says yes in between.

        Args:
            last: whether the last step is done.
            how: `to_input`, `world`, `precision`, `label_smoothing` and `memory_format` for `evaluation.evaluate`.
        """

        def asked() -> bool:
            stalls.alive()
            return interrupted()

        metrics: dict[str, float] = {}
        for split in self._splits(last):
            found = evaluate(model, self.loaders[split], interrupted=asked, split=split, **how)
            if found is None:
                return None
            metrics |= found
        return metrics
