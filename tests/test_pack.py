"""Packs: interruptions do not change their bytes, and training from them equals training from the folders."""

import io
import json
import resource
import shutil
import signal
import subprocess
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.packs import JPEG, RAW, die_at, few_classes, file_digests, pack_by_command, pack_command, sources_of
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed, run_ranks

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.loader import Loader
from ranger21.data.order import EvalBatches, Share, TrainBatches
from ranger21.data.pack import FACTS
from ranger21.engine.course import Course
from ranger21.packing import writing
from ranger21.packing.encoding import pixels_of
from ranger21.packing.make import begin_pack, damaged_shards, make_pack
from ranger21.system import processes
from ranger21.system.errors import UserError

RECIPES = {"jpeg": JPEG, "raw": RAW}


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    return compose_config([*TINY, f"data.root={images}"]).data


@pytest.fixture(scope="module")
def packs(config: ImageFolderConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packs of each kind, made by one process without interruption."""
    folder = tmp_path_factory.mktemp("packs")
    for kind, recipe in RECIPES.items():
        assert make_pack(sources_of(config), config, recipe, folder / kind, 1)
    return {kind: folder / kind for kind in RECIPES}


def overrides_of(config: ImageFolderConfig) -> list[str]:
    return [*(o for o in TINY if o.startswith("data")), f"data.root={config.root}"]


def test_the_command_makes_the_same_pack_and_a_second_run_keeps_it(config, packs, tmp_path):
    """Packs made with one and with two processes are identical; a second run leaves the pack unchanged."""
    target = tmp_path / "raw"
    options = [*overrides_of(config), "--format", "raw", "--processes"]
    assert f"110 images, {RAW}: about " in pack_by_command(target, *options, "2")
    assert file_digests(target) == file_digests(packs["raw"])
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    use = "is already complete. To train from it: python train.py data=imagenet "
    assert use in pack_by_command(target, *options, "1")
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before
    assert "all checksums are correct" in pack_by_command(target, "--check", "--processes", "1")


@pytest.mark.parametrize("kind", RECIPES)
def test_tar_and_numpy_can_read_a_pack(kind, config, packs):
    expected = {}
    for name, source in sources_of(config).items():
        for image in range(len(source)):
            pixels = pixels_of(source[image][0], config)
            expected[name, source.index.path(image).rpartition(".")[0]] = pixels
    for split in ("train", "val"):
        with tarfile.open(packs[kind] / f"{split}-00000.tar") as tar:
            for member, label in zip(*[iter(tar)] * 2, strict=True):
                stem, _, suffix = member.name.rpartition(".")
                assert suffix == {"raw": "npy", "jpeg": "jpg"}[kind] and label.name == f"{stem}.cls"
                content = io.BytesIO(tar.extractfile(member).read())
                pixels = np.load(content) if kind == "raw" else np.asarray(Image.open(content))
                worst = np.abs(pixels.astype(int) - expected.pop((split, stem))).mean()
                assert worst == 0 if kind == "raw" else worst < 4
    assert not expected


@pytest.mark.parametrize("kind", RECIPES)
def test_a_pack_is_the_same_after_a_kill_at_any_moment(kind, config, small_shards, tmp_path):
    chosen, recipe = few_classes(config), RECIPES[kind]
    given = sources_of(chosen)

    def make(name: object) -> None:
        make_pack(given, chosen, recipe, tmp_path / str(name), 1)

    make("whole")
    expected, moment = file_digests(tmp_path / "whole"), 1
    assert len(expected) == 4 + 4 + 2 + 1
    while die_at(moment, partial(make, moment)):
        make(moment)
        assert file_digests(tmp_path / str(moment)) == expected, moment
        moment += 1
    assert moment > 3 * 10
    for again in range(16):  # one pack that is killed repeatedly and gets a little further each time
        die_at(again % 7 + 1, partial(make, "worn"))
    make("worn")
    assert file_digests(tmp_path / "worn") == expected


def test_the_number_of_processes_does_not_change_a_pack(config, small_shards, tmp_path):
    for count in (1, 2, 5):
        assert make_pack(sources_of(config), config, JPEG, tmp_path / str(count), count)
    assert file_digests(tmp_path / "1") == file_digests(tmp_path / "2") == file_digests(tmp_path / "5")
    data = build_data(replace(config, root=None, pack=str(tmp_path / "2")), 0)
    assert len(list((tmp_path / "2").glob("*.tar"))) == 8 + 3 and len(data.train) == 80
    with tarfile.open(tmp_path / "2" / "train-00007.tar") as tar:
        assert tar.extractfile(tar.getmembers()[2 * 9]).read() == data.train.source[79][0].data.tobytes()


def test_the_command_continues_after_a_kill_while_writing(config, packs, tmp_path):
    options = [*overrides_of(config), "--processes", "1"]
    process = subprocess.Popen(**pack_command(tmp_path / "pack", *options))
    half = tmp_path / "pack" / ".train-00000.tar.tmp"
    deadline = time.monotonic() + 60
    while not (half.exists() and half.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not (tmp_path / "pack" / "train.npz").exists()
    with pytest.raises(UserError, match=r"is not finished\. Repeat the command that makes it"):
        build_data(replace(config, pack=str(tmp_path / "pack")), 0)
    assert "pack is complete. " in pack_by_command(tmp_path / "pack", *options)
    assert file_digests(tmp_path / "pack") == file_digests(packs["jpeg"])


def test_a_full_disk_is_reported_and_the_command_can_continue(config, packs, tmp_path, monkeypatch):
    """A limit on file size simulates a full disk."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    options = [*overrides_of(config), "--processes", "2"]
    output = pack_by_command(tmp_path / "pack", *options, code=1, preexec_fn=limit)
    assert "could not be written (File too large): free disk space and run the same command again" in output
    assert not list((tmp_path / "pack").glob("*.tmp"))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((np, "savez"), (writing.os, "fsync")):  # these write the last files
        with (
            monkeypatch.context() as patch,
            pytest.raises(UserError, match=r"\(No space left on device\): free disk space"),
        ):
            patch.setattr(module, name, full)
            make_pack(sources_of(config), config, JPEG, tmp_path / "pack", 1)
    assert make_pack(sources_of(config), config, JPEG, tmp_path / "pack", 1)
    assert file_digests(tmp_path / "pack") == file_digests(packs["jpeg"])


@pytest.mark.parametrize("harm", ["missing", "short", "flipped"])
def test_a_damaged_archive_is_refused_found_and_replaced(harm, config, packs, tmp_path):
    pack = shutil.copytree(packs["jpeg"], tmp_path / "pack")
    archive = pack / "train-00000.tar"
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= 4
    archive.unlink() if harm == "missing" else archive.write_bytes(content[:-512] if harm == "short" else content)
    if harm != "flipped":
        with pytest.raises(UserError, match=r"train-00000.tar (is missing|has \d+ bytes instead of \d+)\. Repeat the"):
            build_data(replace(config, pack=str(pack), root=None), 0)
    assert damaged_shards(pack, 1) == ["train-00000.tar"]
    if harm == "flipped":
        output = pack_by_command(pack, "--check", "--processes", "1", code=1)
        assert "1 archives are damaged or missing (train-00000.tar). Delete them and repeat the command" in output
        archive.unlink()
    assert make_pack(sources_of(config), config, JPEG, pack, 1)
    assert file_digests(pack) == file_digests(packs["jpeg"]) and damaged_shards(pack, 1) == []


@pytest.mark.parametrize("name", ["train.npz", "val.npz", "parts/train-00000.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]"])
def test_other_lost_or_damaged_files_are_made_again(name, content, config, packs, tmp_path):
    pack = shutil.copytree(packs["jpeg"], tmp_path / "pack")
    (pack / name).unlink() if content is None else (pack / name).write_bytes(content)
    if name.endswith("npz"):
        with pytest.raises(UserError, match=f"{name} cannot be read .*: repeat the command that made the pack"):
            build_data(replace(config, pack=str(pack), root=None), 0)
    assert make_pack(sources_of(config), config, JPEG, pack, 1)
    assert file_digests(pack) == file_digests(packs["jpeg"])


def test_a_different_pack_or_folder_is_not_overwritten(config, packs, tmp_path):
    given = {split: source.index for split, source in sources_of(config).items()}
    fewer = {split: source.index for split, source in sources_of(few_classes(config)).items()}
    before = file_digests(packs["jpeg"])
    for recipe, indices, words in (
        (
            RAW,
            given,
            "a different recipe: squash 36, JPEG of quality 95, .* there, squash 36, raw pixels now. Choose",
        ),
        (replace(JPEG, quality=90), given, "a different recipe: .* of quality 90, 4:4:4 now"),
        (replace(JPEG, resize_mode="shorter_side"), given, "a different recipe: .*shorter_side 36"),
        (JPEG, fewer, "a different source. Choose another folder, or delete this one"),
    ):
        with pytest.raises(UserError, match=words):
            begin_pack(packs["jpeg"], recipe, indices)
    assert file_digests(packs["jpeg"]) == before
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"contains 'thesis.tex', which is not part of a pack. Choose an empty folder"):
        begin_pack(tmp_path, JPEG, given)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)\. Choose another folder"):
        begin_pack(tmp_path / "thesis.tex" / "pack", JPEG, given)


def test_a_second_process_for_the_same_pack_is_refused(config, tmp_path):
    target = tmp_path / "pack"
    target.mkdir()
    with (
        processes.locked(target, "busy"),
        pytest.raises(UserError, match=rf"^Another process is making .*{target}\. Wait"),
    ):
        make_pack(sources_of(config), config, JPEG, target, 1)
    assert make_pack(sources_of(config), config, JPEG, target, 1)


def test_ctrl_c_ends_the_command_and_its_processes(config, packs, tmp_path):
    target = tmp_path / "pack"
    process = subprocess.Popen(**pack_command(target, *overrides_of(config), "--processes", "2"))
    while not list(target.glob(".*.tmp")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    assert (process.returncode, "Traceback" in text) == (130, False) and "continues from here" in text, text
    pack_by_command(target, *overrides_of(config))
    assert file_digests(target) == file_digests(packs["jpeg"])


def test_a_pack_that_does_not_match_the_run_is_refused(config, packs, images, tmp_path):
    packed = replace(config, pack=str(packs["jpeg"]))

    def expect_refusal(config: ImageFolderConfig, words: str) -> None:
        with pytest.raises(UserError, match=words):
            build_data(config, 0)

    expect_refusal(
        replace(packed, resize=40), "made for data.resize_mode=squash data.resize=36, but this run has squash 40"
    )
    expect_refusal(
        replace(packed, resize_mode="shorter_side"), "but this run has shorter_side 36. Use the settings of the pack"
    )
    expect_refusal(replace(packed, pack=str(tmp_path)), "is not a pack: it has no file pack.json. Make a pack with")
    expect_refusal(replace(packed, pack="/nowhere"), "data.pack=/nowhere is not a pack")
    stale = shutil.copytree(images, tmp_path / "images")
    next((stale / "val").rglob("*.JPEG")).rename(stale / "val" / "n99000000" / "other.JPEG")
    expect_refusal(
        replace(packed, root=str(stale)),
        r"made of different images from those in .*/images now \(the names or .*\)\. Make a",
    )
    pack = shutil.copytree(packs["jpeg"], tmp_path / "pack")
    facts = json.loads((pack / FACTS).read_text())
    for change, words in (
        ({"version": 99}, "has version 99, but this code reads 1 and 2. Make the pack again"),
        ({"complete": False}, "is not finished. Repeat the command that makes it"),
        ({"recipe": {}}, "pack.json is damaged. Delete .* and make the pack again"),
    ):
        (pack / FACTS).write_text(json.dumps(facts | change))
        expect_refusal(replace(packed, pack=str(pack)), words)
        if "recipe" in change:
            with pytest.raises(UserError, match=words):
                make_pack(sources_of(config), config, JPEG, pack, 1)


def test_raw_packs_have_the_folders_fingerprint_and_jpeg_packs_their_own(config, packs):
    def of(**changes: Any) -> str:
        return build_data(replace(config, **changes), 0).fingerprint

    raw, jpeg = str(packs["raw"]), str(packs["jpeg"])
    assert of() == of(pack=raw) == of(pack=raw, root=None) == of(transforms="pil")
    assert len({of(), of(pack=jpeg), of(pack=raw, transforms="pil")}) == 3


@pytest.mark.parametrize("kind", RECIPES)
def test_training_from_a_pack_resumes_exactly(kind, tiny, packs, tmp_path):
    """A run killed in mid-epoch resumes with identical weights; from raw pixels they equal those from the folder."""
    overrides = [*tiny, f"data.pack={packs[kind]}", "data.workers=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_ranks(tiny if kind == "raw" else overrides, whole, 1) == [0]
    assert run_ranks(overrides, killed, 1, die_at=8, when="after") == [-signal.SIGKILL]
    assert run_ranks(overrides, killed, 1) == [0]
    assert_same_state(last_checkpoint(killed), last_checkpoint(whole))
    assert metrics_without_speed(killed) == metrics_without_speed(whole)


@pytest.mark.parametrize("world", range(1, 9))
def test_every_image_once_over_all_ranks_and_workers(world, config, packs):
    data = build_data(replace(config, pack=str(packs["raw"])), 5)
    images, each = len(data.train), len(data.train) // world
    course, shares = Course(images, each * world, 2), [Share(rank, world) for rank in range(world)]
    workers = 2 if world in (3, 4) else 0
    pixels = {split: pixels_by_bytes(getattr(data, split).source) for split in ("train", "val")}
    seen = []
    for share in shares:  # pixels of the second epoch are augmented and cannot identify an image, so keys and labels do
        batches = TrainBatches(course, 5, 2, 2, share)
        labels = [int(x) for b in Loader(data.train, batches, workers, False) for x in b.labels]
        keys = [index for batch in batches for _, index in batch]
        assert labels == data.train.source.index.labels[keys].tolist()
        seen += keys
    assert len(seen) == len(set(seen)) == each * world
    centre, counted = slice(2, 34), []
    for share in shares:
        batches = Loader(data.val, EvalBatches(len(data.val), 7, share), workers, False)
        counted += [image.tobytes() for b in batches if b for image in b.images.permute(0, 2, 3, 1).numpy()]
    assert sorted(counted) == sorted(p[centre, centre].tobytes() for p in pixels["val"])


def pixels_by_bytes(source: Any) -> list[np.ndarray]:
    return [source[i][0].data.reshape(36, 36, 3) for i in range(len(source))]
