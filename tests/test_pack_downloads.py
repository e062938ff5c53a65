"""A pack straight from any download has the same bytes as by way of folders, also after kills."""

import json
import os
import pickle
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.archives import contents, make_archives, make_few, make_parquet, need_readers
from support.download_harms import cut, removed
from support.downloads import DOWNLOADS
from support.packs import JPEG, RAW, die_at, file_digests, make_shards_small, pack_by_command, sources_of
from support.training import TINY

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.pack import FACTS
from ranger21.downloads.forms import recognize
from ranger21.downloads.prepare import prepare
from ranger21.packing import spill
from ranger21.packing.download import pack_download
from ranger21.packing.located import located_sources
from ranger21.packing.make import make_pack
from ranger21.system.errors import UserError

need_readers("scipy", "pyarrow")

OFFICIAL = ("official", "parquet")  # forms beside those of DOWNLOADS
SPILLED = ("parquet", "hub_archives")  # forms that can only be read from their beginning


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, and every form of them as a folder of its own."""
    folder = make_few(images, tmp_path_factory.mktemp("few"), 3)
    for form, (make, _) in DOWNLOADS.items():
        make(folder, folder / form)
    return folder


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    return compose_config([*TINY, "data.root=null"]).data


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of four images, and files of two where a download is read from its beginning."""
    make_shards_small(monkeypatch, 4)
    monkeypatch.setattr(spill, "IMAGES_A_FILE", 2)


@pytest.fixture(scope="module")
def truth(few: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The packs of the prepared folders, by format."""
    folder = tmp_path_factory.mktemp("truth")
    prepare(few / "official", folder / "tree", 1)
    from_tree = compose_config([*TINY, f"data.root={folder / 'tree'}"]).data
    with pytest.MonkeyPatch.context() as patch:
        make_shards_small(patch, 4)
        for recipe in (JPEG, RAW):
            assert make_pack(sources_of(from_tree), from_tree, recipe, folder / recipe.format, 1)
    return {recipe.format: file_digests(folder / recipe.format) for recipe in (JPEG, RAW)}


def made(source: Path, config: ImageFolderConfig, target: Path, recipe: Any = JPEG, **options: Any) -> bool:
    checksums = options.pop("checksums", source.name not in ("official", "flat_devkit", "class_archives"))
    return pack_download(source, config, recipe, target, options.pop("processes", 1), checksums=checksums, **options)


@pytest.mark.parametrize("form", [*OFFICIAL, *DOWNLOADS])
def test_every_form_gives_the_same_pack(form, few, config, truth, tmp_path, capsys):
    source, before = few / form, contents(few / form)
    assert made(source, config, tmp_path / "pack")
    assert file_digests(tmp_path / "pack") == truth["jpeg"]
    assert form in OFFICIAL or DOWNLOADS[form][1] in capsys.readouterr().out
    assert not made(source, config, tmp_path / "pack"), "it is complete"
    (tmp_path / "pack" / "train-00001.tar").unlink()
    assert made(source, config, tmp_path / "pack")
    assert file_digests(tmp_path / "pack") == truth["jpeg"]
    assert contents(source) == before


@pytest.mark.parametrize("form", ["official", *SPILLED])
def test_raw_packs_and_several_processes_do_not_change_the_bytes(form, few, config, truth, tmp_path):
    assert made(few / form, config, tmp_path / "pack", RAW, processes=2)
    assert file_digests(tmp_path / "pack") == truth["raw"]


def test_a_source_that_was_read_works_in_another_process(few, config):
    """The archive that is open in one process is not so in another, where its descriptor may be another file's."""
    sources = located_sources(few / "official", recognize(few / "official").parts, 1)
    expected = [sources["train"][image][0].data.tobytes() for image in range(9)]
    sent = pickle.dumps(sources["train"])
    sources["val"][0], sources["train"]._reader.close()
    with tempfile.TemporaryFile(), tempfile.TemporaryFile():
        assert [image.data.tobytes() for image, _ in map(pickle.loads(sent).__getitem__, range(9))] == expected


@pytest.mark.parametrize("form", ["official", "kaggle_zip", *SPILLED])
def test_a_pack_is_the_same_after_a_kill_at_any_moment(form, few, config, truth, tmp_path):
    def make(name: object) -> None:
        made(few / form, config, tmp_path / str(name))

    moment, every = 1, 11 if form in SPILLED else 6
    while die_at(moment, partial(make, moment)):
        make(moment)
        assert file_digests(tmp_path / str(moment)) == truth["jpeg"], moment
        moment += every
    assert moment > 3 * 10
    for again in range(6):  # one pack that is killed repeatedly and gets a little further each time
        die_at(5 * again + 2, partial(make, "worn"))
    make("worn")
    assert file_digests(tmp_path / "worn") == truth["jpeg"]


@pytest.mark.parametrize("form", ["official", *SPILLED])
def test_unreadable_images_stop_the_command_or_are_skipped(form, few, config, tmp_path):
    bad = shutil.copytree(few, tmp_path / "few")
    first = sorted((bad / "train" / "n99000001").iterdir())[0]
    first.write_bytes(b"no image")
    if form == "hub_archives":
        shutil.rmtree(bad / form)
        DOWNLOADS[form][0](bad, bad / form)
    else:
        make_archives(bad, bad / "official")
        make_parquet(bad, bad / "parquet", files=2)
    with pytest.raises(UserError, match=rf"{first.name} in .*: download it again\. Or skip .* --on-bad-image skip\.$"):
        made(bad / form, config, tmp_path / "pack")
    assert made(bad / form, config, tmp_path / "pack", skip=True)
    skipped = json.loads((tmp_path / "pack" / FACTS).read_text())["skipped"]
    assert list(skipped["train"]) == [f"n99000001/{first.name}"] and not skipped["val"]
    if form != "official":  # what was left out when the images were read is an error afterwards, too
        (tmp_path / "pack" / "train-00001.tar").unlink()
        with pytest.raises(UserError, match="Or skip unreadable images"):
            made(bad / form, config, tmp_path / "pack")


def test_files_of_another_recipe_or_download_are_made_again(few, config, truth, tmp_path):
    """The unfinished files of a kill are not used if anything has changed."""
    source, target = shutil.copytree(few / "parquet", tmp_path / "parquet"), tmp_path / "pack"
    assert die_at(14, lambda: made(source, config, target, replace(JPEG, quality=50)))
    old = {path: path.stat().st_ino for path in (target / ".spill").glob("*.images")}
    assert len(old) == 2
    assert die_at(14, lambda: made(source, config, target))
    assert not {path for path, inode in old.items() if path.stat().st_ino == inode}
    file = source / "data" / "train-00000-of-00002.parquet"
    os.utime(file, (1, 1))
    assert made(source, config, target) and file_digests(target) == truth["jpeg"]
    with pytest.raises(UserError, match=r"a pack with a different recipe: .*quality 95.* there, .*quality 50.* now"):
        made(source, config, target, replace(JPEG, quality=50))
    make_parquet(few, tmp_path / "same", files=1)
    assert not made(tmp_path / "same", config, target), "it has the same images"
    for split in ("train", "val"):
        shutil.copytree(few / split, tmp_path / "fewer" / split)
    next((tmp_path / "fewer" / "train" / "n99000001").iterdir()).unlink()
    make_parquet(tmp_path / "fewer", tmp_path / "less", files=1)
    with pytest.raises(UserError, match="already has a pack with a different source"):
        made(tmp_path / "less", config, target)


REFUSED = {
    "cut": ("arrow_cached", cut("imagenet-1k-train-00001-of-00002.arrow"), "is damaged or truncated (it has no end"),
    "cut gzip": ("hub_archives", cut("train_images_3.tar.gz", 5000), "train_images_3.tar.gz is damaged or truncated ("),
    "missing": ("hub_archives", removed("train_images_3.tar.gz"), "lacks train_images_3.tar.gz. Download it as well."),
    "a class less": ("flat_csv", removed("train/n99000001"), "n99000001"),
    "a file twice": (
        "hub_archives",
        lambda source: shutil.copy(source / "train_images_3.tar.gz", source / "train_images_4.tar.gz"),
        "has several images train/n9900000",
    ),
    "sorted": ("validation", lambda s: (s / "validation").rename(s / "val"), "Use it as it is, with data.root=$SOURCE"),
    "empty": ("kaggle_zip", lambda s: [path.unlink() for path in s.iterdir()], "has no form of ImageNet that is known"),
    "checksum": ("flat_devkit", lambda source: None, "ILSVRC2012_devkit_t12.tar.gz is damaged or not the official"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_download_is_refused(kind, few, config, tmp_path):
    form, harm, words = REFUSED[kind]
    source = shutil.copytree(few / form, tmp_path / "source")
    harm(source)
    before = contents(source)
    with pytest.raises(UserError) as caught:
        pack_download(source, config, JPEG, tmp_path / "pack", 1)
    assert words.replace("$SOURCE", str(source)) in str(caught.value)
    assert contents(source) == before and not list((tmp_path / "pack").glob("*.tar"))


def test_the_command(few, truth, tmp_path):
    """Its first line comes at once; options that would have no effect are refused."""
    options = [*(o for o in TINY if o.startswith("data")), "--processes", "1"]
    zipped, target = few / "kaggle_zip", tmp_path / "pack"
    output = pack_by_command(target, "--from", str(zipped), *options, env=os.environ | {"IMAGENET_DIR": "/elsewhere"})
    lines = output.splitlines()
    assert lines[0] == f"looking at {zipped}" and DOWNLOADS["kaggle_zip"][1] in output and "data.root" not in output
    assert f"{target} is complete. To train from it: python train.py data=imagenet " in output
    assert f"12 images, {JPEG}: about" in output
