"""The holdout: the same images are held out everywhere, and a run sees only them before its end."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fashion_mnist import idx_files
from support.training import TINY, last_checkpoint, metrics_lines, metrics_without_speed, result, run_ranks
from timm.models.resnet import ResNet
from torch import nn

from ranger21.config import FashionMNISTConfig, ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import Data, build_data
from ranger21.data.facts import data_facts
from ranger21.data.pack import PackRecipe
from ranger21.packing.make import make_pack
from ranger21.records.checkpoint_file import read
from ranger21.run import experiment, validations
from ranger21.system.errors import UserError

HELD = 25  # 25 of 80 training images in 10 classes


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    return compose_config([*TINY, f"data.root={images}"]).data  # type: ignore[return-value]


@pytest.fixture(scope="module")
def pack(config: ImageFolderConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, target = build_data(config, 0), tmp_path_factory.mktemp("pack") / "pack"
    sources = {"train": data.train.source, "val": data.val.source}
    make_pack(sources, config, PackRecipe(36, "squash", "jpeg", 95, "4:4:4"), target, 1)
    return target


def paths(data: Data, split: str) -> set[str]:
    source: Any = getattr(data, split).source
    found = [source.index.path(image) for image in range(len(source))]
    assert [source.index.classes[source[image][1]] for image in range(len(source))] == [p.split("/")[0] for p in found]
    return set(found)


def test_the_holdout_is_the_same_from_folders_packs_and_any_order(config, pack, tmp_path) -> None:
    whole = build_data(config, 0)
    data = build_data(replace(config, holdout=HELD), 0)
    held, rest = paths(data, "holdout"), paths(data, "train")
    assert not held & rest and held | rest == paths(whole, "train") and paths(data, "val") == paths(whole, "val")
    counts = sorted([path.split("/")[0] for path in held].count(name) for name in data.classes)
    assert counts == [2] * 5 + [3] * 5 and len(rest) == 80 - HELD
    packed = build_data(replace(config, holdout=HELD, pack=str(pack), root=None), 0)
    for split in ("train", "val", "holdout"):
        assert paths(packed, split) == paths(data, split)
    for file in sorted((Path(str(config.root))).rglob("*.*"), reverse=True):
        place = tmp_path / "copy" / file.relative_to(str(config.root))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    copied = build_data(replace(config, holdout=HELD, root=str(tmp_path / "copy")), 0)
    assert paths(copied, "holdout") == held and copied.held_out == packed.held_out == data.held_out
    assert copied.fingerprint == data.fingerprint != whole.fingerprint


def test_the_holdout_ignores_the_fraction_and_a_larger_one_contains_it(config) -> None:
    held = paths(build_data(replace(config, holdout=HELD), 0), "holdout")
    half = build_data(replace(config, holdout=HELD, fraction=0.5), 0)
    assert paths(half, "holdout") == held and not held & paths(half, "train")
    assert len(half.train) == 5 * 3 + 5 * 3  # half of 6 or 5 images per class, rounded up
    assert held < paths(build_data(replace(config, holdout=HELD + 1), 0), "holdout")
    few = build_data(replace(config, holdout=10, classes=5), 0)
    names = set(few.classes)
    all_held = paths(build_data(replace(config, holdout=20), 0), "holdout")
    assert paths(few, "holdout") == {path for path in all_held if path.split("/")[0] in names}


def test_holdout_images_are_transformed_like_validation_images(config) -> None:
    data = build_data(replace(config, holdout=HELD), 0)
    assert data.holdout is not None and type(data.holdout.transform) is type(data.val.transform)
    once, again = (data.holdout.__getitems__([(epoch, 3)]) for epoch in (0, 1))
    assert torch.equal(once.images, again.images)  # type: ignore[union-attr]


def test_in_array_datasets_the_image_number_determines_the_holdout(tmp_path) -> None:
    config: FashionMNISTConfig = replace(idx_files(tmp_path / "idx", train=60), holdout=23)  # type: ignore[assignment]
    data, few = build_data(config, 0), build_data(replace(config, train_images=9), 0)

    def numbers(data: Data, split: str) -> list[int]:  # all pixels of image i are i
        source = getattr(data, split).source
        return [int(source[image][0][0, 0]) for image in range(len(source))]

    held = numbers(data, "holdout")
    assert numbers(few, "holdout") == held and few.held_out == data.held_out
    assert sorted(held + numbers(data, "train")) == list(range(60)) and len(held) == 23
    assert sorted(np.bincount([number % 10 for number in held])) == [2] * 7 + [3] * 3
    assert numbers(few, "train") == numbers(data, "train")[:9]
    facts = data_facts(config, data)
    assert (facts["train_images"], facts["holdout_images"], facts["held_out"]) == (37, 23, data.held_out)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (9, "data.holdout=9 is too small: it must be at least 10, one image per class"),
        (75, "data.holdout=75 is too large: it would hold out 8 images of the class .*, which has only 8 training"),
        (80, "data.holdout=80 is too large: it would hold out 8 images of the class"),
        (10**6, "data.holdout=1000000 is too large: it would hold out 100000 images of the class"),
    ],
)
def test_an_impossible_holdout_size_is_refused(config, wanted: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build_data(replace(config, holdout=wanted), 0)


def test_impossible_holdout_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.holdout=-1 is invalid"):
        compose_config(["data=imagenet", "data.holdout=-1"])
    with pytest.raises(UserError, match=r"trainer.final_validation=false requires a holdout, .*data.holdout=N"):
        compose_config(["data=imagenet", "trainer.final_validation=false"])


def assert_official_set_read_last(rows: list[dict[str, Any]], last: int) -> None:
    """Assert that a run read the official validation set only after its last step, and the holdout every 3 steps."""
    assert [row["step"] for row in rows if "val/acc1" in row] == [last]
    assert [row["step"] for row in rows if "holdout/acc1" in row] == list(range(3, last + 1, 3))


def run(directory: Path, *words: str) -> int:
    return experiment.run(compose_config([*TINY, f"data.holdout={HELD}", "trainer.epochs=2", *words]), directory)


@pytest.fixture(params=["folder", "pack"])
def broken(request, images, pack, tmp_path) -> tuple[list[str], Callable[[], None]]:
    """Settings of data whose official validation images are all unreadable, and a function that repairs them."""
    kept, data = request.param, tmp_path / "data"
    shutil.copytree(pack if kept == "pack" else images, data)
    files = [data / "val-00000.tar"] if kept == "pack" else sorted((data / "val").rglob("*.JPEG"))
    whole = {path: path.read_bytes() for path in files}
    for path, content in whole.items():
        path.write_bytes(b"\1" * len(content))

    def mend() -> None:
        for path, content in whole.items():
            path.write_bytes(content)

    return [f"data.pack={data}", "data.root=null"] if kept == "pack" else [f"data.root={data}"], mend


def test_no_image_of_the_official_set_is_read_before_the_end(broken, tmp_path) -> None:
    """All official images are unreadable, so a run that reads any of them fails.

    After the repair the run ends as if nothing had happened.
    """
    keys, mend = broken
    if "data.root=null" not in keys:
        assert run(tmp_path / "never", *keys, "trainer.final_validation=false") == 0
        assert not [key for row in metrics_lines(tmp_path / "never") for key in row if key.startswith("val/")]
        with pytest.raises(UserError, match="/val/"):
            run(tmp_path / "without", *keys, "data.holdout=0")
        assert [row["step"] for row in metrics_lines(tmp_path / "without")] == [2, 4]
    with pytest.raises(UserError, match=r"/val/n\d+/"):
        run(tmp_path / "run", *keys)
    assert [row["step"] for row in metrics_lines(tmp_path / "run")] == [2, 3, 4]
    assert not (tmp_path / "run" / "result.json").exists()
    mend()
    assert run(tmp_path / "run", *keys) == 0
    assert run(tmp_path / "whole", *keys) == 0
    assert_official_set_read_last(metrics_lines(tmp_path / "run"), 6)
    assert metrics_without_speed(tmp_path / "run") == metrics_without_speed(tmp_path / "whole")
    mine, others = (last_checkpoint(tmp_path / name)["model"] for name in ("run", "whole"))
    assert all(torch.equal(tensor, others[name]) for name, tensor in mine.items())


def test_a_stop_while_reading_the_official_set_repeats_it_on_resume(images, tmp_path, monkeypatch) -> None:
    assert run(tmp_path / "whole", f"data.root={images}") == 0
    real, asked = validations.evaluate, list[str]()

    def stopped(*args: Any, split: str, **more: Any) -> dict[str, float] | None:
        asked.append(split)
        if asked == ["holdout", "holdout", "val"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, split=split, **more)

    monkeypatch.setattr(validations, "evaluate", stopped)
    assert run(tmp_path / "run", f"data.root={images}") == 143
    assert not [key for row in metrics_lines(tmp_path / "run") for key in row if key.startswith("val/")]
    assert run(tmp_path / "run", f"data.root={images}") == 0
    assert asked == ["holdout", "holdout", "val", "holdout", "val"]
    assert metrics_without_speed(tmp_path / "run") == metrics_without_speed(tmp_path / "whole")
    assert result(tmp_path / "run")["final"] == result(tmp_path / "whole")["final"]


def test_the_best_is_chosen_by_the_holdout(images, tmp_path) -> None:
    place = tmp_path / "run"
    assert run(place, f"data.root={images}", "trainer.epochs=4", "trainer.final_validation=false") == 0
    rows = [row for row in metrics_lines(place) if "holdout/acc1" in row]
    best, found = max(rows, key=lambda row: row["holdout/acc1"]), result(place)
    assert found["best"] == {key: best[key] for key in found["best"]} and "holdout/acc1" in found["best"]
    assert read(place / "checkpoints" / "best.pt")["progress"]["step"] == best["step"]
    assert found["final"] == {key: rows[-1][key] for key in found["final"]}


def test_no_model_sees_an_official_image_before_the_last_step(tmp_path) -> None:
    """The official images are recognized because they alone are entirely white."""
    root = tmp_path / "idx"
    idx_files(root, train=120)
    file = root / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:16] + b"\xff" * (5 * 28 * 28))
    seen: list[tuple[bool, bool]] = []  # (model in training mode, batch has an official image)

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, ResNet) and not inputs[0].is_meta:
            white = inputs[0] > 1.9  # white is (1 - 0.286) / 0.353 = 2.0; the brightest training image is 0.5
            seen.append((module.training, bool(white.all(dim=(1, 2, 3)).any())))

    words = ["data=fashion_mnist", "data.holdout=40", "data.batch_size=16", "trainer.epochs=2", "trainer.device=cpu"]
    words += ["logger=none", "model=resnet10t", "+model.kwargs={channels:[8,8,8,8],stem_width:8}", f"data.root={root}"]
    hook = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        assert experiment.run(compose_config(words), tmp_path / "run") == 0
    finally:
        hook.remove()
    marked = [place for place, (_, mark) in enumerate(seen) if mark]
    assert marked and not any(training for training, _ in seen[marked[0] :])
    rows = metrics_lines(tmp_path / "run")
    assert [("holdout/acc1" in row, "val/acc1" in row) for row in rows] == [(True, False), (True, True)]


def test_two_ranks_killed_at_the_end_report_the_same_values_as_one(images, tmp_path) -> None:
    words = [*TINY, f"data.root={images}", f"data.holdout={HELD}", "trainer.precision=fp64", "trainer.epochs=2"]
    words = [word.replace(",drop_rate:0.2", "") for word in [*words, "model.remove_batch_norm=true"]]
    assert experiment.run(compose_config(words), tmp_path / "one") == 0
    assert run_ranks(words, tmp_path / "two", 2, 6) != [0, 0]
    assert run_ranks(words, tmp_path / "two", 2) == [0, 0]
    one, two = metrics_lines(tmp_path / "one"), metrics_lines(tmp_path / "two")
    assert_official_set_read_last(one, 6)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and all(a.get(key) == b.get(key) for key in ("holdout/acc1", "val/acc1"))
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-9)
