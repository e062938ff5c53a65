"""The two front ends and the jitter on the device: `fast` is compared with `pil`, the reference recipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.training import result, run_ranks
from support.transforms import AS_BYTES, BOTH_ENDS, FULL, PLAIN, numbers_of, transformed
from torch import Tensor

from ranger21.config import ImageFolderConfig
from ranger21.data import on_device
from ranger21.data.decode import Encoded, to_picture, to_tensor
from ranger21.data.images import ImageDataset
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, LUMA, ToInput
from ranger21.data.transforms import FRONT_ENDS, paper
from ranger21.data.transforms.base import NUMBERS
from ranger21.data.transforms.paper import corner, flips_and_jitters
from ranger21.data.transforms.resizing import resized_picture, resized_tensor
from ranger21.system.errors import UserError
from ranger21.system.randomness import SAMPLE, uniforms

COUNT = 200
RECIPE = replace(FULL, resize=288, crop=256)  # the paper's sizes
STILL = replace(PLAIN, resize=288, crop=256, flip=0.5)  # only its crops and flips


@pytest.fixture(scope="module")
def photographs() -> list[Encoded]:
    """JPEG photographs with the dimensions and file sizes of ImageNet's images."""
    for package in ("skimage", "sklearn"):
        pytest.importorskip(package, reason="needs photographs: pip install 'ranger21-imagenet[bench]'")
    from ranger21.data.photographs import jpegs

    data = [np.frombuffer(jpeg, np.uint8).copy() for jpeg in jpegs(COUNT)]
    return [Encoded(jpeg, f"photograph {i}", "draw another") for i, jpeg in enumerate(data)]


@pytest.fixture(scope="module")
def resized(photographs: list[Encoded]) -> list[Encoded]:
    """The same photographs as pixels, 288 x 288, so that both front ends start from equal images."""
    tensors = [resized_tensor(to_tensor(photograph), RECIPE).permute(1, 2, 0) for photograph in photographs]
    return [Encoded(t.contiguous().numpy().reshape(-1), "pixels", "draw another", (288, 288)) for t in tensors]


def row(order: tuple[int, int, int] = (0, 1, 2), flip: bool = False, **factors: float) -> np.ndarray:
    """Return a row as `flips_and_jitters` makes it; factors default to 1."""
    names = ("brightness", "contrast", "saturation")
    return np.array([flip, *(factors.get(name, 1.0) for name in names), *order], dtype=np.float32)


def jittered(images: Tensor, rows: np.ndarray | Tensor) -> Tensor:
    """Apply only the jitter, in float64 from 0 to 255."""
    rows = torch.as_tensor(rows)
    return on_device.jitter(images.double(), rows[:, 1:4], rows[:, 4:])


def noise(count: int = 6, side: int = 24) -> Tensor:
    """Return uint8 pictures with similar neighbouring pixels, in which every value occurs."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 256, (count, 3, side // 4, side // 4)).repeat(4, axis=2).repeat(4, axis=3)
    return torch.from_numpy((steps + rng.integers(-20, 21, (count, 3, side, side))).clip(0, 255).astype(np.uint8))


def random_rows(count: int) -> Tensor:
    return torch.from_numpy(flips_and_jitters(RECIPE, np.random.default_rng(1).random((count, NUMBERS))))


def distance(config: ImageFolderConfig, image: Encoded, seed: int) -> float:
    """Return the mean absolute difference between the two front ends' images, which range from 0 to 255."""
    one, other = (transformed(end, config, image, numbers_of(seed)).astype(float) for end in FRONT_ENDS)
    assert one.shape == other.shape == (3, config.crop, config.crop)
    return float(np.abs(one - other).mean())


def test_the_photographs_have_the_dimensions_and_file_sizes_of_imagenet(photographs: list[Encoded]) -> None:
    from ranger21.data.photographs import jpegs

    assert jpegs(20) == [photograph.data.tobytes() for photograph in photographs[:20]]
    assert len({photograph.data.tobytes() for photograph in photographs}) == COUNT
    weights, sizes = [], []
    for photograph in photographs:
        with Image.open(io.BytesIO(photograph.data.tobytes())) as picture:
            assert (picture.format, picture.mode, picture.layer[0][1:3]) == ("JPEG", "RGB", (2, 2))  # 4:2:0
            sizes.append(picture.size)
        weights.append(len(photograph.data))
    usual = [size in ((500, 375), (375, 500)) for size in sizes]
    assert 80_000 < np.median(weights) < 110_000, f"median {np.median(weights)}"
    assert 0.6 < np.mean(usual) < 0.95 and len(set(sizes)) > 20 and {(500, 375), (375, 500)} <= set(sizes)


def test_missing_photographs_are_named_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranger21.data import photographs

    monkeypatch.setattr(photographs, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"astronaut.* is missing.*: pip install 'ranger21-imagenet\[bench\]'"):
        photographs.jpegs(1)


@pytest.mark.parametrize("mode", ["squash", "shorter_side"])
def test_decoding_and_resizing_agree_between_the_front_ends(
    photographs: list[Encoded], mode: str, record_property: Callable
) -> None:
    config, differences = replace(RECIPE, resize_mode=mode), []
    for photograph in photographs:
        reference = np.asarray(resized_picture(to_picture(photograph), config)).transpose(2, 0, 1)
        made = resized_tensor(to_tensor(photograph), config).numpy()
        assert made.shape == reference.shape and made.dtype == np.uint8
        differences.append(np.abs(made.astype(int) - reference).mean())
    record_property("mean absolute difference of 255", float(np.mean(differences)))
    assert np.mean(differences) < 1.5 and max(differences) < 3, f"mean {np.mean(differences)}, {max(differences)}"


def test_crop_flip_and_jitter_agree_between_the_front_ends(resized: list[Encoded], record_property: Callable) -> None:
    """The pictures need no resizing."""
    differences, signed = [], []
    for seed, image in enumerate(resized):
        reference, own = (transformed(end, RECIPE, image, numbers_of(seed)).astype(float) for end in FRONT_ENDS)
        differences.append(np.abs(own - reference).mean())
        signed.append((own - reference).mean())
    record_property("mean absolute difference of 255", float(np.mean(differences)))
    record_property("mean difference", float(np.mean(signed)))
    assert np.mean(differences) < 0.5 and max(differences) < 1, f"mean {np.mean(differences)}, {max(differences)}"
    assert abs(np.mean(signed)) < 0.1, f"{np.mean(signed)}"


@pytest.mark.parametrize("mode", ["squash", "shorter_side"])
def test_the_whole_recipe_agrees_between_the_front_ends(
    photographs: list[Encoded], mode: str, record_property: Callable
) -> None:
    config = replace(RECIPE, resize_mode=mode)
    differences = [distance(config, image, seed) for seed, image in enumerate(photographs[:40])]
    record_property("mean absolute difference of 255", float(np.mean(differences)))
    assert np.mean(differences) < 2, f"mean {np.mean(differences)}, largest {max(differences)}"


def test_crops_and_flips_are_equal_in_both_front_ends(resized: list[Encoded]) -> None:
    assert {distance(STILL, image, seed) for seed, image in enumerate(resized)} == {0.0}
    for image in resized:
        reference, made = (FRONT_ENDS[end][1](STILL)(image, numbers_of(0)) for end in FRONT_ENDS)
        assert torch.equal(made, reference)


def test_both_front_ends_use_each_random_number_for_the_same_purpose(
    photographs: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order and factors of `pil`'s calls of torchvision are those that `fast` passes to the device."""
    config, called = replace(RECIPE, resize_mode="shorter_side"), []
    reference, own = (FRONT_ENDS[end][0](config) for end in FRONT_ENDS)
    for which, real in enumerate(paper.JITTERS):
        note = lambda picture, factor, which=which, real=real: called.append((which, factor)) or real(picture, factor)  # noqa: E731
        monkeypatch.setattr(paper, "JITTERS", (*paper.JITTERS[:which], note, *paper.JITTERS[which + 1 :]))
    for seed, image in enumerate(photographs[:30]):
        called.clear()
        numbers = numbers_of(seed)
        reference(image, numbers)
        made = own.left_to_do(numbers[None])[0]
        assert called == [(int(which), float(made[1 + int(which)])) for which in made[4:]]


def even(values: list[float], low: float, high: float) -> float:
    """Return the Kolmogorov-Smirnov distance from the uniform distribution, times the root of the number of values.

    It exceeds 1.95 in one case of a thousand.
    """
    place = (np.sort(values) - low) / (high - low)
    ideal = np.arange(1, len(place) + 1) / len(place)
    assert place[0] >= 0 and place[-1] <= 1
    return float(np.abs(place - ideal).max() * len(place) ** 0.5)


def test_random_factors_orders_flips_and_crops_are_uniform_and_independent(record_property: Callable) -> None:
    config = replace(RECIPE, brightness=0.4, contrast=0.3, saturation=0.9)
    first, numbers = (np.stack([uniforms(NUMBERS, SAMPLE, 5, epoch, i) for i in range(6000)]) for epoch in (1, 2))
    rows, corners = flips_and_jitters(config, numbers), np.array([corner(config, 400, 288, n) for n in numbers])
    for which, strength in enumerate((0.4, 0.3, 0.9)):
        found = even(rows[:, 1 + which], np.float32(1 - strength), np.float32(1 + strength))
        assert found < 1.95, f"factor {which}: {found}"
    orders, times = np.unique(rows[:, 4:], axis=0, return_counts=True)
    record_property("times of each order, of 1000", times.tolist())
    assert len(orders) == 6 and abs(times - 1000).max() < 4 * (1000 * 5 / 6) ** 0.5, times
    for places, count in ((corners[:, 0], 145), (corners[:, 1], 33)):
        seen, expected = np.bincount(places, minlength=count), 6000 / count
        assert len(seen) == count and ((seen - expected) ** 2).sum() / expected < count + 4 * (2 * count) ** 0.5
    assert abs(rows[:, 0].mean() - 0.5) < 4 * 0.5 / 6000**0.5
    together = np.corrcoef(np.hstack([rows[:, :4], corners]).T)
    assert abs(together - np.eye(6)).max() < 0.06, "they must be uncorrelated"
    others = [numbers, first, np.roll(numbers, 1, axis=0)]  # the previous epoch's, and the neighbouring images'
    assert abs(np.corrcoef(np.hstack(others).T) - np.eye(3 * NUMBERS)).max() < 0.06
    edge = np.full(NUMBERS, np.nextafter(1, 0))
    assert corner(config, 400, 288, edge) == (144, 32) and corner(config, 400, 288, 0 * edge) == (0, 0)


def grey(x: np.ndarray) -> np.ndarray:
    return np.floor(np.tensordot(LUMA, x, axes=(0, 0))[None] + 0.5)


FORMULAS = {
    "brightness": lambda x, f: f * x,
    "contrast": lambda x, f: (mean := np.floor(grey(x).mean() + 0.5)) + f * (x - mean),
    "saturation": lambda x, f: grey(x) + f * (x - grey(x)),
}


@pytest.mark.parametrize("factor", [0.0, 0.6, 0.9, 1.0, 1.1, 1.4, 2.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_each_operation_matches_its_formula(name: str, factor: float) -> None:
    images, factor = noise(), float(np.float32(factor))
    orders = [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1)]
    made = jittered(images, np.stack([row(order, **{name: factor}) for order in orders])).numpy()
    for image, own in zip(images.numpy().astype(float), made, strict=True):
        off = np.abs(own - np.floor(FORMULAS[name](image, factor).clip(0, 255)))
        assert off.max() <= 1 and off.mean() < 0.02, "only rounding may change a whole number by one"


def test_operations_are_applied_in_the_order_of_each_image() -> None:
    images, rows = noise(12), random_rows(12)
    made = jittered(images, rows).numpy()
    for image, own, numbers in zip(images.numpy().astype(float), made, rows.double().numpy(), strict=True):
        for which in numbers[4:].astype(int):
            image = np.floor(list(FORMULAS.values())[which](image, numbers[1 + which]).clip(0, 255))
        off = np.abs(own - image)
        assert off.max() <= 3 and off.mean() < 0.02
    alone = torch.cat([jittered(images[i : i + 1], rows[i : i + 1]) for i in range(12)])
    assert np.array_equal(alone.numpy(), made), "an image's neighbours do not matter"
    assert made.min() >= 0 and made.max() <= 255
    flipped = torch.where(rows[:, 0, None, None, None].bool(), images.flip(3), images)
    assert 0 < rows[:, 0].sum() < 12 and torch.equal(AS_BYTES(images, rows), jittered(flipped, rows))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 0.02), (torch.bfloat16, 4.0), (torch.float64, 1e-12)], ids=str
)
def test_the_jitter_works_in_every_floating_point_type(
    dtype: torch.dtype, tolerance: float, record_property: Callable
) -> None:
    images, rows = noise(32, 64), random_rows(32)
    exact = AS_BYTES(images, rows)
    jitter = on_device.jitter(images.to(dtype), rows[:, 1:4], rows[:, 4:])
    difference = (jitter.double() - jittered(images, rows)).abs().mean().item()
    record_property("mean absolute difference of 255", difference)
    assert jitter.dtype == dtype and difference < tolerance
    inputs = ToInput(IMAGENET_MEAN, IMAGENET_STD).to(dtype)(images, rows)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert inputs.dtype == dtype
    assert (inputs.double() - (exact / 255 - mean) / std).abs().mean() < tolerance / 50 + 1e-14


def test_without_rows_or_with_factors_of_1_images_are_only_normalized() -> None:
    images, to_input = noise(9), ToInput(IMAGENET_MEAN, IMAGENET_STD)
    alone = to_input(images)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert (alone - (images.double() / 255 - mean) / std).abs().max() < 1e-12
    ones = torch.from_numpy(np.stack([row()] * 9))
    assert torch.equal(to_input(images, ones), alone)
    assert to_input(images[:0]).shape == (0, 3, 24, 24) and to_input(images[:0], ones[:0]).shape == (0, 3, 24, 24)


@pytest.mark.parametrize("with_rows", [False, True])
def test_the_memory_format_is_kept_and_does_not_change_the_values(with_rows: bool) -> None:
    images, rows = noise(7), random_rows(7) if with_rows else None
    before, to_input = images.clone(), ToInput(IMAGENET_MEAN, IMAGENET_STD).float()
    planes, pixels = to_input(images, rows), to_input(images.contiguous(memory_format=torch.channels_last), rows)
    assert planes.is_contiguous() and pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(planes, pixels) and torch.equal(images, before)


def test_the_transform_keeps_no_gradient_and_no_state() -> None:
    to_input = ToInput(IMAGENET_MEAN, IMAGENET_STD).float()
    made = to_input(noise(), random_rows(6))
    assert not made.requires_grad and made.grad_fn is None
    assert not list(to_input.parameters()) and not to_input.state_dict()
    with torch.inference_mode():
        assert torch.equal(to_input(noise(), random_rows(6)), made)


@BOTH_ENDS
def test_a_batch_consists_of_its_images_crops_and_uses_no_more_memory(end: str) -> None:
    image = Encoded(noise(1, 48)[0].permute(1, 2, 0).reshape(-1).numpy(), "noise", "draw another", (48, 48))
    config, source = replace(FULL, resize=48), [(image, label) for label in (3, 1, 4, 1, 5)]
    pictures = ImageDataset(source, FRONT_ENDS[end][0](config), seed=7)
    batch = pictures.__getitems__([(2, index) for index in range(5)])
    assert batch.images.shape == (5, 3, 32, 32) and batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.untyped_storage().nbytes() == 5 * 3 * 32 * 32 and batch.labels.tolist() == [3, 1, 4, 1, 5]
    whole = batch.images if batch.rest is None else AS_BYTES(batch.images, batch.rest)
    for index, made in enumerate(whole):
        numbers = uniforms(NUMBERS, SAMPLE, 7, 2, index)
        assert np.array_equal(made.numpy(), transformed(end, config, image, numbers))


def test_models_trained_with_either_front_end_reach_the_same_loss(
    tiny: list[str], tmp_path, record_property: Callable
) -> None:
    """The mean losses differ by less than twice the pooled standard deviation between seeds."""
    losses: dict[str, list[float]] = {"pil": [], "fast": []}
    short = [*tiny, "trainer.epochs=12", "optimizer=adamw", "trainer.checkpoint_every_steps=null"]
    for end, found in losses.items():
        for seed in range(3):
            directory = tmp_path / f"{end}{seed}"
            assert run_ranks([*short, f"data.transforms={end}", f"seed={seed}"], directory, 1) == [0]
            found.append(result(directory)["final"]["val/loss"])
    record_property("final val/loss", losses)
    noise_of_seeds = np.mean([np.var(found, ddof=1) for found in losses.values()]) ** 0.5
    difference = abs(np.mean(losses["pil"]) - np.mean(losses["fast"]))
    assert difference < 2 * noise_of_seeds, f"{losses}: {difference} against {noise_of_seeds}"
