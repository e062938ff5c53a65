"""Images that could not be read and were replaced by others (`data.on_bad_image=substitute`)."""

from collections.abc import Sequence

import torch

from ranger21.data.loader import Loader
from ranger21.system.distributed import World


class UnreadableImages:
    """Counts unreadable images over all ranks and all processes of a run. Every rank must call each method.

    Args:
        loaders: the loaders of this rank; the first one is that of the training images.
        count: training images that earlier processes of the run have replaced.
        sentences: sentences about the images that earlier processes could not read.
    """

    def __init__(self, world: World, loaders: Sequence[Loader], count: int, sentences: list[str]) -> None:
        self._world, self._loaders = world, loaders
        self._count, self._sentences = count, sentences

    def count(self) -> int:
        """Return how many training images were replaced since the run began."""
        own = torch.tensor(len(self._loaders[0].unreadable), device=self._world.device)
        return self._count + int(self._world.reduce(own).item())

    def sentences(self) -> list[str]:
        """Return a sentence about each image that could not be read, for training or validation."""
        told = {sentence for loader in self._loaders for sentence in loader.unreadable}
        return self._world.gather([*self._sentences, *told])
