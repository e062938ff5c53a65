"""Triton kernels for jitter and normalization of a batch: two launches, each of which reads the images once.

`grey_sums` computes the sum of gray values that the contrast operation needs, at its place in the order. `to_input`
does the rest. A program processes BLOCK pixels of one image. Sums are integers and use no atomics, so results are
bit-identical from run to run. The arithmetic is that of `ranger21.data.on_device`.

Arguments shared by the kernels:
    images: uint8 (batch, 3, height, width), with strides `of_image`, `of_channel`, `of_row`, `of_column`.
    rows: float32 (batch, 7), contiguous: flip, three factors, order of the three operations.
    sums: int32 (batch, blocks per image).
    pixels, width: Number of pixels and width of an image.
"""

import torch
import triton
import triton.language as tl

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


INTERPRETED = tl.constexpr(not isinstance(tl.sum, triton.JITFunction))  # fixed when Triton is imported


@triton.jit
def fma(a, b, c):
    """Return a * b + c rounded once, as on the CPU. (The interpreter's own fma rounds twice.)"""
    if INTERPRETED:
        return (a.to(tl.float64) * b.to(tl.float64) + c.to(tl.float64)).to(tl.float32)
    return tl.fma(a, b, c)


@triton.jit
def rounded_grey(red, green, blue):
    """Return the gray value of RGB (ITU-R 601), rounded to an integer."""
    of_green, of_blue = tl.full(green.shape, 0.587, tl.float32), tl.full(blue.shape, 0.114, tl.float32)
    return tl.floor(fma(blue, of_blue, fma(green, of_green, red * 0.299)) + 0.5)


@triton.jit
def pulled(value, base, factor):
    """Return base + factor * (value - base), clamped and rounded down like torch.lerp, clamp and floor."""
    base = tl.zeros(value.shape, tl.float32) + base
    weight = tl.zeros(value.shape, tl.float32) + tl.where(factor < 0.5, factor, factor - 1.0)
    made = fma(weight, value - base, tl.where(factor < 0.5, base, value))
    return tl.floor(tl.minimum(tl.maximum(made, 0.0), 255.0))


@triton.jit
def loaded(images, place, of_channel, inside):
    """Return the red, green and blue values at `place` as float32."""
    red = tl.load(images + place, mask=inside, other=0).to(tl.float32)
    green = tl.load(images + place + of_channel, mask=inside, other=0).to(tl.float32)
    blue = tl.load(images + place + 2 * of_channel, mask=inside, other=0).to(tl.float32)
    return red, green, blue


@triton.jit
def grey_sums(
    images, rows, sums, pixels, width, of_image, of_channel, of_row, of_column, BLOCK: tl.constexpr
):  # fmt: skip
    image, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    place = image * of_image + (pixel // width) * of_row + (pixel % width) * of_column
    red, green, blue = loaded(images, place, of_channel, inside)
    greys = tl.zeros((BLOCK,), tl.float32)
    for turn in tl.static_range(3):
        which = tl.load(rows + image * 7 + 4 + turn).to(tl.int32)
        factor = tl.load(rows + image * 7 + 1 + which)
        grey = rounded_grey(red, green, blue)
        greys = tl.where(which == 1, grey, greys)
        base = tl.where(which == 2, grey, 0.0)  # operations after contrast do not matter here
        red, green, blue = pulled(red, base, factor), pulled(green, base, factor), pulled(blue, base, factor)
    total = tl.sum(tl.where(inside, greys, 0.0).to(tl.int32))
    tl.store(sums + image * tl.num_programs(1) + block, total)


@triton.jit
def to_input(
    images, rows, sums, scale, shift, made, pixels, width, of_image, of_channel, of_row, of_column,
    to_channel, to_pixel, blocks, JITTER: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr, MOST: tl.constexpr
):  # fmt: skip
    image, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    column = pixel % width
    if JITTER:
        column = tl.where(tl.load(rows + image * 7) != 0, width - 1 - column, column)
    place = image * of_image + (pixel // width) * of_row + column * of_column
    red, green, blue = loaded(images, place, of_channel, inside)
    if JITTER:
        part = tl.arange(0, MOST)
        total = tl.sum(tl.load(sums + image * blocks + part, mask=part < blocks, other=0).to(tl.int64))
        mean = ((2 * total + pixels) // (2 * pixels)).to(tl.float32)  # rounded to an integer
        for turn in tl.static_range(3):
            which = tl.load(rows + image * 7 + 4 + turn).to(tl.int32)
            factor = tl.load(rows + image * 7 + 1 + which)
            base = tl.where(which == 2, rounded_grey(red, green, blue), tl.where(which == 1, mean, 0.0))
            red, green, blue = pulled(red, base, factor), pulled(green, base, factor), pulled(blue, base, factor)
    to = made + image * 3 * pixels + pixel.to(tl.int64) * to_pixel
    red = red * tl.load(scale) + tl.load(shift)
    green = green * tl.load(scale + 1) + tl.load(shift + 1)
    blue = blue * tl.load(scale + 2) + tl.load(shift + 2)
    tl.store(to, red.to(DTYPE), mask=inside)
    tl.store(to + to_channel, green.to(DTYPE), mask=inside)
    tl.store(to + 2 * to_channel, blue.to(DTYPE), mask=inside)
