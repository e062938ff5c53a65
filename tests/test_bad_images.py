"""Any file in an image folder either is read, or gives an error message that names it; with both front ends."""

import json
import os
import resource
import shutil
import signal
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.image_files import RGB, SIZE, saved
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed, run_ranks

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.system.errors import UserError

Result = torch.Tensor | str
RNG = np.random.default_rng(0)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG of any size and kind, also of those that Pillow does not write."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    parts = [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    encoded = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks + parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(encoded)


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6  # rotated by 90 degrees
    return tags


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


JPEG = saved(quality=95, subsampling="4:4:4")
WIDE = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[1], SIZE[0]) * 16
WIDE_ROWS = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.repeat(WIDE, 3, 1))
GOOD = {
    "plain": JPEG,
    "progressive": saved(progressive=True),
    "half the colours": saved(subsampling="4:2:0"),
    "grey": saved(RGB.convert("L")),
    "CMYK": saved(RGB.convert("CMYK")),
    "orientation": saved(exif=exif()),
    "PNG": saved(kind="PNG"),
    "16-bit grey PNG": saved(Image.fromarray(WIDE), "PNG"),
    "16-bit RGB PNG": png(*SIZE, 16, 2, WIDE_ROWS),
    "palette": saved(RGB.convert("P"), "PNG", transparency=3),
    "palette of bytes": saved(RGB.convert("P"), "PNG", transparency=bytes(range(256))),
    "grey and transparent": saved(RGB.convert("LA"), "PNG"),
    "transparent": saved(RGB.convert("RGBA"), "PNG"),
    "one bit": saved(RGB.convert("1"), "PNG"),
    "GIF": saved(kind="GIF"),
    "WEBP": saved(kind="WEBP"),
    "TIFF": saved(kind="TIFF"),
    "32-bit TIFF": saved(Image.fromarray(WIDE.astype(np.int32)), "TIFF"),
    "real TIFF": saved(Image.fromarray(WIDE.astype(np.float32) / 300), "TIFF"),
    "YCbCr TIFF": saved(RGB.convert("YCbCr"), "TIFF"),
    "BMP": saved(kind="BMP"),
    "one pixel": saved(Image.new("RGB", (1, 1), (9, 99, 199))),
    "a line": saved(Image.new("RGB", (200, 1), (9, 99, 199))),
    "tail": JPEG + b"<html>" * 99,
}
BAD = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"404: not found\n",
    "HTML": b"<!DOCTYPE html><html><body>Too many requests</body></html>" * 20,
    "zeros": bytes(5000),
    "only a beginning": b"\xff\xd8",
    "noise after a beginning": b"\xff\xd8" + RNG.bytes(5000),
    "noise after a header": JPEG[:20] + RNG.bytes(5000),
    "monstrous JPEG": with_size(JPEG, 65500, 65500),
    "monstrous PNG": png(65500, 65500, 8, 2, b"\0" * 1000),
    "JPEG of no size": with_size(JPEG, 0, 0),
    "PNG of no size": png(0, 0, 8, 2, b""),
    "PNG cut short": saved(kind="PNG", compress_level=0)[:5000],
    "a line": saved(Image.new("RGB", (4000, 3))),
    "12 bits": JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
} | {f"cut at {keep}": JPEG[:keep] for keep in (3, 11, 20, 150, 300, 500, 620, 800, len(JPEG) // 2, len(JPEG) * 4 // 5)}


@pytest.fixture(scope="module")
def config() -> ImageFolderConfig:
    return compose_config([*TINY, "data.root=/nowhere"]).data


def good_images(root: Path) -> None:
    """Write one image for each class, except in val/n1."""
    for folder in ("train/n1", "train/n2", "val/n1", "val/n2"):
        (root / folder).mkdir(parents=True)
        if folder != "val/n1":
            (root / folder / "good.JPEG").write_bytes(JPEG)


@pytest.fixture
def read(config, tmp_path) -> Callable[..., tuple[Result, Result]]:
    """Return a function that writes an image, or calls `content` to make one, and reads it with both front ends."""

    def read_both(content: bytes | Callable[[Path], object], name: str = "image.JPEG") -> tuple[Result, Result]:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        good_images(root)
        place = root / "val" / "n1" / name
        place.write_bytes(content) if isinstance(content, bytes) else content(place)
        return both(replace(config, root=str(root)), place)

    return read_both


def both(config: ImageFolderConfig, place: Path) -> tuple[Result, Result]:
    results: list[Result] = []
    for front_end in ("pil", "fast"):
        pictures = build_data(replace(config, transforms=front_end), 0).val
        image = next(i for i in range(len(pictures)) if pictures.source.index.path(i).endswith(place.name))
        batch = pictures.__getitems__([(0, image)])
        if isinstance(batch, UserError):
            results.append(str(batch))
        else:
            assert batch.images.shape == (1, 3, 32, 32) and batch.images.dtype == torch.uint8
            results.append(batch.images[0])
    if isinstance(results[0], str) or isinstance(results[1], str):
        for result in results:
            assert isinstance(result, str), "only one of the two reads it"
            assert result.startswith(f"The image {place} cannot be read ("), result
            assert result.endswith("--expect none.") and "to find all such images, run " in result
            assert "\n" not in result
    return results[0], results[1]


def difference(one: Result, other: Result) -> float:
    return float((one.float() - other.float()).abs().mean())


@pytest.mark.parametrize("kind", GOOD)
def test_both_front_ends_read_valid_images_with_similar_pixels(kind, read):
    pil, fast = read(GOOD[kind])
    assert not isinstance(pil, str), pil
    assert difference(pil, fast) < 1.5


@pytest.mark.parametrize("kind", BAD)
def test_invalid_images_are_named_quickly_and_with_little_memory(kind, read):
    begin = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes
    pil, _ = read(BAD[kind])
    assert isinstance(pil, str) and time.monotonic() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_unusual_formats_are_read_with_the_right_pixels(read):
    """The EXIF orientation is ignored, 16-bit values keep their upper eight bits, transparency changes no colour."""
    plain = read(JPEG)[0]
    for kind in ("orientation", "PNG", "transparent", "WEBP", "TIFF", "BMP", "tail", "progressive"):
        assert difference(plain, read(GOOD[kind])[0]) < 4, kind
    high = read(saved(Image.fromarray((WIDE >> 8).astype(np.uint8)), "PNG"))[0]
    for kind in ("16-bit grey PNG", "16-bit RGB PNG", "32-bit TIFF"):
        assert difference(high, read(GOOD[kind])[0]) < 1, kind


NAMES = ("with a space.JPEG", "größe.jpeg", "日本.jpg", "a'b\"c.JPEG", "new\nline.JPEG", os.fsdecode(b"\xff\xfe.jpg"))


@pytest.mark.parametrize("name", NAMES)
def test_unusual_file_names_are_read_and_quoted_in_errors(name, read, config, tmp_path):
    assert not isinstance(read(JPEG, name)[0], str)
    if "\n" not in name:
        assert name in read(b"", name)[0]


def test_broken_links_are_named_and_folders_are_no_images(read):
    assert "No such file" in read(lambda place: place.symlink_to("nowhere"))[0]
    assert "symbolic links" in read(lambda place: place.symlink_to(place.name))[0]

    def folder(place: Path) -> None:
        place.mkdir()
        (place / "inner.JPEG").write_bytes(JPEG)

    with pytest.raises(StopIteration):  # a folder named like an image is not an image
        read(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_a_file_without_read_permission_is_named(config):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        good_images(Path(folder))
        place = Path(folder) / "val" / "n1" / "closed.JPEG"
        place.write_bytes(JPEG)
        place.chmod(0o000)
        os.seteuid(65534)
        try:
            assert "(Permission denied)" in both(replace(config, root=folder), place)[0]
        finally:
            os.seteuid(0)


def test_a_jpeg_with_a_flipped_byte_is_read_or_named(read):
    """The two front ends may get different pixels, but must agree on whether the image can be read."""
    readable = 0
    for at in [*range(0, 640, 7), *range(640, len(JPEG), 97)]:
        for mask in (0x01, 0xFF):
            result = read(JPEG[:at] + bytes([JPEG[at] ^ mask]) + JPEG[at + 1 :])[0]
            readable += not isinstance(result, str)
    assert readable > 20


def broken_copy(images: Path, root: Path, every: int) -> list[str]:
    """Copy the images and truncate every `every`-th training image; return the paths of the truncated ones."""
    shutil.copytree(images, root)
    broken = [path for i, path in enumerate(sorted((root / "train").rglob("*.JPEG"))) if i % every == 0]
    for path in broken:
        path.write_bytes(path.read_bytes()[:150])
    return [str(path) for path in broken]


def test_substituted_images_are_counted_and_listed_although_the_run_is_killed(images, tmp_path):
    broken = broken_copy(images, tmp_path / "data", 9)
    overrides = [*TINY, f"data.root={tmp_path / 'data'}", "data.on_bad_image=substitute", "data.workers=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_ranks(overrides, whole, 1) == [0]
    assert run_ranks(overrides, killed, 1, die_at=7, when="after") == [-signal.SIGKILL]
    assert run_ranks(overrides, killed, 1, die_at=12, when="before") == [-signal.SIGKILL]
    assert run_ranks(overrides, killed, 1) == [0]
    assert_same_state(last_checkpoint(killed), last_checkpoint(whole))
    assert metrics_without_speed(killed) == metrics_without_speed(whole)
    counts = [line["data/substituted"] for line in metrics_without_speed(whole) if "data/substituted" in line]
    assert counts == sorted(counts) and counts[-1] == len(broken) * 4  # each of them once per epoch
    for run in (whole, killed):
        listed = json.loads((run / "manifest.json").read_text())["data"]["unreadable"]
        assert len(listed) == len(broken)
        assert all(any(path in sentence for sentence in listed) for path in broken)


def test_a_training_set_without_a_readable_image_is_refused(images, tmp_path):
    broken_copy(images, tmp_path / "data", 1)
    overrides = [*TINY, f"data.root={tmp_path / 'data'}", "data.on_bad_image=substitute", "trainer.steps=1"]
    assert run_ranks(overrides, tmp_path / "run", 1) == [1]
    assert "UserError: The image " in (tmp_path / "run.out").read_text()
