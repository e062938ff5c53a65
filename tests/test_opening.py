"""Hostile image files: opening one uses little memory and time, and starts no other program."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.image_files import EPS, jpeg, jpeg_of_many_scans, png

from ranger21.data.decode import Encoded, to_picture, to_tensor
from ranger21.data.oddities import oddities
from ranger21.data.safe_open import MAX_BYTES, MAX_SCANS, count_scans, jpeg_frame, read_file
from ranger21.system.errors import UserError


def tiff_with_a_large_tile() -> bytes:
    """Return a TIFF of 10 x 10 pixels in one tile of a billion pixels."""
    tags = [(256, 10), (257, 10), (258, 8), (259, 8), (262, 1), (277, 1), (322, 1 << 20), (323, 1 << 10), (324, 200)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (325, 1000)])
    return (b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + entries).ljust(200, b"\0") + zlib.compress(bytes(10**6))


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "EPS": ("it is not an image in a supported format: JPEG, PNG, WEBP, TIFF, BMP, PPM, GIF", lambda: EPS),
    "pixels": ("it has 13000 x 13000 pixels, more than the limit of 89,478,485", lambda: png(13_000, 13_000)),
    "more pixels": ("it has 400,000,000 pixels", lambda: png(20_000, 20_000, b"")),
    "scans": (f"it has more than {MAX_SCANS} scans", lambda: jpeg_of_many_scans(20_000)),
    "a tile": ("it has 1048576 x 1024 pixels", tiff_with_a_large_tile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_is_refused_by_its_header(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers and verify refuse it, and an installed Ghostscript does not run."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'canary'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words, make = HOSTILE[kind]
    (tmp_path / "x.JPEG").write_bytes(data := make())
    image = Encoded(np.frombuffer(data, np.uint8), "x.JPEG", "remove it")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the current use
    peak = memory_peak()
    began = time.monotonic()
    for read in (to_tensor, to_picture):
        with pytest.raises(UserError) as caught:
            read(image)
        assert str(caught.value).startswith(f"The image x.JPEG cannot be read ({words}")
    [(found, why)] = oddities(tmp_path / "x.JPEG")
    assert found == "unreadable" and why.startswith(words)
    assert time.monotonic() - began < 5 and memory_peak() - peak < 100e6
    assert not (tmp_path / "canary").exists()


def memory_peak() -> float:
    """Return this process's peak memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def test_scans_of_a_jpeg_are_counted() -> None:
    for data, scans in ((jpeg(), 1), (jpeg(progressive=True), jpeg(progressive=True).count(b"\xff\xda"))):
        array = np.frombuffer(data, np.uint8)
        frame = jpeg_frame(array)
        assert frame is not None and frame == (64, 64, 3, 8, scans) and count_scans(array, 2) == scans
        tail = np.frombuffer(data + b"\xff\xda" * 999, np.uint8)  # a film after the picture, as cameras store it
        assert jpeg_frame(tail) == frame
    hidden = jpeg(progressive=True)
    at = hidden.rindex(b"\xff\xda")
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xda"  # a marker inside a comment is neither an end nor a scan
    frame = jpeg_frame(np.frombuffer(hidden[:at] + comment + hidden[at:], np.uint8))
    assert frame is not None and frame.scans == hidden.count(b"\xff\xda")
    assert to_tensor(Encoded(np.frombuffer(jpeg_of_many_scans(MAX_SCANS), np.uint8), "x", "")).shape == (3, 64, 64)


def test_only_regular_files_below_the_size_limit_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe.JPEG").symlink_to("pipe")
    (tmp_path / "zero.JPEG").symlink_to("/dev/zero")
    with open(tmp_path / "large.JPEG", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, why in (
        ("pipe", "not a regular file"),
        ("zero", "not a regular file"),
        ("large", "more than the limit of 357,913,940"),
    ):
        with pytest.raises(ValueError, match=why):
            read_file(tmp_path / f"{name}.JPEG")
    (tmp_path / "plain.JPEG").write_bytes(data := jpeg())
    assert read_file(tmp_path / "plain.JPEG").tobytes() == data
