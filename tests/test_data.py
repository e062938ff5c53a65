"""The order of the images, the loaders, and missing or damaged data."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.fashion_mnist import idx_files

from ranger21.config import ImageFolderConfig
from ranger21.data.build import Data, build_data
from ranger21.data.decode import Encoded
from ranger21.data.idx import read_idx
from ranger21.data.images import ImageDataset
from ranger21.data.loader import Loader
from ranger21.data.order import EvalBatches, Share, TrainBatches, require_batches
from ranger21.data.transforms import FRONT_ENDS
from ranger21.engine.course import Course
from ranger21.system.errors import UserError

QUICK = settings(max_examples=60, deadline=None)
IMAGENET = ImageFolderConfig(
    name="imagenet", root=None, batch_size=16, workers=0, timeout=300, eval_batch_size=8, pack=None, transforms="fast",
    classes=None, fraction=1.0, on_bad_image="error", resize=36, resize_mode="squash", crop=32, flip=0.5,
    brightness=0.4, contrast=0.4, saturation=0.4,
)  # fmt: skip


@QUICK
@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 4), st.integers(0, 60), st.integers(0, 5), st.data())
def test_ranks_and_passes_divide_the_batch_of_one_process(world, accumulate, each, spare, seed, data) -> None:
    batch_size = world * accumulate * each
    images, last = batch_size + spare, data.draw(st.integers(1, 9))
    alone = list(TrainBatches(Course(images, batch_size, 9), seed, 1, last, Share()))
    shares = [
        TrainBatches(Course(images, batch_size, 9), seed, 1, last, Share(rank, world, accumulate))
        for rank in range(world)
    ]
    passes = [list(share) for share in shares]
    assert {len(p) for p in passes} == {len(s) for s in shares} == {last * accumulate}
    for step, batch in enumerate(alone):
        own = [part for p in passes for part in p[step * accumulate : (step + 1) * accumulate]]
        assert {len(part) for part in own} == {each}
        assert [key for part in own for key in part] == batch


@QUICK
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3), st.integers(1, 12), st.integers(0, 12))
def test_an_epoch_repeats_no_image_and_a_restart_continues_it(images, batch_size, seed, first, more) -> None:
    batch_size = min(batch_size, images)
    whole = list(TrainBatches(Course(images, batch_size, 1, first + more), seed, 1, first + more, Share()))
    assert (
        list(TrainBatches(Course(images, batch_size, 1, first + more), seed, first, first + more, Share()))
        == whole[first - 1 :]
    )
    epochs: dict[int, list[int]] = {}
    for step, batch in enumerate(whole):
        assert {epoch for epoch, _ in batch} == {step // (images // batch_size)} and len(batch) == batch_size
        epochs.setdefault(batch[0][0], []).extend(index for _, index in batch)
    for indices in epochs.values():
        assert len(set(indices)) == len(indices) and set(indices) <= set(range(images))


def test_the_order_differs_between_epochs_and_seeds() -> None:
    orders = [
        tuple(index for batch in TrainBatches(Course(50, 10, 9), seed, first, first + 4, Share()) for _, index in batch)
        for seed in range(3)
        for first in (1, 6, 11)
    ]
    assert len(set(orders)) == 9 and {tuple(sorted(order)) for order in orders} == {tuple(range(50))}


def test_errors_about_impossible_batch_sizes_name_the_numbers() -> None:
    with pytest.raises(UserError, match=r"data.batch_size=64 .* 3 ranks x trainer.accumulate=2\. .* multiple of 6\.$"):
        require_batches(100, 64, Share(0, 3, 2))
    with pytest.raises(UserError, match=r"data.batch_size=101 is larger than the training set of 100 images\.$"):
        require_batches(100, 101, Share())


@QUICK
@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 9))
def test_every_image_is_evaluated_exactly_once(images: int, batch_size: int, world: int) -> None:
    ranks = [EvalBatches(images, batch_size, Share(rank, world, 3)) for rank in range(world)]
    assert len({len(list(rank)) for rank in ranks} | {len(rank) for rank in ranks}) == 1
    batches = [batch for rank in ranks for batch in rank]
    assert sorted(key for batch in batches for key in batch) == [(0, index) for index in range(images)]
    assert max(map(len, batches)) <= batch_size


@pytest.fixture(scope="module", params=["pil", "fast"])
def data(images: Path, request: pytest.FixtureRequest) -> Data:
    return build_data(replace(IMAGENET, root=str(images), transforms=request.param), seed=5)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_augmentation_does_not_depend_on_the_number_of_loaders(data: Data) -> None:
    seen = []
    for workers in (0, 1, 3):
        torch.manual_seed(workers), np.random.seed(workers), random.seed(workers)
        keys = TrainBatches(
            Course(len(data.train), 16, 9), 5, 4, 7, Share()
        )  # from the end of one epoch to the beginning of the next
        seen.append(list(Loader(data.train, keys, workers, pin_memory=False)))
    for others in seen[1:]:
        for batch, same in zip(seen[0], others, strict=True):
            assert torch.equal(batch.images, same.images) and torch.equal(batch.labels, same.labels)
            assert batch.rest is same.rest or torch.equal(batch.rest, same.rest)


class Same:
    """A source whose images are all equal."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[Encoded, int]:
        pixels = np.array(Image.linear_gradient("L").convert("RGB"))
        return Encoded(pixels.reshape(-1), "gradient", "draw another", (256, 256)), index


@pytest.mark.parametrize("end", ["pil", "fast"])
def test_augmentation_differs_by_seed_epoch_and_image(end: str) -> None:
    transform = FRONT_ENDS[end][0](replace(IMAGENET, resize=256, crop=64))

    def made(seed: int, epoch: int, index: int) -> bytes:
        batch = ImageDataset(Same(), transform, seed).__getitems__([(epoch, index)])
        assert (batch.rest is None) == (end == "pil")
        return batch.images.numpy().tobytes() + (b"" if batch.rest is None else batch.rest.numpy().tobytes())

    keys = [(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(3)]
    once = [made(*key) for key in keys]
    assert len(set(once)) == 27
    assert [made(*key) for key in reversed(keys)][::-1] == once


def failure(loader: Loader) -> str:
    """Return the error message in which the loader's batches end.

    The traceback is dropped: torch waits 10 s for loader processes in a reference cycle.
    """
    try:
        list(loader)
    except UserError as error:
        error.__traceback__ = None
        return str(error)
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("end", ["pil", "fast"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("harm", ["truncated", "no JPEG", "empty", "gone"])
def test_an_unreadable_image_is_named(images: Path, tmp_path: Path, workers: int, harm: str, end: str) -> None:
    root = shutil.copytree(images, tmp_path / "the data")
    data = build_data(replace(IMAGENET, root=str(root), transforms=end), seed=0)
    victim = sorted((root / "train").glob("*/*"))[37]
    content = {"truncated": victim.read_bytes()[:-3000], "no JPEG": b"<html>" * 99, "empty": b""}
    victim.unlink() if harm == "gone" else victim.write_bytes(content[harm])
    keys = TrainBatches(Course(len(data.train), 16, 9), 0, 1, 5, Share())
    text = failure(Loader(data.train, keys, workers, pin_memory=False))
    search = f"python scripts/verify_imagenet.py '{root}' --expect none"
    assert text.startswith(f"The image {victim} cannot be read (")
    assert text.endswith(f"): replace or remove it; to find all such images, run {search}.")
    assert "Traceback" not in text and "\n" not in text


def test_loader_processes_ignore_the_signals_that_stop_a_run(data: Data) -> None:
    keys = TrainBatches(Course(len(data.train), 16, 9), 5, 1, 12, Share())
    batches = iter(Loader(data.train, keys, 2, pin_memory=False))
    seen = [next(batches), next(batches)]  # a batch of each process
    loaders = [str(process.pid) for process in multiprocessing.active_children()]
    assert len(loaders) == 2
    for name in ("INT", "TERM", "USR1", "HUP"):
        subprocess.run(["kill", f"-{name}", *loaders], check=True)  # the parent's signals would be obeyed
    assert len(seen + list(batches)) == 12


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], "There is no folder {root}/train. Set data.root or IMAGENET_DIR"),
        (["val/n1"], "There is no folder {root}/train. Set data.root or IMAGENET_DIR"),
        (["train/n1"], "There is no folder {root}/val. Set data.root or IMAGENET_DIR"),
        (["train/n1", "val/.hidden"], "{root}/val has no class folders. Put the images"),
        (["train/n1", "train/n2", "val/n1", "val/n3"], "1 only in train/ (n2); 1 only in val/ (n3)."),
        ([*(f"train/n{i}" for i in range(6)), "val/n0"], "5 only in train/ (n1, n2, n3 and 2 more)."),
    ],
)
def test_missing_image_folders_are_named(tmp_path: Path, made: list[str], words: str) -> None:
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    config = replace(IMAGENET, root=str(tmp_path))
    for look in (lambda config: config.require(), lambda config: build_data(config, 0)):
        with pytest.raises(UserError) as caught:
            look(config)
        assert words.format(root=tmp_path) in str(caught.value)


def test_complete_image_folders_pass_and_an_unset_root_is_refused(images: Path) -> None:
    replace(IMAGENET, root=str(images)).require()
    with pytest.raises(UserError, match=r"There is no ImageNet. Set data.root=.*IMAGENET_DIR"):
        IMAGENET.require()


def test_the_fingerprint_depends_on_names_classes_and_sizes_of_images(images: Path, data: Data, tmp_path: Path) -> None:
    root = shutil.copytree(images, tmp_path / "moved")
    assert build_data(replace(IMAGENET, root=str(root)), 0).fingerprint == data.fingerprint
    path = sorted(root.glob("val/*/*"))[0]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"the same name, a byte or so more")
    resized = build_data(replace(IMAGENET, root=str(root)), 0)
    assert resized.fingerprint != data.fingerprint and resized.names == data.names
    path.rename(path.with_name("another.JPEG"))
    renamed = build_data(replace(IMAGENET, root=str(root)), 0)
    assert renamed.fingerprint != resized.fingerprint and renamed.names != data.names


def test_plain_and_gzipped_idx_files_agree(tmp_path: Path) -> None:
    plain, zipped = idx_files(tmp_path / "plain"), idx_files(tmp_path / "zipped", zipped=True)
    for config in (plain, zipped):
        config.require()
    one, other = build_data(plain, 0), build_data(zipped, 0)
    assert one.fingerprint == other.fingerprint != build_data(idx_files(tmp_path / "more", train=13), 0).fingerprint
    assert (len(one.train), len(one.val), len(one.classes), one.channels) == (12, 5, 10, 1)
    images, rest, labels, unreadable = other.val.__getitems__([(0, index) for index in range(5)])
    assert (rest, labels.tolist(), unreadable) == (None, [0, 1, 2, 3, 4], []) and images.shape == (5, 1, 28, 28)
    assert all((picture == index).all() for index, picture in enumerate(images))


def test_train_images_selects_the_first_images(tmp_path: Path) -> None:
    config = idx_files(tmp_path / "idx")
    few, all_of_them = (build_data(replace(config, train_images=n), 0) for n in (7, 9999))
    assert (len(few.train), len(few.val), len(all_of_them.train)) == (7, 5, 12)
    assert few.fingerprint != all_of_them.fingerprint
    assert [few.train.source[i][1] for i in range(7)] == list(range(7))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 6, 15, 40, -1])
def test_damaged_idx_files_are_refused(tmp_path: Path, zipped: bool, keep: int) -> None:
    config = idx_files(tmp_path / "idx", zipped=zipped)
    path = Path(str(config.root)) / "train-images-idx3-ubyte"
    real = path.with_name(path.name + ".gz") if zipped else path
    real.write_bytes(real.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"{path} cannot be read .* Download Fashion-MNIST again"):
        read_idx(path)


def test_missing_idx_files_are_named(tmp_path: Path) -> None:
    config = idx_files(tmp_path / "idx")
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"data.root=.* does not contain Fashion-MNIST: .*t10k-labels-idx1-ubyte"):
        config.require()
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte cannot be read"):
        build_data(config, 0)
