"""Operations on a normalized batch: random erasing, then mixup and cutmix of neighbouring images.

The parameters are drawn on the CPU by torchvision, for each image or pair from a seed of its own. They are applied on
the device, to the whole batch at once, because torchvision's transforms have one set of parameters for a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

from ranger21.data.order import Key
from ranger21.data.transforms.rescaled import seeded
from ranger21.engine.labels import Mixed
from ranger21.system.randomness import ERASE, MIX, uniforms


class Late(NamedTuple):
    """The operations that are left to the device.

    Attributes:
        rows: Flip and color jitter, float32 (n, 7), or None (see `flips_and_jitters`).
        boxes: The box that is erased in each image, int32 (n, 4): top, left, bottom, right; zeros for none. Or None.
        pairs: For the n // 2 pairs of neighbours, float32 (n // 2, 6): the share of each image itself outside of the
            box, the box, in which the other image takes its place, and the share of the whole image. Or None.
    """

    rows: Tensor | None
    boxes: Tensor | None
    pairs: Tensor | None

    def to(self, device: torch.device, non_blocking: bool = False) -> Late:
        """Return these parameters on a device, as `Tensor.to` does."""
        return Late(*(None if part is None else part.to(device, non_blocking=non_blocking) for part in self))

    def record_stream(self, stream: torch.Stream) -> None:
        """Do for each tensor what `Tensor.record_stream` does."""
        for part in self:
            if part is not None:
                part.record_stream(stream)

    def labels(self, labels: Tensor) -> Tensor | Mixed:
        """Return the labels of the mixed images."""
        if self.pairs is None:
            return labels
        paired = 2 * len(self.pairs)
        swapped, share = labels.clone(), torch.ones(len(labels), dtype=self.pairs.dtype, device=labels.device)
        swapped[:paired] = labels[:paired].view(-1, 2).flip(1).flatten()
        share[:paired] = self.pairs[:, 5:].expand(-1, 2).flatten()
        return Mixed(labels, swapped, share)

    def applied(self, inputs: Tensor) -> Tensor:
        """Return the normalized images (n, channels, height, width), erased and mixed. `inputs` is overwritten."""
        height, width = inputs.shape[2:]
        if self.boxes is not None:
            inputs.masked_fill_(inside(self.boxes, height, width), 0)
        if self.pairs is not None:
            paired, accurate = 2 * len(self.pairs), torch.promote_types(inputs.dtype, torch.float32)
            share = self.pairs[:, :1, None, None].to(accurate)
            share = torch.where(inside(self.pairs[:, 1:5], height, width), 0, share)
            first, second = (inputs[start:paired:2].to(accurate, copy=True) for start in (0, 1))
            inputs[0:paired:2] = torch.lerp(second, first, share)
            inputs[1:paired:2] = torch.lerp(first, second, share)
        return inputs


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels lie in each box, boolean (n, 1, height, width)."""
    top, left, bottom, right = (edge[:, None, None] for edge in boxes.unbind(1))
    row = torch.arange(height, device=boxes.device)[:, None]
    column = torch.arange(width, device=boxes.device)
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[:, None]


class LateDraws:
    """Draws the parameters of erasing and mixing as a pure function of (seed, epoch, image).

    Args:
        erase: Probability of random erasing.
        mixup: Parameter alpha of mixup's beta distribution; 0 for no mixup.
        cutmix: The same for cutmix. With both, each pair of images gets one of them, with equal probability.
        seed: Seed of the augmentation.
    """

    def __init__(self, erase: float, mixup: float, cutmix: float, seed: int) -> None:
        self.seed, self.erase, self.erasing = seed, erase, v2.RandomErasing()
        chosen = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.mixing = [transform(alpha=alpha) for transform, alpha in chosen if alpha]

    def __call__(self, keys: Sequence[Key], rows: Tensor | None, image: Tensor) -> Late:
        """Return the parameters of a batch.

        Args:
            keys: The key of each image.
            rows: The parameters of flip and jitter, or None.
            image: One of the images, for its size.
        """
        boxes = torch.tensor([self.box(key, image) for key in keys], dtype=torch.int32) if self.erase else None
        pairs = [self.pair(key, image) for key in keys[: len(keys) // 2 * 2 : 2]]
        return Late(rows, boxes, torch.tensor(pairs).view(-1, 6) if self.mixing else None)

    def box(self, key: Key, image: Tensor) -> tuple[int, int, int, int]:
        """Return the box that is erased in an image: top, left, bottom, right."""
        chance, number = uniforms(2, ERASE, self.seed, *key)
        if chance < self.erase:
            with seeded(number):
                drawn = self.erasing.make_params([image])
            if drawn["v"] is not None:  # otherwise no box fitted into the image
                return drawn["i"], drawn["j"], drawn["i"] + drawn["h"], drawn["j"] + drawn["w"]
        return 0, 0, 0, 0

    def pair(self, key: Key, image: Tensor) -> tuple[float, ...]:
        """Return a row of `Late.pairs` for the pair whose first image has this key."""
        if not self.mixing:
            return ()
        choice, number = uniforms(2, MIX, self.seed, *key)
        with seeded(number):
            drawn: dict[str, Any] = self.mixing[int(choice * len(self.mixing))].make_params([image])
        if "lam" in drawn:
            return drawn["lam"], 0, 0, 0, 0, drawn["lam"]
        left, top, right, bottom = drawn["box"]
        return 1, top, left, bottom, right, drawn["lam_adjusted"]
