"""Compare the augmentation kernels, run in Triton's interpreter, with the CPU's operations.

tests/test_fused_augment.py runs this file in a separate process.
"""

from __future__ import annotations

import sys

import pytest
import torch

from ranger21.data import fused
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput

CPU = torch.device("cpu")
REFERENCE = ToInput(IMAGENET_MEAN, IMAGENET_STD).float()


def by_kernels(images: torch.Tensor, rows: torch.Tensor | None, *how: object) -> torch.Tensor:
    return fused.augment(images, rows, REFERENCE.scale, REFERENCE.shift, *how)


def test_at_most_one_value_in_ten_thousand_differs_and_by_one_step() -> None:
    images, rows = fused.trial(12, 65, 60)  # several programs per image; the last one is only partly full
    share, steps = fused.compared(
        by_kernels(images, rows, torch.float32, False), REFERENCE(images, rows), REFERENCE.scale
    )
    sys.stdout.write(f"{share:.1e} of {images.numel()} values differ, by up to {steps:.2f} steps of 255\n")
    assert share <= 1e-4 and steps < 1.01


def test_the_check_at_first_use_passes() -> None:
    assert fused.difference(CPU, torch.float16, True) == ""


def test_every_dtype_and_memory_layout_gives_the_same_values() -> None:
    images, rows = fused.trial(6, 7, 9)
    expected = by_kernels(images, rows, torch.float32, False)
    assert expected.is_contiguous()
    layouts = images, images.contiguous(memory_format=torch.channels_last), torch.cat([images] * 2, 3)[..., :9]
    for source in layouts:
        made = by_kernels(source, rows, torch.float32, True)
        assert made.is_contiguous(memory_format=torch.channels_last) and torch.equal(made, expected)
    halves = by_kernels(images, rows, torch.float16, False)
    assert torch.equal(halves, expected.half()), "rounded once"
    cut = (expected.view(torch.int32) & ~0xFFFF).view(torch.float32)  # the interpreter truncates; a GPU rounds
    assert torch.equal(by_kernels(images, rows, torch.bfloat16, False).float(), cut)
    assert torch.equal(by_kernels(images, rows, torch.float32, False), expected), "the same bits every time"


def test_a_wrong_kernel_is_replaced_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = fused.augment
    monkeypatch.setattr(fused, "augment", lambda images, *rest: right(images.flip(1), *rest))
    fused.trusted.cache_clear()
    with caplog.at_level("WARNING", "ranger21"):
        assert not fused.trusted(CPU, torch.float32, True) and not fused.trusted(CPU, torch.float32, True)
    [text] = [record.getMessage() for record in caplog.records]
    assert "used instead of the fused augmentation" in text and "% of values differ" in text and "steps of 255" in text
