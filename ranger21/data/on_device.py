"""What is done to a whole batch on the device: the jitter, and from bytes to the model's input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranger21.data import fused

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R 601), as Pillow and torchvision have it
CONTRAST, SATURATION = 1, 2  # their places in a jitter's row; brightness is 0
CPU_CHUNK = 4  # images at a time, whose floats stay in a core's cache


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast and saturation, each sample's by its own factors and in its own order, within 0 ... 255.

    Each operation pulls an image x towards a base, clamp(base + factor (x - base)), as Pillow's `ImageEnhance` does:
    the base is black for brightness, the mean of its grey for contrast, its grey for saturation. As there, greys are
    rounded to whole numbers and what comes out is rounded down.

    Args:
        images: floats (batch, 3, height, width) from 0 to 255. They are overwritten.
        factors: (batch, 3), of brightness, contrast and saturation.
        order: (batch, 3), the places of the operations in `factors`, in the order in which they are applied.
    """
    for turn in range(order.shape[1]):
        which = order[:, turn, None].long()
        factor = factors.gather(1, which).to(images.dtype)[:, :, None, None]
        grey = LUMA[0] * images[:, :1]
        grey.add_(images[:, 1:2], alpha=LUMA[1]).add_(images[:, 2:], alpha=LUMA[2]).add_(0.5).floor_()
        mean = grey.mean(dim=(2, 3), keepdim=True).add_(0.5).floor_()
        saturates, contrasts = ((which == n).to(images.dtype)[:, :, None, None] for n in (SATURATION, CONTRAST))
        base = grey.mul_(saturates).add_(mean * contrasts)
        images = torch.lerp(base, images, factor, out=images).clamp_(0, 255).floor_()
    return images


class ToInput(nn.Module):
    """uint8 (batch, channels, height, width) on any device -> normalised floats: (x / 255 - mean) / std.

    Flipped and jittered before, if there is a row for each image that says how (`flips_and_jitters`). Made in float64;
    move it to the device and the number format of the model. On CUDA two Triton kernels do it all, once they have
    been found to agree with the operations here, which are the reference (`ranger21.data.fused`).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        center, spread = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -center / spread, persistent=False)

    def forward(
        self,
        images: Tensor,
        rows: Tensor | None = None,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> Tensor:
        """Return a new tensor.

        Args:
            rows: (batch, 7), flip, three factors, three places.
            dtype: of the result, to which it is rounded once. Default: this module's.
            memory_format: of the result. Default: the images'.
        """
        dtype = dtype or self.scale.dtype
        if memory_format == torch.preserve_format:
            by_pixel = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        else:
            by_pixel = memory_format == torch.channels_last
        if fused.suits(images, self.scale, dtype) and fused.trusted(images.device, dtype, by_pixel):
            return fused.augment(images, rows, self.scale, self.shift, dtype, by_pixel)
        made = self.by_operations(images, rows, dtype)
        return made if memory_format == torch.preserve_format else made.contiguous(memory_format=memory_format)

    def by_operations(self, images: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the same by single operations, in the images' memory format."""
        result = torch.empty_like(images, dtype=dtype)
        chunk = CPU_CHUNK if images.device.type == "cpu" else len(images)
        for begin in range(0, len(images), max(1, chunk)):
            part = slice(begin, begin + chunk)
            floats = images[part].to(self.scale.dtype, memory_format=torch.contiguous_format)  # planes are quicker
            if rows is not None:
                flips = rows[part, 0, None, None, None].bool()
                floats = jitter(torch.where(flips, floats.flip(3), floats), rows[part, 1:4], rows[part, 4:])
            result[part] = floats.mul_(self.scale).add_(self.shift)
        return result
