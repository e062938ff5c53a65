"""Jitter and normalization of a batch in two kernel launches, as custom torch operators that check themselves."""

import functools
import importlib.util
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

log = logging.getLogger("ranger21")
LIBRARY = torch.library.Library("ranger21", "FRAGMENT")
BLOCK = 1024  # pixels per program
MOST_PIXELS = (
    2**22
)  # limit per image, so that its gray sum fits into an int32 and one program can add up its block sums
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SOME_OFF, STEPS_OFF = 1e-3, 3.0  # tolerance of the check: fraction of values, and largest difference in steps of 1/255

LIBRARY.define("augment_sums(Tensor images, Tensor rows) -> Tensor")
LIBRARY.define(
    "augment(Tensor images, Tensor? rows, Tensor? sums, Tensor scale, Tensor shift, ScalarType dtype,"
    " bool channels_last) -> Tensor"
)


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return a context manager in which Triton launches on the device of a tensor."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def blocks_of(images: Tensor) -> int:
    """Return the number of programs per image."""
    return -(-images.shape[2] * images.shape[3] // BLOCK)


def _empty_sums(images: Tensor, rows: Tensor) -> Tensor:
    return images.new_empty((len(images), blocks_of(images)), dtype=torch.int32)


def _empty_input(
    images: Tensor,
    rows: Tensor | None,
    sums: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(images.shape, dtype=dtype, device=images.device, memory_format=layout)


torch.library.register_fake("ranger21::augment_sums", _empty_sums, lib=LIBRARY)
torch.library.register_fake("ranger21::augment", _empty_input, lib=LIBRARY)


@torch.library.impl(LIBRARY, "augment_sums", "CompositeExplicitAutograd")
def _sums(images: Tensor, rows: Tensor) -> Tensor:
    from ranger21.data import fused_kernels

    sums = _empty_sums(images, rows)
    height, width = images.shape[2:]
    with on_device_of(images):
        fused_kernels.grey_sums[tuple(sums.shape)](
            images, rows, sums, height * width, width, *images.stride(), BLOCK=BLOCK, **_exactly(images)
        )
    return sums


@torch.library.impl(LIBRARY, "augment", "CompositeExplicitAutograd")
def _augment(
    images: Tensor,
    rows: Tensor | None,
    sums: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    from ranger21.data import fused_kernels

    made = _empty_input(images, rows, sums, scale, shift, dtype, channels_last)
    (height, width), blocks = images.shape[2:], blocks_of(images)
    to = (1, 3) if channels_last else (height * width, 1)
    most = 1 << (blocks - 1).bit_length()
    with on_device_of(images):
        fused_kernels.to_input[(len(images), blocks)](
            images, rows, sums, scale, shift, made, height * width, width, *images.stride(), *to, blocks,
            JITTER=rows is not None, DTYPE=fused_kernels.TYPES[dtype], BLOCK=BLOCK, MOST=most, **_exactly(images),
        )  # fmt: skip
    return made


def _exactly(images: Tensor) -> dict[str, bool]:
    """Return the option that keeps multiplication and addition separately rounded, as in the reference."""
    return {"enable_fp_fusion": False} if images.device.type == "cuda" else {}


def augment(
    images: Tensor, rows: Tensor | None, scale: Tensor, shift: Tensor, dtype: torch.dtype, channels_last: bool
) -> Tensor:
    """Return the result of `ToInput` for a batch, by two kernel launches, or one if `rows` is None.

    Args:
        images: uint8 (batch, 3, height, width), with any strides.
        rows: float32 (batch, 7): flip, three factors, and the order as a permutation of 0, 1, 2; or None.
        scale, shift: Three float32 values each.
        dtype: Dtype of the result, which is rounded once: float32, bfloat16 or float16.
        channels_last: Whether the result is in channels_last memory format instead of contiguous.
    """
    rows = None if rows is None else rows.contiguous()
    sums = None if rows is None else torch.ops.ranger21.augment_sums(images, rows)
    made: Tensor = torch.ops.ranger21.augment(images, rows, sums, scale, shift, dtype, channels_last)
    return made


def suits(images: Tensor, scale: Tensor, dtype: torch.dtype) -> bool:
    """Return whether the kernels support this batch: RGB images on a real CUDA device."""
    return (
        images.device.type == "cuda"
        and torch.cuda.is_available()
        and images.dtype == torch.uint8
        and images.shape[1] == 3
        and 0 < images.shape[2] * images.shape[3] <= MOST_PIXELS
        and len(images) > 0
        and scale.dtype == torch.float32
        and dtype in DTYPES
        and importlib.util.find_spec("triton") is not None
    )


Reference = Callable[[Tensor, Tensor | None], Tensor]


@functools.cache
def trusted(device: torch.device, dtype: torch.dtype, channels_last: bool) -> bool:
    """Return whether the kernels agree with the reference on the CPU; log a warning if not.

    Checked once per device, dtype and memory format, on 24 small images with every order of the jitter.
    """
    try:
        problem = difference(device, dtype, channels_last)
    except Exception as error:  # Triton has no common base class for errors about compilers, drivers and devices
        problem = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if problem:
        log.warning("On %s, single operations are used instead of the fused augmentation: %s", device, problem)
    return not problem


def difference(device: torch.device, dtype: torch.dtype, channels_last: bool) -> str:
    """Return a description of the difference between the kernels and the reference, or an empty string."""
    from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput

    images, rows = trial(24, 33, 32)
    reference = ToInput(IMAGENET_MEAN, IMAGENET_STD).float()
    images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
    scale, shift = reference.scale.to(device), reference.shift.to(device)
    for some in (rows, None):
        there = None if some is None else some.to(device)
        made = augment(images.to(device), there, scale, shift, dtype, channels_last).cpu()
        share, steps = compared(made, reference(images, some).to(dtype), reference.scale)
        if not (share <= SOME_OFF and steps <= STEPS_OFF):
            return f"{100 * share:.3g} % of values differ from the CPU's, by up to {steps:.3g} steps of 255."
    return ""


def trial(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return fixed images and rows, with every order of the three operations."""
    numbers = torch.Generator().manual_seed(21)
    images = torch.randint(0, 256, (count, 3, height, width), generator=numbers, dtype=torch.uint8)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    places = torch.tensor([orders[n % 6] for n in range(count)])
    factors = 0.4 + 1.2 * torch.rand(count, 3, generator=numbers)
    flips = (torch.arange(count) // 6 % 2)[:, None]
    return images, torch.cat([flips, factors, places], dim=1)


def compared(made: Tensor, expected: Tensor, scale: Tensor) -> tuple[float, float]:
    """Return the fraction of values that differ by half a step of 1/255 or more, and the largest difference."""
    steps = ((made.double() - expected.double()) / scale.double()).abs().nan_to_num(torch.inf)
    return (steps >= 0.5).double().mean().item(), steps.max().item()
