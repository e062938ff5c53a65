"""Random erasing, mixup and cutmix: against torchvision's transforms, and independent of workers, ranks and starts."""

from __future__ import annotations

import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from support.project import ROOT
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed, run_ranks
from torch import Tensor
from torchvision.transforms import v2

from ranger21.config import TrainerConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import Data, build_data
from ranger21.data.images import ImageBatch
from ranger21.data.late import Late, LateDraws
from ranger21.data.loader import Loader
from ranger21.data.on_device import ToInput
from ranger21.data.order import Share, TrainBatches, require_batches
from ranger21.data.transforms.rescaled import seeded
from ranger21.engine.course import Course
from ranger21.engine.labels import Mixed
from ranger21.engine.meters import Meter
from ranger21.models.evaluated import Request, config_of
from ranger21.records.directory import to_dict
from ranger21.run.loss import training_loss
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.randomness import MIX, uniforms

CPU = torch.device("cpu")
ALONE = Share()
KEYS = [(1, index) for index in range(8)]
ALL = ["data.erase=0.5", "data.mixup=0.4", "data.cutmix=1.0"]
LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])


def pictures(count: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 24), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)


def to_input(dtype: torch.dtype = torch.float64) -> ToInput:
    return ToInput((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).to(dtype)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_pairs_are_mixed_as_torchvision_mixes_two_images(mixup: float, cutmix: float) -> None:
    """torchvision mixes each image of a batch with its neighbour: those of a pair with each other."""
    images, one_hot, kinds = pictures(200), F.one_hot(LABELS.repeat(25), 10).double(), set()
    late = LateDraws(0.0, mixup, cutmix, 7)([(2, index) for index in range(200)], None, images[0])
    batch = ImageBatch(images, late, LABELS.repeat(25), [])
    pixels, rest, labels = batch.to(CPU)
    made, plain = to_input()(pixels, rest), to_input()(images)
    assert isinstance(labels, Mixed) and torch.equal(images, pictures(200)) and made.dtype == torch.float64
    soft = torch.lerp(
        F.one_hot(labels.others, 10).double(), F.one_hot(labels.own, 10).double(), labels.share[:, None].double()
    )
    for start in range(0, 200, 2):
        choice, number = uniforms(2, MIX, 7, 2, start)
        kinds.add(kind := "mixup" if mixup and (choice < 0.5 or not cutmix) else "cutmix")
        transform = v2.MixUp(alpha=mixup) if kind == "mixup" else v2.CutMix(alpha=cutmix)
        with seeded(number):
            expected, targets = transform(plain[start : start + 2], one_hot[start : start + 2])
        assert (made[start : start + 2] - expected).abs().max() < 1e-6
        assert (soft[start : start + 2] - targets).abs().max() < 1e-6
        if kind == "cutmix":  # the share is the exact part of the pixels that are the image's own
            own = (made[start] == plain[start]).all(0).double().mean()
            assert labels.share[start] == pytest.approx(own.item(), abs=1e-3)
    assert len(kinds) == (mixup > 0) + (cutmix > 0)
    assert cutmix or labels.share.mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(labels.larger, torch.where(labels.share >= 0.5, labels.own, labels.others))


def test_erased_boxes_are_those_of_torchvision_and_have_the_value_0() -> None:
    images = pictures(200)
    late = LateDraws(0.3, 0.0, 0.0, 7)([(2, index) for index in range(200)], None, images[0])
    assert late.boxes is not None and late.pairs is None and late.labels(LABELS) is LABELS
    plain, made, erased = to_input()(images), to_input()(images, late), 0
    for before, after, box in zip(plain, made, late.boxes.tolist(), strict=True):
        top, left, bottom, right = box
        expected = v2.functional.erase(before, top, left, bottom - top, right - left, torch.zeros(1, 1, 1))
        assert torch.equal(after, expected)
        erased += box != [0, 0, 0, 0]
        area = (bottom - top) * (right - left) / (32 * 24)
        assert box == [0, 0, 0, 0] or 0.01 < area < 0.35
    assert 40 <= erased <= 80


def test_the_parts_left_to_the_device_keep_their_order_and_a_last_image_alone_stays_as_it_is() -> None:
    """First flip and jitter, then normalization, erasing, and mixing; a diagnostic batch may be odd."""
    rows = torch.tensor([[1.0, 1, 1, 1, 0, 1, 2]]).repeat(3, 1)
    boxes, pairs = torch.tensor([[0, 0, 16, 24], [0, 0, 0, 0], [2, 2, 4, 4]]), torch.tensor([[0.75, 0, 0, 0, 0, 0.75]])
    images = pictures(3)
    flipped = to_input()(images.flip(3))
    made = to_input()(images, Late(rows, boxes, pairs))
    assert torch.equal(made[0, :, :16], 0.25 * flipped[1, :, :16])
    assert torch.allclose(made[1, :, 16:], 0.75 * flipped[1, :, 16:] + 0.25 * flipped[0, :, 16:])
    assert (made[2, :, 2:4, 2:4] == 0).all() and torch.equal(made[2, :, 4:], flipped[2, :, 4:])
    labels = Late(rows, boxes, pairs).labels(torch.tensor([3, 1, 4]))
    assert (
        isinstance(labels, Mixed) and labels.others.tolist() == [1, 3, 4] and labels.share.tolist() == [0.75, 0.75, 1]
    )
    alone = LateDraws(0.0, 1.0, 0.0, 0)(KEYS[:1], None, images[0])
    assert torch.equal(to_input()(images[:1], alone), to_input()(images[:1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_half_precision_and_memory_formats_change_rounding_only(
    dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    images = pictures()
    late = LateDraws(0.5, 0.4, 1.0, 3)(KEYS, None, images[0])
    made = to_input(torch.float32)(images, late, dtype, memory_format)
    exact = to_input()(images, late)
    assert made.dtype == dtype and made.is_contiguous(memory_format=memory_format)
    assert (made.double() - exact).abs().max() < {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}[dtype]


@pytest.mark.parametrize("name", ["cross_entropy", "bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_linear_in_the_shares_and_equals_that_of_soft_labels(name: str, smoothing: float) -> None:
    trainer: TrainerConfig = replace(compose_config([]).trainer, loss=name, label_smoothing=smoothing)
    logits = torch.randn(8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    share, loss = torch.linspace(0, 1, 8, dtype=torch.float64), training_loss(trainer)
    mixed = Mixed(LABELS, LABELS.flip(0), share)
    soft = share[:, None] * F.one_hot(LABELS, 10) + (1 - share[:, None]) * F.one_hot(LABELS.flip(0), 10)
    if name == "bce":  # timm's smoothing of soft labels
        expected = F.binary_cross_entropy_with_logits(logits, soft * (1 - smoothing) + smoothing / 10)
    else:
        expected = F.cross_entropy(logits, soft, label_smoothing=smoothing)
    made = loss(logits, mixed)
    assert torch.allclose(made, expected, atol=1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(value, logits) for value in (made, expected))
    assert torch.allclose(ours, theirs, atol=1e-12)
    one, other = (
        torch.stack([loss(logits[i : i + 1], some[i : i + 1]) for i in range(8)]) for some in (LABELS, LABELS.flip(0))
    )
    assert torch.allclose(made, (share * one + (1 - share) * other).mean())
    assert torch.equal(loss(logits, LABELS), training_loss(trainer)(logits, LABELS))


def test_accuracy_counts_the_larger_share() -> None:
    meter, logits = Meter(World(0, 1, 0, 1, CPU)), F.one_hot(LABELS, 10).float()
    labels = Mixed(LABELS, LABELS + 1 - LABELS, torch.tensor([0.6, 0.4, 0.5, 0.4, 0.1, 0.9, 1.0, 0.0]))
    meter.add(torch.tensor(1.0), logits, labels)
    right = [True, True, True, True, False, True, True, False]  # with a share of 0.4, but the other label is 1, too
    assert meter.metrics()["train/acc1"] == 100 * sum(right) / 8


def opened(images: Path, *overrides: str) -> Data:
    return build_data(compose_config([*TINY, f"data.root={images}", *overrides]).data, seed=3)


def inputs_of(data: Data, workers: int, share: Share = ALONE, first: int = 1) -> list[Tensor]:
    """Return the model's inputs of an epoch from step `first` on, at this rank, and the shares of their labels."""
    course = Course(len(data.train), 16, epochs=1)
    keys = TrainBatches(course, 3, first, course.total_steps, share)
    made = []
    for batch in Loader(data.train, keys, workers, pin_memory=False):
        assert batch is not None
        pixels, rest, labels = batch.to(CPU)
        assert isinstance(labels, Mixed)
        inputs = data.to_input.float()(pixels, rest)
        made.append(torch.cat([inputs.flatten(1), torch.stack([labels.own, labels.others, labels.share], 1)], 1))
    return made


@pytest.mark.parametrize("overrides", [[], ["data.augment=rrc", "data.transforms=pil"]], ids=["paper-fast", "rrc-pil"])
def test_inputs_do_not_depend_on_workers_ranks_passes_and_starts(overrides: list[str], images: Path) -> None:
    data = opened(images, *ALL, *overrides)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    expected = torch.cat(inputs_of(data, 0))
    assert torch.equal(torch.get_rng_state(), before) and len(expected) == 80
    assert torch.equal(torch.cat(inputs_of(data, workers=2)), expected)
    assert torch.equal(torch.cat(inputs_of(data, 0, first=3)), expected[32:])
    ranks = [inputs_of(data, 0, Share(rank, 2, 2)) for rank in range(2)]
    parts = [ranks[rank][2 * step + number] for step in range(5) for rank in range(2) for number in range(2)]
    assert torch.equal(torch.cat(parts), expected)
    other = torch.cat(inputs_of(opened(images, *ALL[:2], *overrides), 0))
    assert not torch.equal(other, expected)


def test_without_them_a_batch_is_what_it_was(images: Path) -> None:
    for overrides in ([], ["data.transforms=pil"], ["data.augment=rrc"]):
        data = opened(images, *overrides)
        assert data.train.late is None and data.val.late is None
        batch = data.train.__getitems__(KEYS)
        assert isinstance(batch, ImageBatch) and not isinstance(batch.rest, Late)
        assert batch.to(CPU)[2] is not None and torch.equal(batch.to(CPU)[2], batch.labels)  # type: ignore[arg-type]
    assert opened(images, *ALL).val.late is None, "validation images stay as they are"


def test_an_odd_number_of_images_per_pass_is_refused() -> None:
    require_batches(100, 16, Share(0, 2, 2), mixes=True)
    with pytest.raises(
        UserError, match=r"data.batch_size=12 is an odd number of images, 3, per pass .* multiple of 8\."
    ):
        require_batches(100, 12, Share(0, 2, 2), mixes=True)
    with pytest.raises(UserError, match=r"batch_schedule.start=3 is an odd number"):
        require_batches(100, 12, ALONE, 3, mixes=True)
    require_batches(100, 12, Share(0, 2, 2))


@pytest.mark.parametrize("data", ["imagenet", "fashion_mnist"])
def test_the_normalization_of_ones_own(data: str) -> None:
    values: list[Any] = [0.25] if data == "fashion_mnist" else [0.25, 0.5, 0.75]
    config = compose_config([f"data={data}", f"data.mean={values}", f"data.std={values}"]).data
    made = config.view().to_input(torch.full((1, len(values), 2, 2), 255, dtype=torch.uint8))
    assert torch.allclose(made[0, :, 0, 0], torch.tensor([(1 - v) / v for v in values], dtype=torch.float64))


def test_the_exported_line_states_the_normalization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from export import python_line

    run: dict[str, Any] = {"config": asdict(compose_config(["data.std=[0.5,0.5,0.5]", "model=resnet10t"]))}
    run["data"] = {"classes": 10, "channels": 3}
    run["config"]["model"]["kwargs"] = {"stem_width": 8}
    model = eval(python_line(run, Path("w.pth")).replace(", checkpoint_path='w.pth'", ""), {"timm": timm})
    assert tuple(model.pretrained_cfg["std"]) == (0.5, 0.5, 0.5)
    del run["config"]["data"]["std"]
    assert "overlay" not in python_line(run, Path("w.pth"))


def test_a_run_is_evaluated_on_other_data_with_its_own_mean_and_std() -> None:
    run = {"config": to_dict(compose_config(["data=imagenet", "data.mean=[0.5,0.4,0.3]", "data.std=[0.2,0.2,0.2]"]))}
    kept = config_of(Request("run", ["data=sample"]), run).data
    assert (kept.mean, kept.std) == ([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    typed = config_of(Request("run", ["data=sample", "data.mean=[0.1,0.1,0.1]"]), run).data
    assert (typed.mean, typed.std) == ([0.1, 0.1, 0.1], [0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.mean=[0.5]", "with a number from 0 to 1 for each channel"),
        ("data.mean=[123.7,116.3,103.5]", "it must be a list"),
        ("data.std=[0.2,0.2,0]", "from 0.001 to 1 for"),
        ("data.erase=1.5", "a probability, from 0 to 1"),
        ("data.mixup=-0.1", "a number at least 0"),
        ("data.cutmix=nan", "a number at least 0"),
    ],
)
def test_impossible_values_are_refused(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compose_config([override])


def test_a_killed_and_resumed_run_with_everything_equals_one_never_killed(tiny: list[str], tmp_path: Path) -> None:
    """Two ranks, with a crop that grows between the kill and the end."""
    words = [*ALL, "data.augment=rrc", "data.crop=64", "data.resize=72", "data.crop_start=32", "data.crop_ramp=[0,1]"]
    run = [*tiny, *words, "data.eval_crop=40", "data.eval_resize=48", "trainer.epochs=2", "trainer.loss=bce"]
    assert run_ranks(run, tmp_path / "whole", 2) == [0, 0]
    assert run_ranks(run, tmp_path / "killed", 2, die_at=5, when="after")[-1] == -signal.SIGKILL
    assert run_ranks(run, tmp_path / "killed", 2) == [0, 0]
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(tmp_path / "killed") == metrics_without_speed(tmp_path / "whole")
