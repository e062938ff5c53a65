"""Batches of pictures: a source seen through a transform."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ranger21.data.order import Key
from ranger21.data.transforms import NUMBERS, Transform
from ranger21.system.errors import UserError
from ranger21.system.randomness import SAMPLE, uniforms

MOST_SUBSTITUTES = 100  # tried for one image


class Source(Protocol):
    """Images with labels, by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class ImageBatch(NamedTuple):
    """Images uint8 (n, channels, height, width), what the device still has to do float32 (n, 7), labels int64 (n,)."""

    images: Tensor
    rest: Tensor | None
    labels: Tensor
    unreadable: list[str]  # sentences about the images that others stand for

    def to(self, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return images, what is left to do and labels on the device.

        Nothing here waits for pinned memory to be copied. On an accelerator the copy has a stream of its own: it begins
        at once, while the device still computes what it was given before, and what is computed from it waits for it.
        """
        side = copying_stream(device)
        with side or nullcontext():
            rest = self.rest if self.rest is None else self.rest.to(device, non_blocking=True)
            made = self.images.to(device, non_blocking=True), rest, self.labels.to(device, non_blocking=True)
        if side:
            computing = torch.accelerator.current_stream(device)
            computing.wait_stream(side)
            for part in made:
                if part is not None:
                    part.record_stream(computing)  # its memory belongs to `side`, which may not take it back before
        return made


@functools.cache
def copying_stream(device: torch.device) -> torch.Stream | None:
    """Return the stream on which batches are copied to a device; None where there are no streams, as on a CPU."""
    here = torch.accelerator.current_accelerator(check_available=True)
    return torch.Stream(device) if here and here.type == device.type and here.type != "mps" else None


class ImageDataset(Dataset[Any]):
    """A source seen through a transform, a batch at a time. A key is (epoch, index).

    An image that cannot be read is an error; with `substitute`, the next one that can be, by its number, takes its
    place, label and all.
    """

    def __init__(self, source: Source, transform: Transform, seed: int = 0, substitute: bool = False) -> None:
        self.source, self.transform, self.seed, self.substitute = source, transform, seed, substitute

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> ImageBatch | UserError | None:
        """The batch; None for no keys. An error is returned: raised in a loader process it would be a traceback.

        In three sweeps, numbers, files, pixels: between two images to be decoded, little else should want the cache.
        """
        if not keys:
            return None
        numbers = np.stack([uniforms(NUMBERS, SAMPLE, self.seed, *key) for key in keys])
        rest = self.transform.left_to_do(numbers)
        images: Tensor | None = None
        labels, unreadable = [], list[str]()
        try:
            found = [self.read(index) for _, index in keys]
            for place, (_, index) in enumerate(keys):
                pixels, label = self.sample(index, found[place], numbers[place], unreadable)
                by_pixel = pixels.permute(1, 2, 0)
                if images is None:
                    images = room_for(len(keys), by_pixel)
                    room = images.numpy()
                room[place] = by_pixel.numpy()
                labels.append(label)
                del pixels, by_pixel  # so that the next image is decoded where this one was, in the cache
        except UserError as error:
            return error
        assert images is not None
        rows = None if rest is None else torch.from_numpy(rest)
        return ImageBatch(images.permute(0, 3, 1, 2), rows, torch.tensor(labels), unreadable)

    def read(self, index: int) -> tuple[Any, int] | UserError:
        """What the source has, or why it has not."""
        try:
            return self.source[index % len(self)]
        except UserError as error:
            return error

    def sample(
        self, index: int, found: tuple[Any, int] | UserError, numbers: np.ndarray, unreadable: list[str]
    ) -> tuple[Tensor, int]:
        """Raises a UserError if the image cannot be read and none may, or can, stand for it."""
        for distance in range(1, MOST_SUBSTITUTES + 1):
            try:
                if isinstance(found, UserError):
                    raise found
                return self.transform(found[0], numbers), found[1]
            except UserError as error:
                if not self.substitute or distance == MOST_SUBSTITUTES:
                    raise
                unreadable.append(str(error))
            found = self.read(index + distance)
        raise AssertionError("the last try returned or raised")


def room_for(images: int, pixels: Tensor) -> Tensor:
    """An empty batch of images like this one; in a loader process in memory that the run sees without a copy.

    Raises a UserError if there is no such memory.
    """
    if get_worker_info() is None:
        return torch.empty((images, *pixels.shape), dtype=torch.uint8)
    try:
        storage = torch.UntypedStorage._new_shared(images * pixels.numel())  # as torch's own default_collate does
    except RuntimeError as error:
        text = f"A loader process got no shared memory ({error})"
        raise UserError(f"{text}: enlarge /dev/shm (docker run --shm-size=8g), or lower data.workers.") from error
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(images, *pixels.shape)
