"""Loader processes that die, hang or are stopped are restarted with the same batches, or a message says why not."""

import gc
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ranger21.data.images import ImageBatch, ImageDataset
from ranger21.data.loader import RESTARTS, Loader
from ranger21.data.order import EvalBatches, Share, TrainBatches
from ranger21.data.sockets import prepare_sockets
from ranger21.data.transforms.base import Transform
from ranger21.engine.course import Course
from ranger21.system.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the signals and control groups of Linux")


class Numbers:
    """48 images whose pixels are their index; reading one calls `act` with it."""

    def __init__(self, act: Callable[[int], object] = id) -> None:
        self.act = act

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.act(index)
        return np.full((1, 2, 2), index, np.uint8), index


class Noisy(Transform):
    def __call__(self, image: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image + np.uint8(100 * numbers[0]))


def loader(act: Callable[[int], object] = id, workers: int = 2, timeout: float = 60.0, val: bool = False) -> Loader:
    batches = EvalBatches(48, 4, Share()) if val else TrainBatches(Course(48, 4, 9), 3, 1, 18, Share())
    return Loader(ImageDataset(Numbers(act), Noisy(), 7), batches, workers, pin_memory=False, timeout=timeout)


EXPECTED = list(loader(workers=0))


def assert_expected(batches: list[ImageBatch | None], expected: list[ImageBatch | None] = EXPECTED) -> None:
    assert len(batches) == len(expected) >= 12
    for one, other in zip(batches, expected, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_too_little_shared_memory_is_named() -> None:
    """A limit of the loader process simulates a container with 64 MiB of shared memory."""

    def starve(index: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    text = r"not allocate shared memory \(unable to .*Enlarge /dev/shm .* or reduce data.workers"
    with pytest.raises(UserError, match=text):
        list(loader(starve))


def test_a_tmpdir_too_long_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would wait forever for a socket whose path is too long."""
    prepare_sockets()
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 75)
    with pytest.raises(UserError, match=r"^TMPDIR=/x+ is too long for the sockets .* at most 75 characters"):
        loader()
    loader(workers=0)
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 74)
    loader()


def pids() -> list[int]:
    return sorted(process.pid for process in multiprocessing.active_children())


@pytest.fixture(autouse=True)
def no_processes_are_left() -> Iterator[None]:
    """End the loader processes that a test leaves, and assert that they obey their parent's SIGTERM.

    If they are in a reference cycle, torch cannot end them itself and waits 10 s.
    """
    yield
    for pid in pids():
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and pids():
        time.sleep(0.02)
    left = pids()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    gc.collect()
    assert not left


@pytest.fixture
def told() -> Iterator[list[str]]:
    """The logged warnings."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("ranger21")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


@pytest.mark.parametrize("after", [1, 7, 17])
@pytest.mark.parametrize("who", ["one", "all"])
def test_a_killed_process_is_replaced(after, who, told):
    batches = iter(loader())
    seen = [next(batches) for _ in range(after)]
    victims = pids()
    assert len(victims) == 2
    for pid in victims if who == "all" else victims[:1]:
        os.kill(pid, signal.SIGKILL)
    assert_expected(seen + list(batches))
    if after < 17:  # after 17, the last batches had been made already
        assert len(told) == 1 and told[0].startswith("A worker died, which is often due to lack of memory (")
        assert told[0].endswith("). The workers are restarted.")


def test_a_dead_process_raises_no_error_in_the_main_thread():
    """torch's SIGCHLD handler would raise an error in the line that is running."""
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader())
    seen = [next(batches)]
    assert signal.getsignal(signal.SIGCHLD) == before
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    while time.monotonic() - begin < 0.5:  # stands for a training step
        subprocess.run(["true"], check=True)
    assert_expected(seen + list(batches))


class Hangs:
    """Hang at image 20 if the file `flag` exists, which is deleted first unless `always`."""

    def __init__(self, flag: Path, always: bool = False) -> None:
        self.flag, self.always = flag, always
        flag.touch()

    def __call__(self, index: int) -> None:
        if index == 20 and self.flag.exists():
            if not self.always:
                self.flag.unlink()
            self.lie_down()

    def lie_down(self) -> None:
        time.sleep(1000)


def test_a_process_that_hangs_is_reported_and_replaced(tmp_path, told):
    begin = time.monotonic()
    assert_expected(list(loader(Hangs(tmp_path / "flag"), timeout=1.5)))
    assert 1.5 < time.monotonic() - begin < 12
    stacks = [line for line in told if line.startswith("Worker ")]
    assert len(stacks) == 2 and len(told) == 3
    assert any("in lie_down" in stack and "test_loader_watch.py" in stack for stack in stacks), stacks
    assert told[-1].startswith("The workers delivered no batch for 1.5 s (data.timeout; their stacks are above)")


def test_an_image_that_always_hangs_is_an_error(tmp_path, told):
    begin, batches, seen = time.monotonic(), iter(loader(Hangs(tmp_path / "flag", always=True), timeout=1)), []
    with pytest.raises(UserError) as caught:
        seen.extend(batches)
    assert time.monotonic() - begin < 20
    text = rf"delivered no batch for 1 s .*, {RESTARTS + 1} times in a row. Try fewer data.workers.$"
    caught.match(text)
    due = next(i for i, batch in enumerate(EXPECTED) if 20 in batch.labels)
    assert len(seen) <= due and sum("are restarted" in line for line in told) == RESTARTS


def test_only_deaths_in_a_row_are_counted(tmp_path, told):
    batches, seen = iter(loader()), []
    for _ in range(RESTARTS + 2):
        seen += [next(batches), next(batches), next(batches)]
        for pid in pids():
            os.kill(pid, signal.SIGKILL)
    assert_expected(seen + list(batches))
    assert len(told) == RESTARTS + 2


def test_a_stopped_process_is_noticed(told):
    batches = iter(loader(timeout=1.5))
    seen = [next(batches)]
    os.kill(pids()[0], signal.SIGSTOP)
    assert_expected(seen + list(batches))
    assert any("no answer: it waits for the disk or the network, or was stopped" in line for line in told)


def test_processes_stopped_between_two_passes_are_noticed(told):
    validation = loader(timeout=1.5, val=True)
    first = list(validation)
    for pid in pids():
        os.kill(pid, signal.SIGSTOP)
    watchdog = threading.Timer(20, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids()])
    watchdog.start()
    begin = time.monotonic()
    assert_expected(list(validation), first)
    watchdog.cancel()
    assert time.monotonic() - begin < 15 and told


def test_only_the_loaders_own_processes_are_killed(tmp_path):
    """Another process may by now have the number of a loader process that died long ago."""
    other = subprocess.Popen(["sleep", "100"])
    busy = loader(Hangs(tmp_path / "flag"), timeout=1.5)
    busy._workers.pids.add(other.pid)
    assert_expected(list(busy))
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError, EOFError])
def test_other_errors_are_not_swallowed(kind, workers, told):
    def act(index: int) -> None:
        if index == 20:
            raise kind("a mistake of the program's")

    seen = []
    with pytest.raises(kind, match="a mistake of the program's"):
        seen.extend(loader(act, workers))
    assert not told and len(seen) <= 11


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_is_raised_unchanged(workers, told):
    def act(index: int) -> None:
        if index == 20:
            raise UserError("The image 20 cannot be read.")

    with pytest.raises(UserError, match=r"^The image 20 cannot be read\.$"):
        list(loader(act, workers))
    assert not told


def test_validation_keeps_its_processes_between_passes():
    validation = loader(val=True)
    first, workers = list(validation), pids()
    assert [label for batch in first for label in batch.labels.tolist()] == list(range(48)) and len(workers) == 2
    assert_expected(list(validation), first)
    given_up = iter(validation)
    next(given_up)
    given_up.close()  # a run that is stopped closes its iterator
    assert_expected(list(validation), first)
    assert pids() == workers


def test_processes_killed_between_two_passes_are_replaced(told):
    validation = loader(val=True)
    first = list(validation)
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    assert_expected(list(validation), first)
    assert_expected(list(validation), first)
    assert len(told) == 1
