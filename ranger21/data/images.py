"""Datasets and batches of images: a source of images with a transform."""

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ranger21.data.late import Late, LateDraws
from ranger21.data.order import Key
from ranger21.data.transforms.base import NUMBERS, Transform
from ranger21.engine.labels import Labels
from ranger21.system.errors import UserError
from ranger21.system.randomness import SAMPLE, uniforms

MOST_SUBSTITUTES = 100  # images tried in place of an unreadable one


class Source(Protocol):
    """Images with labels, by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class ImageBatch(NamedTuple):
    """A batch of images.

    Attributes:
        images: uint8 (n, channels, height, width).
        rest: Parameters of the operations left to the device: of flip and jitter, float32 (n, 7) (see
            `flips_and_jitters`), also of others, or None.
        labels: int64 (n,).
        unreadable: Messages about unreadable images that were replaced by others.
    """

    images: Tensor
    rest: Tensor | Late | None
    labels: Tensor
    unreadable: list[str]

    def to(self, device: torch.device) -> tuple[Tensor, Tensor | Late | None, Labels]:
        """Return images, `rest` and labels on the device; the labels are those of the mixed images.

        Copies from pinned memory are asynchronous. On an accelerator they run on a stream of their own, so they start
        while the device still computes; later computations on the current stream wait for them.
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
                    part.record_stream(computing)  # keeps `side` from reusing the memory too early
        images, rest, labels = made
        return images, rest, rest.labels(labels) if isinstance(rest, Late) else labels


@functools.cache
def copying_stream(device: torch.device) -> torch.Stream | None:
    """Return the stream for copies of batches to a device, or None for devices without streams, such as CPUs."""
    here = torch.accelerator.current_accelerator(check_available=True)
    return torch.Stream(device) if here and here.type == device.type and here.type != "mps" else None


class ImageDataset(Dataset[Any]):
    """A dataset that returns whole batches of transformed images. Keys are (epoch, index).

    Args:
        source: Images with labels.
        transform: Transform from a stored image to pixels.
        seed: Seed of the augmentation.
        substitute: Whether the next readable image (with its label) replaces an unreadable one. Otherwise unreadable
            images are errors.
        late: Draws the parameters of operations on the normalized batch; None if there are none.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        seed: int = 0,
        substitute: bool = False,
        late: LateDraws | None = None,
    ) -> None:
        self.source, self.transform, self.seed, self.substitute = source, transform, seed, substitute
        self.late = late

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> ImageBatch | UserError | None:
        """Return the batch, or None if there are no keys. All keys are of one epoch, which decides the images' size.

        Errors are returned, because an exception in a worker would be shown with a traceback. All random numbers are
        drawn and all files read before the first image is decoded, to keep the cache free for decoding.
        """
        if not keys:
            return None
        numbers = np.stack([uniforms(NUMBERS, SAMPLE, self.seed, *key) for key in keys])
        transform = self.transform.at(keys[0][0])
        rest = transform.left_to_do(numbers)
        images: Tensor | None = None
        labels, unreadable = [], list[str]()
        try:
            found = [self.read(index) for _, index in keys]
            for place, (_, index) in enumerate(keys):
                pixels, label = self.sample(transform, index, found[place], numbers[place], unreadable)
                by_pixel = pixels.permute(1, 2, 0)
                if images is None:
                    images = room_for(len(keys), by_pixel)
                    room = images.numpy()
                room[place] = by_pixel.numpy()
                labels.append(label)
                del pixels, by_pixel  # so that the next image reuses the memory while it is in the cache
        except UserError as error:
            return error
        assert images is not None
        rows = None if rest is None else torch.from_numpy(rest)
        images = images.permute(0, 3, 1, 2)
        left = rows if self.late is None else self.late(keys, rows, images[0])
        return ImageBatch(images, left, torch.tensor(labels), unreadable)

    def read(self, index: int) -> tuple[Any, int] | UserError:
        """Return the stored image with its label, or the error."""
        try:
            return self.source[index % len(self)]
        except UserError as error:
            return error

    def sample(
        self,
        transform: Transform,
        index: int,
        found: tuple[Any, int] | UserError,
        numbers: np.ndarray,
        unreadable: list[str],
    ) -> tuple[Tensor, int]:
        """Return pixels and label of an image, or of a substitute if it is unreadable and substitutes are allowed.

        Args:
            transform: Transform of the epoch.
            index: Index of the image.
            found: The stored image, or the error.
            numbers: Random numbers for the transform.
            unreadable: List to which messages about unreadable images are appended.

        Raises:
            UserError: If there is no readable image to return.
        """
        for distance in range(1, MOST_SUBSTITUTES + 1):
            try:
                if isinstance(found, UserError):
                    raise found
                return transform(found[0], numbers), found[1]
            except UserError as error:
                if not self.substitute or distance == MOST_SUBSTITUTES:
                    raise
                unreadable.append(str(error))
            found = self.read(index + distance)
        raise AssertionError("the last try returned or raised")


def room_for(images: int, pixels: Tensor) -> Tensor:
    """Return an uninitialized batch of images like this one, in shared memory if called in a worker.

    Raises:
        UserError: If no shared memory is available.
    """
    if get_worker_info() is None:
        return torch.empty((images, *pixels.shape), dtype=torch.uint8)
    try:
        storage = torch.UntypedStorage._new_shared(images * pixels.numel())  # as torch's own default_collate does
    except RuntimeError as error:
        text = f"A worker could not allocate shared memory ({error})"
        raise UserError(f"{text}. Enlarge /dev/shm (docker run --shm-size=8g), or reduce data.workers.") from error
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(images, *pixels.shape)
