"""Damage to a checkpoint file is detected or harmless, and a failing read is not mistaken for damage."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.checkpoints import make_state, same_state
from support.hostile_checkpoints import copy_archive, write_pickle
from support.project import FORMATS

from ranger21.records.checkpoint_file import Damaged, State, read, read_file
from ranger21.system.errors import UserError

RUNS = sorted((FORMATS / "runs" / "paper").iterdir())


def stretches(path: Path) -> tuple[list[int], list[int]]:
    """Return the positions of a checkpoint's bytes outside its tensors, and of those inside."""
    tensors: set[int] = set()
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for info in archive.infolist():
            if info.filename.split("/")[1] == "data":
                file.seek(info.header_offset + 26)
                lengths = file.read(4)
                begin = info.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                tensors |= set(range(begin, begin + info.file_size))
    return sorted(set(range(path.stat().st_size)) - tensors), sorted(tensors)


def flipped(path: Path, bits: list[tuple[int, int]]) -> Counter[str]:
    """Flip bits one at a time; count the detected and the harmless flips, and assert that there are no others."""
    state, outcomes = read(path), Counter[str]()
    with open(path, "r+b", buffering=0) as file:
        raw = path.read_bytes()
        for position, bit in bits:
            file.seek(position)
            file.write(bytes([raw[position] ^ 1 << bit]))
            try:
                assert same_state(read(path), state), (position, bit)
                outcomes["as it was"] += 1
            except Damaged as error:
                outcomes["damaged"] += 1
                assert str(error) and "\n" not in str(error)
            file.seek(position)
            file.write(raw[position : position + 1])
    return outcomes


@pytest.fixture
def small(tmp_path: Path) -> Path:
    weights = {"weight": torch.tensor([1.5, -2.0, 0.0]), "count": torch.tensor(7)}
    torch.save({"model": weights, "step": 7, "names": ["cat", "dog"]}, tmp_path / "small.pt")
    return tmp_path / "small.pt"


def test_every_flipped_bit_outside_the_tensors_is_detected_or_harmless(small: Path) -> None:
    around, _ = stretches(small)
    outcomes = flipped(small, [(position, bit) for position in around for bit in range(8)])
    assert outcomes.total() == len(around) * 8 > 10_000
    assert outcomes["damaged"] > outcomes.total() / 3  # most of the others are padding


def test_every_flipped_bit_of_a_tensor_is_detected(tmp_path: Path) -> None:
    """Ten thousand random bits are flipped."""
    torch.save(make_state(7, numbers=5000), tmp_path / "large.pt")
    rng, (_, tensors) = random.Random(0), stretches(tmp_path / "large.pt")
    bits = [(rng.choice(tensors), rng.randrange(8)) for _ in range(10_000)]
    assert flipped(tmp_path / "large.pt", bits) == {"damaged": 10_000}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("run", range(len(RUNS)))
def test_flipped_bits_of_a_runs_checkpoint_are_detected_or_harmless(
    tmp_path: Path, run: int, record_property: Callable[[str, object], None]
) -> None:
    """Flip 10,000 random bits of its structure (mostly padding and names) and 10,000 of its tensors."""
    path = tmp_path / "last.pt"
    path.write_bytes((RUNS[run] / "checkpoints" / "last.pt").read_bytes())
    rng, (around, tensors) = random.Random(run), stretches(path)
    began = time.monotonic()
    structure = flipped(path, [(rng.choice(around), rng.randrange(8)) for _ in range(10_000)])
    contents = flipped(path, [(rng.choice(tensors), rng.randrange(8)) for _ in range(10_000)])
    record_property("structure", dict(structure))
    record_property("tensors", dict(contents))
    record_property("seconds", round(time.monotonic() - began))
    assert structure["damaged"] > 1000 and contents == {"damaged": 10_000}


def test_several_flipped_bits_at_once_are_detected_or_harmless(small: Path) -> None:
    state, raw, rng = read(small), small.read_bytes(), random.Random(0)
    for _ in range(1000):
        harmed = bytearray(raw)
        for _ in range(rng.randrange(2, 6)):
            harmed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        small.write_bytes(harmed)
        with contextlib.suppress(Damaged):
            assert same_state(read(small), state)


def test_a_record_marked_as_a_folder_is_damaged(small: Path) -> None:
    """torch would return uninitialized memory for such a record, although the checksums are right."""
    with zipfile.ZipFile(small) as archive:
        entry = archive.start_dir
        for info in archive.infolist():
            raw = bytearray(small.read_bytes())
            assert raw[entry : entry + 4] == b"PK\x01\x02"
            raw[entry + 38] |= 0x10
            (small.parent / "folder.pt").write_bytes(raw)
            with pytest.raises(Damaged, match=f"{info.filename} is marked as a folder"):
                read(small.parent / "folder.pt")
            entry += 46 + len(info.filename) + len(info.extra) + len(info.comment)


@pytest.mark.parametrize("change", [lambda data: data[:8], lambda data: data + bytes(64), lambda _: b""])
def test_a_record_whose_size_differs_from_its_tensors_is_damaged(small: Path, change: Callable[[bytes], bytes]) -> None:
    other = small.parent / "other.pt"
    copy_archive(small, other, lambda name, data: change(data) if name.endswith("data/0") else data)
    with pytest.raises(Damaged):
        read(other)


def test_a_tensor_that_the_pickle_does_not_name_is_damage(small: Path) -> None:
    with zipfile.ZipFile(small, "a") as archive:
        archive.writestr("small/data/99", bytes(12))
    with pytest.raises(Damaged, match="the sizes of its records do not match its tensors"):
        read(small)


def test_archives_that_torch_did_not_write_are_damaged(small: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(small, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("small/version", b"3\n")
    with pytest.raises(Damaged, match="two of its records have the same name"):
        read(small)
    with zipfile.ZipFile(tmp_path / "none.pt", "w"):
        pass
    write_pickle(tmp_path / "compressed.pt", b"}.", bulk=b"")
    copy_archive(tmp_path / "compressed.pt", tmp_path / "bomb.pt", lambda _, data: bytes(1 << 20), zipfile.ZIP_DEFLATED)
    for name, words in (("none", "does not begin"), ("bomb", "is compressed")):
        with pytest.raises(Damaged, match=words):
            read(tmp_path / f"{name}.pt")
    write_pickle(tmp_path / "plain.pt", b"}.")
    assert read(tmp_path / "plain.pt") == {}


class Failing(io.FileIO):
    """A file whose reads fail: `times` reads in a row, beginning with the read number `first`."""

    first, times, reads = 0, 0, 0

    def readinto(self, buffer: Any) -> int | None:
        Failing.reads += 1
        if Failing.first <= Failing.reads < Failing.first + Failing.times:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(buffer)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    """Replace `open` by one whose files fail as set in the class."""

    def fake(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return Failing(path, "r") if mode == "rb" else builtins.open(path, mode, *rest, **named)

    monkeypatch.setattr("ranger21.records.checkpoint_file.open", fake, raising=False)
    return Failing


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("times", [1, 10**6])
def test_a_read_that_fails_is_not_damage(tmp_path: Path, failing: type[Failing], times: int, old: bool) -> None:
    """Every read of the file fails once, either for a moment or permanently."""
    path, state = tmp_path / "last.pt", make_state(3, numbers=20_000)
    torch.save(state, path, _use_new_zipfile_serialization=not old)
    failing.first, failing.times, failing.reads = 0, 0, 0
    found: State = read_file(path)
    assert same_state(found, state)
    reads = failing.reads
    assert reads >= 2
    repeated = 0
    for first in range(1, reads + 1):
        failing.first, failing.times, failing.reads = first, times, 0
        try:
            again = read_file(path) if old else read(path)
        except UserError as error:
            assert old and "cannot be read (Input/output error)" in str(error)
        except OSError as error:
            assert not old and error.errno == errno.EIO
        else:  # rarely, Python or torch repeats the read that failed
            repeated += 1
            assert times == 1 and same_state(again, state)
    assert repeated < reads / 2
    failing.first, failing.times = 0, 0
    assert same_state(read_file(path), state)


def test_a_file_that_cannot_be_opened_or_read_raises_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        read(Path("/proc/self/mem"))  # the system refuses to read its first byte
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.pt")
    (tmp_path / "link.pt").symlink_to("gone.pt")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "link.pt")


def test_too_little_memory_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(make_state(3), tmp_path / "last.pt")

    def none(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", none)
    with pytest.raises(OSError) as caught:
        read(tmp_path / "last.pt")
    assert caught.value.errno == errno.ENOMEM


def test_nan_infinity_and_empty_tensors_are_read_back(tmp_path: Path) -> None:
    state = {"model": {"w": torch.tensor([float("nan"), float("inf"), -0.0])}, "empty": torch.zeros(0, 3)}
    torch.save(state, tmp_path / "nan.pt")
    found = read(tmp_path / "nan.pt")
    assert found["model"]["w"].isnan()[0] and found["empty"].shape == (0, 3)
