"""The augmentations other than the paper's: equal to torchvision's, and independent of workers, ranks and starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.packs import sources_of
from support.training import TINY
from support.transforms import BOTH_ENDS, FULL, numbers_of, transformed
from torch import Tensor
from torchvision.transforms import v2

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import Data, build_data
from ranger21.data.decode import Encoded, to_picture
from ranger21.data.images import ImageBatch
from ranger21.data.loader import Loader
from ranger21.data.order import Share, TrainBatches
from ranger21.data.pack import PackRecipe
from ranger21.data.transforms import FRONT_ENDS
from ranger21.data.transforms.rescaled import seeded
from ranger21.engine.course import Course
from ranger21.packing.make import make_pack
from ranger21.run import experiment
from ranger21.system.errors import UserError

BILINEAR = v2.InterpolationMode.BILINEAR
AUGMENTS = pytest.mark.parametrize("augment", ["rrc", "trivial", "rand"])
ALONE = Share()
RRC = replace(FULL, augment="rrc")


def picture(number: int, height: int = 60, width: int = 80) -> Encoded:
    """Return a smooth picture with noise, as raw pixels."""
    rng = np.random.default_rng(number)
    rough = rng.integers(0, 256, (4, 5, 3)).repeat(height // 4, axis=0).repeat(width // 5, axis=1)
    pixels = (rough + rng.integers(-20, 21, rough.shape)).clip(0, 255).astype(np.uint8)
    return Encoded(pixels.reshape(-1), "noise", "draw another", (height, width))


PICTURES = [picture(0), picture(1, 80, 60), *map(picture, range(2, 30))]


@BOTH_ENDS
@AUGMENTS
def test_the_images_are_those_of_torchvisions_pipeline(augment: str, end: str) -> None:
    config = replace(RRC, augment=augment, scale=[0.3, 0.9], ratio=[0.5, 1.5], interpolation="bicubic")
    distort: dict[str, Any] = {"trivial": v2.TrivialAugmentWide(interpolation=BILINEAR)}
    distort["rand"] = v2.RandAugment(interpolation=BILINEAR)
    crop = v2.RandomResizedCrop(32, (0.3, 0.9), (0.5, 1.5), interpolation=v2.InterpolationMode.BICUBIC)
    flips, differences = 0, []
    for number, stored in enumerate(PICTURES):
        numbers, before = numbers_of(number), torch.get_rng_state()
        made = transformed(end, config, stored, numbers, rows=False)
        assert torch.equal(torch.get_rng_state(), before), "the state of torch's generator is left as it was"
        assert np.array_equal(transformed(end, config, stored, numbers, rows=False), made)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(numbers[0] * 2**53))
            expected, flip = crop(to_picture(stored)), bool(numbers[2] < 0.5)
            expected = v2.functional.horizontal_flip(expected) if flip else expected
            expected = np.asarray(distort.get(augment, lambda same: same)(expected)).transpose(2, 0, 1)
        flips += flip
        differences.append(np.abs(made.astype(float) - expected).mean())
    assert 5 < flips < 25 and made.shape == (3, 32, 32)
    assert max(differences) == 0 if end == "pil" else np.median(differences) < 0.1, differences


def test_a_seed_inside_leaves_the_generator_as_it_was_even_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(0.3):
        first = torch.rand(1)
        1 / 0  # noqa: B018
    with seeded(0.3):
        assert torch.equal(torch.rand(1), first)
    with seeded(np.nextafter(0.3, 1)):
        assert not torch.equal(torch.rand(1), first)
    assert torch.equal(torch.get_rng_state(), before)


@BOTH_ENDS
def test_every_setting_changes_the_images(end: str) -> None:
    rand = replace(RRC, augment="rand")
    pairs = [
        (RRC, replace(RRC, scale=[0.5, 0.6])), (RRC, replace(RRC, ratio=[1.0, 1.0])), (RRC, replace(RRC, flip=0.0)),
        (RRC, replace(RRC, interpolation="bicubic")), (RRC, replace(RRC, augment="trivial")),
        (rand, replace(rand, rand_operations=5)), (rand, replace(rand, rand_magnitude=30)),
        (FULL, replace(FULL, interpolation="bicubic")), (FULL, RRC), (FULL, replace(FULL, augment="rand")),
    ]  # fmt: skip
    for one, other in pairs:
        made = [[FRONT_ENDS[end][0](c)(p, numbers_of(n)) for n, p in enumerate(PICTURES[:6])] for c in (one, other)]
        assert any(not torch.equal(*images) for images in zip(*made, strict=True)), (one, other)
    same = replace(RRC, scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3])
    given = replace(rand, rand_operations=2, rand_magnitude=9)
    for one, other in ((RRC, same), (rand, given)):
        for number, stored in enumerate(PICTURES[:6]):
            images = [FRONT_ENDS[end][0](config)(stored, numbers_of(number)) for config in (one, other)]
            assert torch.equal(*images), "null stands for torchvision's default"


def opened(images: Path, *overrides: str) -> Data:
    config = compose_config([*TINY, f"data.root={images}", *overrides]).data
    return build_data(config, seed=3)


def batches_of(data: Data, workers: int, share: Share = ALONE, first: int = 1) -> list[ImageBatch]:
    """Return the batches of two epochs from step `first` on, at this rank."""
    course = Course(len(data.train), 16, epochs=2)
    keys = TrainBatches(course, 3, first, course.total_steps, share)
    return [batch for batch in Loader(data.train, keys, workers, pin_memory=False) if batch is not None]


def all_images(batches: list[ImageBatch]) -> Tensor:
    return torch.cat([batch.images for batch in batches])


@AUGMENTS
def test_images_do_not_depend_on_workers_ranks_passes_and_starts(augment: str, images: Path) -> None:
    data = opened(images, f"data.augment={augment}")
    torch.manual_seed(1)
    whole = batches_of(data, workers=0)
    expected = all_images(whole)
    assert len(expected) == 160 and not torch.equal(whole[0].images, all_images(batches_of(data, 0, first=6))[:16])
    torch.manual_seed(2)
    assert torch.equal(all_images(batches_of(data, workers=2)), expected)
    assert torch.equal(all_images(batches_of(data, workers=0, first=4)), expected[48:])
    ranks = [batches_of(data, 0, Share(rank, 2, 2)) for rank in range(2)]
    parts = [ranks[rank][2 * step + number] for step in range(10) for rank in range(2) for number in range(2)]
    assert torch.equal(all_images(parts), expected)
    assert torch.equal(torch.cat([p.labels for p in parts]), torch.cat([b.labels for b in whole]))


def packed(images: Path, target: Path, *overrides: str) -> ImageFolderConfig:
    config = compose_config([*TINY, f"data.root={images}", *overrides]).data
    assert isinstance(config, ImageFolderConfig)
    recipe = PackRecipe(config.resize, config.resize_mode, "raw", None, None, config.interpolation)
    assert make_pack(sources_of(config), config, recipe, target, 1)
    return replace(config, pack=str(target), root=None)


def test_a_pack_serves_smaller_validation_images_and_crops_of_its_stored_ones(images: Path, tmp_path: Path) -> None:
    pack = packed(images, tmp_path / "pack", "data.resize=64", "data.resize_mode=shorter_side")
    folder = build_data(replace(pack, pack=None, root=str(images)), 3)
    plain = build_data(pack, 3)
    assert plain.fingerprint == folder.fingerprint and not folder.fingerprint.endswith("raw pixels")
    config = replace(pack, augment="rrc", eval_resize=40, eval_crop=24, interpolation="bicubic")
    data = build_data(config, 3)
    assert data.fingerprint == folder.fingerprint + " shorter_side 64, raw pixels", "the crops are of other images"
    stored = Encoded(data.val.source[4][0].data, "", "", data.val.source[4][0].shape)
    short = v2.functional.resize(to_picture(stored), [40], interpolation=v2.InterpolationMode.BICUBIC)
    expected = v2.functional.pil_to_tensor(v2.functional.center_crop(short, [24, 24]))
    made = data.val.__getitems__([(0, 4)])
    assert isinstance(made, ImageBatch) and config.view().shape == made.images[0].shape == (3, 24, 24)
    assert (made.images[0].float() - expected).abs().mean() < 0.5
    with pytest.raises(UserError, match=r"data.eval_resize=65 is larger than the images of data.pack, .*=64: make a"):
        build_data(replace(config, eval_resize=65), 3)
    for other in (replace(pack, interpolation="bicubic"), replace(config, eval_resize=64)):
        with pytest.raises(UserError, match=r"was resized with data.interpolation=bilinear, but this run has bicubic"):
            build_data(other, 3)


def test_the_interpolation_belongs_to_a_packs_facts(images: Path, tmp_path: Path) -> None:
    pack = packed(images, tmp_path / "pack", "data.interpolation=bicubic")
    folder = replace(pack, pack=None, root=str(images))
    keys = [(1, index) for index in range(6)]
    made = [build_data(config, 3).train.__getitems__(keys) for config in (pack, folder)]
    assert all(isinstance(batch, ImageBatch) for batch in made)
    assert torch.equal(made[0].images, made[1].images)  # type: ignore[union-attr]
    assert '"interpolation": "bicubic"' in (tmp_path / "pack" / "pack.json").read_text()
    with pytest.raises(UserError, match=r"with data.interpolation=bicubic, but this run has bilinear. Use the setting"):
        build_data(replace(pack, interpolation="bilinear"), 3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.scale=[0.1,1]"], "data.scale=.* has no effect with data.augment=paper, .*: leave it out, or choose"),
        (["data.ratio=[1,1]"], "data.ratio=.* has no effect with data.augment=paper"),
        (["data.augment=rrc", "data.brightness=0.2"], "data.brightness=0.2 has no effect with data.augment=rrc, which"),
        (["data.augment=trivial", "data.saturation=0"], "data.saturation=0.0 has no effect with data.augment=trivial"),
        (["data.augment=trivial", "data.rand_magnitude=9"], "data.rand_magnitude=9 has no effect with .*=trivial"),
        (["data.rand_operations=2"], "data.rand_operations=2 has no effect with data.augment=paper: leave it out, or"),
        (["data.augment=rrc", "data.scale=[0.5,0.1]"], "data.scale=.* is invalid: it must be two numbers above 0"),
        (["data.augment=rrc", "data.scale=[0.5]"], "data.scale=.* is invalid"),
        (["data.augment=rand", "data.rand_magnitude=31"], "data.rand_magnitude=31 is invalid"),
        (["data.eval_crop=300"], "data.resize=288 is invalid: it must be at least data.eval_crop=300"),
        (["data.augment=rrc", "data.crop=320"], "data.resize=288 is invalid: it must be at least data.crop=320"),
    ],
)
def test_a_setting_without_effect_or_with_an_impossible_value_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        compose_config(overrides)


def test_training_images_may_be_larger_than_the_resize_of_validation() -> None:
    config = compose_config(["data.augment=rrc", "data.crop=320", "data.eval_crop=256"]).data
    assert config.shape == (3, 320, 320) and config.view().shape == (3, 256, 256)


@BOTH_ENDS
def test_the_crop_grows_with_the_epoch_as_in_ffcv_imagenet(end: str, images: Path) -> None:
    """For the settings of its 16 and 88 epochs, by its own function; and from any worker and start."""

    def resolution(epoch: int, start_ramp: int, end_ramp: int, min_res: int, max_res: int) -> int:
        if epoch <= start_ramp:
            return min_res
        if epoch >= end_ramp:
            return max_res
        interp = np.interp([epoch], [start_ramp, end_ramp], [min_res, max_res])
        return int(np.round(interp[0] / 32)) * 32

    for ramp, sizes in (((34, 41), (160, 192)), ((9, 15), (128, 224)), ((3, 3), (96, 256))):
        config = replace(RRC, resize=288, crop=sizes[1], crop_start=sizes[0], crop_ramp=list(ramp))
        assert [config.crop_at(e) for e in range(60)] == [resolution(e, *ramp, *sizes) for e in range(60)]
    words = ["data.resize=104", "data.crop=96", "data.crop_start=32", "data.crop_ramp=[0,2]", f"data.transforms={end}"]
    data = opened(images, *words)
    course = Course(len(data.train), 16, epochs=4)
    keys = [TrainBatches(course, 3, first, course.total_steps, ALONE) for first in (1, 8)]
    pairs = zip(keys, (0, 2), strict=True)
    whole, later = ([b for b in Loader(data.train, some, workers, False) if b is not None] for some, workers in pairs)
    assert [batch.images.shape[-1] for batch in whole] == [32] * 5 + [64] * 5 + [96] * 10
    assert all(torch.equal(one.images, other.images) for one, other in zip(whole[7:], later, strict=True))
    full = opened(images, *words[:2], words[4])
    batch = full.train.__getitems__([(3, index) for index in range(4)])
    grown = data.train.__getitems__([(3, index) for index in range(4)])
    assert isinstance(batch, ImageBatch) and isinstance(grown, ImageBatch) and torch.equal(batch.images, grown.images)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.crop_start=160"], "data.crop_ramp is missing: the crop grows from"),
        (["data.crop_ramp=[3,5]"], "data.crop_start is missing"),
        (
            ["data.crop_start=100", "data.crop_ramp=[3,5]"],
            "data.crop_start=100 is invalid: .* multiple of 32",
        ),
        (["data.crop_start=256", "data.crop_ramp=[3,5]"], "data.crop_start=256 is invalid"),
        (["data.crop_start=64", "data.crop=250", "data.crop_ramp=[3,5]"], "data.crop_start=64 is invalid"),
        (["data.crop_start=64", "data.crop_ramp=[5,3]"], "data.crop_ramp=.* is invalid: it must be two epochs"),
        (["data.crop_start=64", "data.crop_ramp=[59,70]"], r"=\[59, 70\] has no effect, .* last epoch, 59 \(.*choose"),
        (["data.crop_start=160", "data.crop=192", "data.crop_ramp=[50,90]"], "still data.crop_start=160 in the last"),
    ],
)
def test_a_schedule_of_the_crop_that_cannot_be_followed_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compose_config(words)


def test_a_crop_that_does_not_grow_within_the_steps_of_a_run_is_refused(images: Path, tmp_path: Path) -> None:
    words = [*TINY, f"data.root={images}", "data.crop_start=32", "data.crop=64", "data.resize=72"]
    late = compose_config([*words, "data.crop_ramp=[1,2]", "trainer.steps=6"])
    with pytest.raises(UserError, match=r"in the last epoch, 1 \(trainer.steps=6; the first epoch is 0\)"):
        experiment.run(late, tmp_path / "run")
    assert not (tmp_path / "run").exists()
