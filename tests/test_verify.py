"""verify_imagenet.py finds every planted fault, and none in an intact dataset."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.project import ROOT

from ranger21.data import index_cache
from ranger21.data import verify as module
from ranger21.data.index_cache import cache_files
from ranger21.data.indexing import list_images, read_index
from ranger21.data.oddities import oddities
from ranger21.data.verify import NOTICES, WRONG, verify
from ranger21.system.errors import UserError

CLASS = "n99000001"
TRAIN = f"train/{CLASS}"


def command(*args: str | Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(ROOT / "scripts" / "verify_imagenet.py"), *map(str, args)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(images: Path, tmp_path: Path) -> Path:
    """Three of the ten classes, which a test may damage."""
    for split in ("train", "val"):
        for wnid in ("n99000000", CLASS, "n99000002"):
            shutil.copytree(images / split / wnid, tmp_path / "imagenet" / split / wnid)
    return tmp_path / "imagenet"


def found(root: Path, expect: str = "none") -> dict[str, list[tuple[str, str]]]:
    """Return the findings by kind, without kinds that have none."""
    report = verify(root, expect, 1)
    kinds = report["wrong"] | report["notices"]
    assert set(kinds) == set(WRONG | NOTICES)
    assert report["ok"] == (not any(report["wrong"].values()))
    return {kind: [(entry["file"], entry["why"]) for entry in entries] for kind, entries in kinds.items() if entries}


def picture(mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    image.save(buffer := io.BytesIO(), format, **options)
    return buffer.getvalue()


def with_orientation(value: int | None) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    if value is not None:
        exif[0x0112] = value
    return encoded(picture(), exif=exif)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size, with almost no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_of_size(side: int) -> bytes:
    """Return a JPEG whose header states a width and height of `side` pixels."""
    data = bytearray(encoded(picture()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def rgb_of_16_bits() -> bytes:
    row = b"\0" + bytes(range(60))  # ten pixels of three channels with two bytes each

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 4, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")


NOISE = encoded(picture())
PLANTED = {  # name: (kind, part of the reason, bytes)
    "cut_in_half.JPEG": ("unreadable", "truncated", NOISE[: len(NOISE) // 2]),
    "without_its_end.JPEG": ("unreadable", "truncated", NOISE[:-1]),
    "header_only.JPEG": ("unreadable", "", NOISE[:200]),
    "empty.JPEG": ("unreadable", "empty", b""),
    "text.JPEG": ("unreadable", "not an image in a supported format: JPEG, PNG,", b"<html>404</html>"),
    "zeros.JPEG": ("unreadable", "not an image in a supported format", bytes(5000)),
    "of_another_kind.JPEG": ("unreadable", "not an image in a supported format", encoded(picture(), "JPEG2000")),
    "cut.png": ("unreadable", "", encoded(picture(), "PNG")[:500]),
    "bomb.png": (
        "unreadable",
        "400,000,000 pixels, more than the limit of 89,478,485",
        png_header(20_000, 20_000),
    ),
    "bomb.JPEG": ("unreadable", "4,294,836,225 pixels", jpeg_of_size(65_535)),
    "png.JPEG": ("other_format", "PNG", encoded(picture(), "PNG")),
    "gif.jpg": ("other_format", "GIF", encoded(picture(), "GIF")),
    "jpeg.png": ("other_format", "JPEG", NOISE),
    "cmyk.JPEG": ("cmyk", "CMYK", encoded(picture("CMYK"))),
    "grey.JPEG": ("grey", "L", encoded(picture("L"))),
    "palette.png": ("palette", "P", encoded(picture("P"), "PNG")),
    "bits.png": ("grey", "1", encoded(picture("1"), "PNG")),
    "deep.png": ("deep", "I;16", encoded(Image.fromarray(np.full((9, 9), 999, np.uint16)), "PNG")),
    "deep_rgb.png": ("deep", "RGB", rgb_of_16_bits()),
    "alpha.png": ("other_mode", "RGBA", encoded(picture("RGBA"), "PNG")),
    "camera.JPEG": ("exif", "1 tags", with_orientation(None)),
    "upright.JPEG": ("exif", "2 tags", with_orientation(1)),
    "turned.JPEG": ("rotated", "orientation 6", with_orientation(6)),
    "plain.JPEG": (None, "", NOISE),
    "plain.png": (None, "", encoded(picture(), "PNG")),
    "plain.webp": (None, "", encoded(picture(), "WEBP")),
    "progressive.JPEG": (None, "", encoded(picture(), progressive=True)),
    "notes.txt": ("stray", "no image", b"hello"),
    "sky.avif": ("stray", "no image", b"hello"),
    ".DS_Store": ("hidden", "hidden by its name", b"hello"),
    "._plain.JPEG": ("hidden", "hidden by its name", b"resource fork"),
    "Thumbs.db": ("hidden", "hidden by its name", b"hello"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_file_is_found(name, root):
    before = found(root)
    kind, why, data = PLANTED[name]
    (root / TRAIN / name).write_bytes(data)
    now = found(root)
    new = {k: set(now[k]) - set(before.get(k, [])) for k in now if now[k] != before.get(k)}
    if kind is None:
        assert not new
        return
    assert [file for file, _ in new[kind]] == [f"{TRAIN}/{name}"]
    assert why in next(iter(new[kind]))[1]
    assert set(new) - {kind} <= ({"palette"} if name == "gif.jpg" else set())


def test_a_jpeg_truncated_anywhere_is_unreadable(tmp_path):
    for options in ({}, {"progressive": True}, {"optimize": True}):
        data = encoded(picture(), **options)
        for length in [*range(0, len(data), 97), len(data) - 2, len(data) - 1]:
            (tmp_path / "x.JPEG").write_bytes(data[:length])
            assert [kind for kind, _ in oddities(tmp_path / "x.JPEG")] == ["unreadable"], length


def test_damaged_exif_does_not_hide_the_image(root):
    data = bytearray(with_orientation(6))
    begin = data.index(b"Exif\0\0") + 6
    data[begin + 4 : begin + 8] = b"\xff\xff\xff\x7f"  # the offset of the tags: far beyond the end
    (root / TRAIN / "odd.JPEG").write_bytes(data)
    now = found(root)
    assert "unreadable" not in now and f"{TRAIN}/odd.JPEG" in [file for file, _ in now["exif"]]


@pytest.mark.parametrize("stuck", [False, True])
def test_a_stale_index_is_replaced(stuck, root, monkeypatch):
    """A start would use this index, because rewriting an image in place does not change its folder."""
    monkeypatch.setattr(index_cache, "SETTLED_SECONDS", -60)
    assert found(root) == (before := found(root))
    read_index(root / "train")
    min((root / TRAIN).iterdir()).write_bytes(NOISE)  # the first one, because each start checks the middle one
    if stuck:
        monkeypatch.setattr(Path, "unlink", failing(PermissionError(13, "Permission denied", "the index")))
        assert found(root)["stale_index"] == [
            ("train", "the index does not match the files and cannot be removed (Permission denied). Delete it")
        ]
        return
    place = cache_files(root / "train")[0]
    assert found(root)["index"] == [("train", f"{place} did not match the files and was replaced")]
    assert found(root) == before and read_index(root / "train").same_as(list_images(root / "train").index)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_broken_links_loops_and_pipes_are_found(root):
    folder = root / TRAIN
    for name, target in (("gone.JPEG", "nowhere"), ("itself.JPEG", "itself.JPEG"), ("up", "."), ("far", "../../train")):
        (folder / name).symlink_to(target)
    (folder / "fine.JPEG").symlink_to(next(folder.glob("n*.JPEG")).name)
    os.mkfifo(folder / "pipe.JPEG")
    now = found(root)
    assert now["broken_link"] == [(f"{TRAIN}/gone.JPEG", "links to nowhere")]
    loops = [file for file, _ in now["link_loop"]]
    assert {f"{TRAIN}/itself.JPEG", f"{TRAIN}/up", f"{TRAIN}/far/{CLASS}"} <= set(loops)
    assert now["stray"] == [(f"{TRAIN}/pipe.JPEG", "not a regular file")]
    assert verify(root, "none", 1)["splits"]["train"]["largest"]["class"] == CLASS


def test_missing_and_empty_classes_and_wrong_counts_are_found(root):
    shutil.rmtree(root / "val" / "n99000000")
    (root / TRAIN / "deeper").mkdir()
    (root / TRAIN / "deeper" / "x.JPEG").write_bytes(NOISE)
    (root / "train" / "n99000007").mkdir()
    (root / "val" / "x.JPEG").write_bytes(NOISE)
    (root / "val" / "gone").symlink_to("nowhere")
    (root / "val" / ".hidden").mkdir()
    now = found(root)
    assert now["one_split_only"] == [("train/n99000000", "not in val/"), ("train/n99000007", "not in val/")]
    assert now["empty_class"] == [("train/n99000007", "no images")]
    assert now["stray"] == [("val/x.JPEG", "not in a class folder")]
    assert [file for file, _ in now["broken_link"]] == ["val/gone"]
    splits = verify(root, "none", 1)["splits"]
    assert splits["train"] == {
        "classes": 4,
        "images": 25,
        "smallest": {"class": "n99000007", "images": 0},
        "largest": {"class": CLASS, "images": 9},
    }
    assert "counts" not in now
    counts = dict.fromkeys([file for file, _ in found(root, "imagenet")["counts"]])
    assert list(counts) == sorted(counts) and {"train", "val", TRAIN, f"val/{CLASS}"} <= set(counts)


def test_the_counts_of_imagenet_are_accepted():
    """Only the counts are checked, because the 1,281,167 images are not available here."""
    sizes = [732, *[1300] * 895, *[1124] * 103]
    sizes.append(1_281_167 - sum(sizes))
    folders = [
        module.ClassFolder(Path(), split, f"n{number:08d}", ("",) * count)
        for split, counts in (("train", sizes), ("val", [50] * 1000))
        for number, count in enumerate(counts)
    ]
    assert 732 <= sizes[-1] <= 1300 and not list(module.off_counts(folders))
    lost = module.ClassFolder(Path(), "val", folders[-1].name, ("",) * 49)
    findings = [(finding.file, finding.why) for finding in module.off_counts([*folders[:-1], lost])]
    assert findings == [("val", "49,999 images, not 50,000"), ("val/n00000999", "49 images, not 50")]


def test_the_command_reports_every_finding_with_any_number_of_processes(root, tmp_path):
    for name in ("camera.JPEG", "cut_in_half.JPEG", "png.JPEG"):
        (root / TRAIN / name).write_bytes(PLANTED[name][2])
    (root / "val" / CLASS / os.fsdecode(b"[red]\xff.JPEG")).write_bytes(b"")
    reports = []
    for processes in ("1", "2"):
        file = tmp_path / f"{processes}.json"
        done = command(root, "--expect", "none", "--json", file, "--processes", processes)
        assert done.returncode == 1 and not done.stderr, done.stderr
        assert f"{TRAIN}/cut_in_half.JPEG: image file is truncated" in done.stdout
        assert "[red]\\xff.JPEG: the file is empty" in done.stdout and "2 problems" in done.stdout
        assert f"{TRAIN}/png.JPEG: PNG" in done.stdout
        reports.append(file.read_text())
    assert reports[0] == reports[1]
    assert json.loads(reports[0])["wrong"]["unreadable"][0]["file"] == f"{TRAIN}/cut_in_half.JPEG"
    (root / TRAIN / "cut_in_half.JPEG").unlink()
    for image in (root / "val" / CLASS).glob("*red*"):
        image.unlink()
    done = command(root, "--expect", "none")
    assert done.returncode == 0 and "no problems" in done.stdout, done.stdout
    done = command(root)
    assert done.returncode == 1 and "train: 3 classes, not 1,000" in done.stdout, done.stdout


def test_a_folder_without_a_dataset_is_refused(root, tmp_path):
    with pytest.raises(UserError, match="ROOT must contain train/ and val/"):
        verify(tmp_path, "none", 1)
    (tmp_path / "flat" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="no class folders"):
        verify(tmp_path / "flat", "none", 1)
    done = command(tmp_path / "flat", "--json", tmp_path / "x.json")
    assert done.returncode == 1 and not (tmp_path / "x.json").exists()  # no empty report is written
    done = command(root, "--json", tmp_path / "nowhere" / "x.json")
    assert done.returncode == 1 and done.stderr.startswith("error: --json=") and "Traceback" not in done.stderr
