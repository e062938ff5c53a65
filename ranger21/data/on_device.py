"""Batch operations on the device: color jitter, and conversion of uint8 images to the model's input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranger21.data import fused
from ranger21.data.late import Late

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in gray (ITU-R 601), as in Pillow and torchvision
CONTRAST, SATURATION = 1, 2  # indices of jitter operations; brightness is 0
CPU_CHUNK = 4  # images processed at a time on the CPU, so that they stay in a core's cache


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjust brightness, contrast and saturation of each image by its own factors and in its own order.

    Each operation replaces an image x by clamp(base + factor (x - base), 0, 255), as Pillow's `ImageEnhance` does. The
    base is black for brightness, the mean gray value for contrast, and the gray image for saturation. As in Pillow,
    gray values are rounded to integers and results are rounded down.

    Args:
        images: Floats from 0 to 255, shape (batch, 3, height, width). They are overwritten.
        factors: Factors of brightness, contrast and saturation, shape (batch, 3).
        order: Indices of the operations in the order of their application, shape (batch, 3).

    Returns:
        `images`.
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
    """Convert uint8 images to normalized floats, (x / 255 - mean) / std, after an optional flip and color jitter.

    The buffers are created in float64; move the module to the model's device and dtype. On CUDA, two Triton kernels do
    everything if they agree with the operations here, which are the reference (`ranger21.data.fused`).

    Args:
        mean: Mean of each channel, on a scale from 0 to 1.
        std: Standard deviation of each channel.
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
        rows: Tensor | Late | None = None,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> Tensor:
        """Return the model's input as a new tensor.

        Args:
            images: uint8 (batch, channels, height, width).
            rows: Flip, three factors and the order of the operations for each image, (batch, 7), as made by
                `flips_and_jitters`; None for no flip and jitter. Or these with the operations after normalization.
            dtype: Dtype of the result, which is rounded once; None for the module's.
            memory_format: Memory format of the result; by default the images'.
        """
        if isinstance(rows, Late):
            return rows.applied(self(images, rows.rows, dtype, memory_format))
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
        """Return the model's input by single torch operations, in the images' memory format."""
        result = torch.empty_like(images, dtype=dtype)
        chunk = CPU_CHUNK if images.device.type == "cpu" else len(images)
        for begin in range(0, len(images), max(1, chunk)):
            part = slice(begin, begin + chunk)
            floats = images[part].to(self.scale.dtype, memory_format=torch.contiguous_format)  # faster by channel
            if rows is not None:
                flips = rows[part, 0, None, None, None].bool()
                floats = jitter(torch.where(flips, floats.flip(3), floats), rows[part, 1:4], rows[part, 4:])
            result[part] = floats.mul_(self.scale).add_(self.shift)
        return result
