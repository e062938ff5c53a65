"""Imbalanced classes by Zipf's law: chosen by the seed and the names alone, the same from folders and packs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fashion_mnist import idx_files
from support.training import TINY, assert_same_state, last_checkpoint, run_ranks

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.imbalance import by_frequency, choose_zipf, zipf
from ranger21.data.pack import PackRecipe
from ranger21.packing.make import make_pack
from ranger21.records.naming import run_directory
from ranger21.report.groups.grouping import group_runs
from ranger21.report.runs.metrics import Metrics
from ranger21.report.runs.run import RUNNING, RecordedRun, settings
from ranger21.system.errors import UserError

CLASSES = [f"n{number}" for number in range(10)]


def chosen(exponent: float, seed: int = 0, each: int = 60, more: int = 0) -> tuple[set[int], dict[str, int]]:
    labels = np.repeat(np.arange(10), [each + more, *[each] * 9])
    numbers, kept = choose_zipf(labels, lambda image: b"%d" % image, CLASSES, exponent, seed)
    assert numbers.tolist() == sorted(set(numbers.tolist()))
    assert [np.sum(labels[numbers] == CLASSES.index(name)) for name in kept] == list(kept.values())
    return set(numbers.tolist()), kept


def test_class_sizes_follow_zipfs_law() -> None:
    assert zipf(6000, 10, 1.0) == [6000, 3000, 2000, 1500, 1200, 1000, 857, 750, 666, 600]
    assert zipf(4, 10, 2.0) == [4, *[1] * 9] and zipf(10**6, 3, 10.0) == [10**6, 976, 16]
    images, kept = chosen(1.0)
    assert list(kept.values()) == [60, 30, 20, 15, 12, 10, 8, 7, 6, 6]
    assert chosen(2.0)[0] < images and chosen(2.0)[1].keys() == kept.keys()


def test_the_seed_determines_only_the_order_of_the_classes() -> None:
    orders = [tuple(by_frequency(CLASSES, seed)) for seed in range(20)]
    assert len(set(orders)) == 20 and {order[0] for order in orders} >= set(range(7))
    assert by_frequency(CLASSES, 3) == by_frequency(CLASSES, 3)
    backwards = [CLASSES[::-1][label] for label in by_frequency(CLASSES[::-1], 3)]  # ranked by name
    assert backwards == [CLASSES[label] for label in by_frequency(CLASSES, 3)]
    sizes = {len(chosen(1.0, seed, more=40)[0]) for seed in range(20)}
    assert sizes == {174}  # even if one class has more images than the others


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    config = compose_config([*TINY, f"data.root={images}", "data.imbalance=1"]).data
    assert isinstance(config, ImageFolderConfig)
    return config


def test_folders_and_packs_keep_the_same_images(config: ImageFolderConfig, tmp_path: Path) -> None:
    whole = build_data(replace(config, imbalance=None), 0)
    sources, recipe = (
        {"train": whole.train.source, "val": whole.val.source},
        PackRecipe(36, "squash", "raw", None, None),
    )
    make_pack(sources, config, recipe, tmp_path / "pack", 1)
    folder, packed = (build_data(c, 7) for c in (config, replace(config, pack=str(tmp_path / "pack"), root=None)))
    assert folder.kept == packed.kept and list(folder.kept.values()) == [8, 4, 2, 2, 1, 1, 1, 1, 1, 1]
    assert len(folder.train) == len(packed.train) == 22 and len(folder.val) == 30
    for image in range(22):
        one, other = (data.train.__getitems__([(0, image)]) for data in (folder, packed))
        assert one.labels.equal(other.labels) and one.images.equal(other.images)
    assert folder.fingerprint == packed.fingerprint == whole.fingerprint  # data.imbalance is not part of it
    assert build_data(config, 8).kept != folder.kept and build_data(config, 8).fingerprint == folder.fingerprint


def test_fashion_mnist_keeps_images_by_zipfs_law(tmp_path: Path) -> None:
    config = replace(idx_files(tmp_path / "idx", train=120), imbalance=1.0)
    data = build_data(config, 0)
    assert list(data.kept.values()) == [12, 6, 4, 3, 2, 2, 1, 1, 1, 1] and len(data.val) == 5
    labels = [data.train.source[image][1] for image in range(len(data.train))]
    assert {data.classes[label]: labels.count(label) for label in set(labels)} == data.kept
    assert all((data.train.source[image][0] % 10 == label).all() for image, label in enumerate(labels))


@pytest.mark.parametrize("which", ["folder", "idx"])
def test_the_holdout_is_taken_first_and_stays_balanced(which: str, config: ImageFolderConfig, tmp_path: Path) -> None:
    """Zipf's law applies to the rest: 6 or 10 images of the most frequent class remain, none of them held out."""
    both = config if which == "folder" else replace(idx_files(tmp_path / "idx", train=120), imbalance=1.0)
    some = [build_data(replace(both, holdout=20, imbalance=law), seed) for law, seed in ((1.0, 0), (1.0, 5), (None, 0))]
    assert len({(data.fingerprint, data.held_out) for data in some}) == 1
    for data in some[:2]:
        source = data.holdout.source
        assert np.bincount([source[image][1] for image in range(20)]).tolist() == [2] * 10
        assert list(data.kept.values())[:3] == ([6, 3, 2] if which == "folder" else [10, 5, 3])
        held = {source[image][0].name if which == "folder" else source.name(image) for image in range(20)}
        own = data.train.source
        names = [own[n][0].name if which == "folder" else own.source.name(own.kept[n]) for n in range(len(own))]
        assert len(set(names)) == len(names) == sum(data.kept.values()) and not held & set(names)


def test_a_run_logs_and_records_the_kept_images_and_resumes_exactly(images: Path, tmp_path: Path) -> None:
    rest = [*TINY, f"data.root={images}", "data.imbalance=1", "data.batch_size=4", "trainer.epochs=2"]
    assert run_ranks(rest, tmp_path / "whole", 1) == [0]
    assert run_ranks(rest, tmp_path / "killed", 1, die_at=7, when="before") == [-9]
    assert run_ranks(rest, tmp_path / "killed", 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))
    facts = json.loads((tmp_path / "whole" / "manifest.json").read_text())["data"]
    kept = facts["images_of_class"]
    assert facts["train_images"] == sum(kept.values()) == 22 and facts["val_images"] == 30
    listed = ", ".join(f"{name} {count}" for name, count in kept.items())
    said = f"data.imbalance=1 keeps these numbers of training images per class: {listed}."
    assert said in (tmp_path / "whole.out").read_text()


def test_imbalance_changes_the_run_directory_and_older_runs_have_none() -> None:
    several = ([], ["data.imbalance=1"], ["data.imbalance=2"])
    plain, law, steep = (compose_config([*TINY, "data.root=/d", *more]) for more in several)
    assert len({run_directory(one) for one in (plain, law, steep)}) == 3
    trees = [{"data": {"name": "imagenet", "imbalance": None}}, {"data": {"name": "imagenet"}}]
    runs = [RecordedRun(Path(str(n)), settings(tree), RUNNING, {}, Metrics.empty()) for n, tree in enumerate(trees)]
    assert len(group_runs(runs)) == 1  # older runs lack this setting


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "11", "true", "many"])
def test_an_invalid_exponent_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"^data\.imbalance=.* is invalid: it must be a number"):
        compose_config([*TINY, f"data.imbalance={value}"])
