"""From an image to the model's input: sizes, colours, crops, flips, jitter, normalization."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.transforms import BOTH_ENDS, FULL, PLAIN, numbers_of, transformed

from ranger21.config import FashionMNISTConfig, ImageFolderConfig
from ranger21.data.decode import Encoded, to_tensor
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.data.transforms import FRONT_ENDS
from ranger21.data.transforms.arrays import ShiftAndFlip
from ranger21.data.transforms.resizing import resized_picture, resized_tensor

DRAWS = 400


def encoded(picture: Image.Image) -> Encoded:
    """Return the image as encoded pixels."""
    pixels = np.array(picture.convert("RGB"))
    return Encoded(pixels.reshape(-1), "picture", "draw another", pixels.shape[:2])


def draws(end: str, config: ImageFolderConfig, image: Image.Image) -> list[np.ndarray]:
    """Return an image transformed with many random generators, each of shape (channels, height, width)."""
    return [transformed(end, config, encoded(image), numbers_of(seed)) for seed in range(DRAWS)]


def whole(end: str, config: ImageFolderConfig, image: Image.Image) -> np.ndarray:
    """Return the resized image, which must be square, through a crop of the full size."""
    return FRONT_ENDS[end][1](replace(config, crop=config.resize))(encoded(image), numbers_of(0)).numpy()


def coordinates(side: int = 36) -> Image.Image:
    """Return an image whose red value gives the column and green value the row, in steps of 7."""
    column, row = np.meshgrid(np.arange(side), np.arange(side))
    return Image.fromarray(np.stack([column * 7, row * 7, column * 0], axis=2).astype(np.uint8))


@BOTH_ENDS
@pytest.mark.parametrize("mode", ["squash", "shorter_side"])
@pytest.mark.parametrize("size", [(50, 40), (40, 90), (36, 36), (7, 5), (1, 1)])
def test_every_image_gets_the_size_of_the_crop(size: tuple[int, int], mode: str, end: str) -> None:
    config = replace(FULL, resize_mode=mode)
    for transform in FRONT_ENDS[end]:
        tensor = transform(config)(encoded(Image.new("RGB", size, (10, 200, 30))), numbers_of(0))
        assert tensor.shape == (3, 32, 32) and tensor.dtype == torch.uint8


def test_squash_changes_the_aspect_and_shorter_side_keeps_it() -> None:
    """The sizes show it for images twice as wide as high, or twice as high as wide."""
    wide, kept = Image.new("RGB", (144, 72)), replace(PLAIN, resize_mode="shorter_side")
    high = wide.rotate(90, expand=True)
    for picture, config, size in ((wide, PLAIN, (36, 36)), (wide, kept, (72, 36)), (high, kept, (36, 72))):
        assert resized_picture(picture, config).size == size
        assert resized_tensor(to_tensor(encoded(picture)), config).shape == (3, size[1], size[0])


@BOTH_ENDS
@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [
        ("L", "jpg", (76, 76, 76)),
        ("CMYK", "jpg", (255, 0, 0)),
        ("RGBA", "png", (255, 0, 0)),
        ("P", "png", (255, 0, 0)),
        ("LA", "png", (76, 76, 76)),
        ("1", "png", (0, 0, 0)),
    ],
)
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str, expected: tuple, end: str) -> None:
    path = tmp_path / f"red.{suffix}"
    Image.new("RGB", (60, 50), (255, 0, 0)).convert(mode, dither=Image.Dither.NONE).save(path)
    assert Image.open(path).mode == mode
    for transform in FRONT_ENDS[end]:
        image = Encoded(np.fromfile(path, np.uint8), str(path), "draw another")
        tensor = transform(PLAIN)(image, numbers_of(0))
        assert tensor.shape == (3, 32, 32)
        assert [channel.float().mean() for channel in tensor] == pytest.approx(expected, abs=3)


@BOTH_ENDS
def test_evaluation_uses_the_centre_crop_without_randomness(end: str) -> None:
    transform, image = FRONT_ENDS[end][1](FULL), encoded(coordinates())
    tensor = transform(image, numbers_of(0))
    assert transform.left_to_do(numbers_of(0)[None]) is None
    assert torch.equal(tensor, torch.from_numpy(np.array(coordinates())[2:34, 2:34].transpose(2, 0, 1)))
    assert torch.equal(tensor, transform(image, numbers_of(1)))


@BOTH_ENDS
def test_training_without_jitter_and_flip_sees_every_crop_of_the_image(end: str) -> None:
    large = coordinates().resize((100, 80))
    pixels, places = whole(end, PLAIN, large), set()
    crops = {(x, y): pixels[:, y : y + 32, x : x + 32] for x in range(5) for y in range(5)}
    for made in draws(end, PLAIN, large):
        found = [place for place, crop in crops.items() if np.array_equal(crop, made)]
        assert len(found) == 1
        places.add(found[0])
    assert places == set(crops)


@BOTH_ENDS
@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 0.4, 0.6), (0.9, 0.84, 0.96), (1.0, 1, 1)])
def test_the_share_of_flipped_images_matches_data_flip(flip: float, low: float, high: float, end: str) -> None:
    made = draws(end, replace(PLAIN, flip=flip), coordinates())
    assert all(abs(float(a[0, 0, 0]) - float(a[0, 0, -1])) == 31 * 7 for a in made)
    assert low <= np.mean([a[0, 0, 0] > a[0, 0, -1] for a in made]) <= high


HALVES = Image.fromarray(np.repeat(np.array([[50, 150]], np.uint8), 18, axis=1).repeat(36, axis=0))


@BOTH_ENDS
@pytest.mark.parametrize(
    ("what", "image", "measure"),
    [
        ("brightness", Image.new("RGB", (36, 36), (100, 100, 100)), lambda a: a.mean() / 100),
        ("contrast", HALVES, lambda a: (float(a.max()) - a.min()) / 100),
        ("saturation", Image.new("RGB", (36, 36), (100, 50, 150)), lambda a: (float(a.max()) - a.min()) / 100),
    ],
)
def test_jitter_factors_fill_their_range(what: str, image: Image.Image, measure, end: str) -> None:
    """The images are chosen so that the effect reveals the factor, up to 8-bit rounding."""
    made = draws(end, replace(PLAIN, **{what: 0.4}), image)
    factors = np.array([measure(array) for array in made])
    assert 0.6 - 0.011 <= factors.min() < 0.65 and 1.35 < factors.max() <= 1.4 + 0.011
    assert factors.mean() == pytest.approx(1, abs=0.05) and factors.std() == pytest.approx(0.8 / 12**0.5, rel=0.1)
    unchanged = draws(end, PLAIN, image)
    assert {measure(array) for array in unchanged} == {1}


@BOTH_ENDS
def test_jitters_are_applied_in_random_order(end: str) -> None:
    """The image is half black, half white. If brightness comes before contrast, the two values still sum to 255."""
    halves = HALVES.point(lambda value: 255 * (value > 100))
    made = draws(end, replace(PLAIN, resize=32, brightness=0.4, contrast=0.4), halves)
    low, total = (np.array([float(a.min()) + extra * float(a.max()) for a in made]) for extra in (0, 1))
    brighter_first, contrast_first = (low > 3) & (abs(total - 255) <= 2), total > 257
    assert 0.08 < brighter_first.mean() < 0.17 and 0.08 < contrast_first.mean() < 0.17


@pytest.mark.parametrize(
    ("mean", "std"),
    [(IMAGENET_MEAN, IMAGENET_STD), (FashionMNISTConfig.MEAN, FashionMNISTConfig.STD)],
    ids=["rgb", "grey"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=str)
def test_the_models_input_is_normalized(mean, std, dtype: torch.dtype, tolerance: float) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(9, len(mean), 1, 1)
    inputs = ToInput(mean, std).to(dtype)(images)
    m, s = (np.array(values).reshape(1, -1, 1, 1) for values in (mean, std))
    assert inputs.dtype == dtype and images.dtype == torch.uint8
    assert np.abs(inputs.numpy() - (images.numpy() / 255 - m) / s).max() <= tolerance


def test_grey_images_are_shifted_within_their_padding_and_flipped() -> None:
    config = FashionMNISTConfig(
        name="fashion_mnist", root=None, batch_size=4, workers=0, timeout=300, eval_batch_size=4, padding=2, flip=0.5,
        train_images=9,
    )  # fmt: skip
    picture = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    padded, places = np.pad(picture, 2), set()
    crops = {(y, x, 1): padded[y : y + 28, x : x + 28] for y in range(5) for x in range(5)}
    crops |= {(y, x, -1): crop[:, ::-1] for (y, x, _), crop in crops.items()}
    for seed in range(DRAWS):
        tensor = ShiftAndFlip(config)(picture, numbers_of(seed))
        assert tensor.shape == (1, 28, 28) and tensor.dtype == torch.uint8
        places |= {p for p, crop in crops.items() if np.array_equal(tensor[0], crop)}
    assert len(places) == 50
    still = ShiftAndFlip(replace(config, padding=0, flip=0.0))(picture, numbers_of(0))
    assert np.array_equal(still[0], picture)
