"""Checks that train with train.py as configured, kill the training and resume it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ranger21.config import ImageFolderConfig, TrainerConfig
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import State, read
from ranger21.system.errors import UserError
from ranger21.system.processes import die_with_the_parent
from ranger21.system.project import TRAIN
from ranger21.system.wording import one_line

STEPS, QUICK_STEPS = 20, 4  # steps between two checkpoints
LOGS = 4  # lines of metrics between two checkpoints
LOOK = 0.02  # seconds between two polls for a checkpoint
WAITS = 0.05  # fraction of the time that a training may wait for data


def folder(machine: Machine) -> Path:
    """Return the run directory of the training."""
    return machine.work / "run"


def steps(machine: Machine) -> CheckResult:
    """Train until there are two checkpoints, then kill the training (SIGKILL); report speed, data wait and memory."""
    two, memory = killed(machine)
    run, aside = folder(machine), machine.work / "kept"
    whole = (run / "metrics.jsonl").read_bytes().rpartition(b"\n")[0]  # without a line cut short by the kill
    lines = [json.loads(line) for line in whole.splitlines()]
    speeds = [line for line in lines if "perf/images_per_s" in line]
    if not speeds:
        return CheckResult("the training ended before it logged its speed", WARNING, "check a longer training")
    used = speeds[len(speeds) // 4 :] if len(speeds) > 3 else speeds[-1:]
    rate = statistics.median(line["perf/images_per_s"] for line in used)
    waited = statistics.median(line["perf/data_wait"] for line in used)
    peak = max((line.get("perf/gpu_memory_gb", 0.0) for line in lines), default=0.0)
    numbers: dict[str, Any] = {
        "images_per_s": rate, "data_wait": waited, "steps": lines[-1]["step"], "killed": bool(two),
        "gpu_memory_gib": peak or None, "host_memory_gib": memory / 2**30,
    }  # fmt: skip
    if two:
        numbers["checkpoint_bytes"] = (aside / "newer.pt").stat().st_size
    held = f"{peak:.3g} GiB of the device" if peak else f"{memory / 2**30:.3g} GiB"
    seen = f"{rate:,.4g} images/s over {len(used)} log lines, data_wait {waited:.1%}, peak memory {held}"
    own = machine.config.data.workers
    if waited > WAITS and (
        own or (own is None and device_of(machine).type != "cpu")
    ):  # without workers, the training process itself loads images
        remedy = "the device waits for images: use a pack (docs/data.md) or more data.workers; see the loader's row"
        return CheckResult(seen, WARNING, remedy, numbers)
    return CheckResult(seen, numbers=numbers)


def resumed(machine: Machine) -> CheckResult:
    """Resume the killed training from its first checkpoint up to the second, and compare the weights there."""
    return _compare(machine, (), exact=device_of(machine).type == "cpu")


def deterministic(machine: Machine) -> CheckResult:
    """Do the same with `trainer.deterministic=true`, which promises bit-identical weights."""
    if "deterministic" not in TrainerConfig.__dataclass_fields__:
        return CheckResult("this version has no trainer.deterministic")
    if device_of(machine).type == "cpu":
        return CheckResult("on the CPU every training is deterministic: see the row above")
    for name in ("run", "kept"):
        shutil.rmtree(machine.work / name, ignore_errors=True)
    more = ("trainer.deterministic=true", "trainer.cudnn_benchmark=null")  # the two exclude each other
    killed(machine, more)
    return _compare(machine, more, exact=True)


def killed(machine: Machine, more: tuple[str, ...] = ()) -> tuple[bool, int]:
    """Train until there are two checkpoints, keep links to both, and kill the training.

    Returns whether there are two (a short training may end earlier), and the peak memory of the process in bytes.
    Raises a UserError if the training ends with an error.
    """
    run, aside = folder(machine), machine.work / "kept"
    aside.mkdir(exist_ok=True)
    memory = 0
    with started(machine, run, more) as process:
        while not (two := _kept(run, aside)) and process.poll() is None:
            memory = max(memory, _resident(process.pid))
            time.sleep(LOOK)
        ended = process.poll()
    if ended:
        raise UserError(_said(run))
    return two or _kept(run, aside), memory


def _compare(machine: Machine, more: tuple[str, ...], exact: bool) -> CheckResult:
    run, aside = folder(machine), machine.work / "kept"
    if not ((aside / "older.pt").exists() and (aside / "newer.pt").exists()):
        remedy = "see the training's row for the reason; a training that is too short cannot be checked"
        return CheckResult("not checked: there are no two checkpoints of a killed training", WARNING, remedy)
    checkpoints = Checkpoints(run / "checkpoints")
    for path in run.joinpath("checkpoints").iterdir():
        path.unlink()
    shutil.copyfile(aside / "older.pt", checkpoints.last)
    (run / "result.json").unlink(missing_ok=True)
    before = checkpoints.last.stat().st_ino
    with started(machine, run, more) as process:
        while process.poll() is None and checkpoints.last.stat().st_ino == before:
            time.sleep(LOOK)
        ended = process.poll()
    if ended:
        raise UserError(_said(run))
    older, there, here = read(aside / "older.pt"), read(aside / "newer.pt"), read(checkpoints.last)
    at, steps = here["progress"]["step"], there["progress"]["step"]
    if at != steps:
        seen = f"the resumed training saved at step {at} instead of step {steps}"
        return CheckResult(seen, FAILED, "report this: it is an error in this program")
    return verdict(_largest(there, here), _largest(there, older), older["progress"]["step"], steps, exact)


def verdict(off: float, moved: float, begin: int, end: int, exact: bool) -> CheckResult:
    """Return the check's result.

    Args:
        off: largest difference between the killed and the resumed training's weights.
        moved: largest change of a weight between the two checkpoints.
        begin: step of the first checkpoint.
        end: step of the second checkpoint.
        exact: whether the weights must be bit-identical.
    """
    numbers = {"largest_difference": off, "moved": moved, "from_step": begin, "to_step": end}
    seen = f"killed, resumed at step {begin}; the weights of step {end} differ by {off:.2g} at most"
    if off == 0:
        return CheckResult(f"{seen}: the same bits", numbers=numbers)
    seen += f" (they moved by {moved:.2g})"
    if exact:
        return CheckResult(seen, FAILED, "they should be bit-identical: report this with machine.json", numbers)
    if not off < moved:
        return CheckResult(
            seen, FAILED, "resuming does not lead to the same weights: report this with machine.json", numbers
        )
    return CheckResult(f"{seen}; this is normal for a GPU without trainer.deterministic", numbers=numbers)


def _largest(one: State, other: State) -> float:
    """Return the largest difference between two checkpoints' weights; infinite if one is NaN."""
    found = 0.0
    for name, tensor in one["model"].items():
        if tensor.is_floating_point():
            off = (tensor.double() - other["model"][name].double()).abs().max() if tensor.numel() else torch.zeros(())
            found = max(found, float(torch.nan_to_num(off, nan=float("inf"))))
    return found


@contextlib.contextmanager
def started(machine: Machine, run: Path, more: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Run train.py with the user's overrides and those of the check; kill it at the end."""
    every = QUICK_STEPS if machine.quick else STEPS
    own = [
        f'run_dir="{run}"', "resume=auto", "logger=none", "trainer.checkpoint_every_minutes=null",
        f"trainer.checkpoint_every_steps={every}", f"trainer.log_every_steps={max(1, every // LOGS)}",
        "trainer.eval_every_epochs=1000000",
    ]  # fmt: skip
    if isinstance(machine.config.data, ImageFolderConfig):
        own.append("data.stage=null")  # otherwise a copy of the pack would remain
        own += ["data.crop_start=null", "data.crop_ramp=null"]  # the largest images need the most time and memory
    command = [sys.executable, str(TRAIN), *machine.overrides, *own, *more]
    with open(machine.work / "train.txt", "wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_the_parent
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _kept(run: Path, aside: Path) -> bool:
    """Link the two newest checkpoints to older.pt and newer.pt in `aside`; return False if there are no two yet."""
    places = Checkpoints(run / "checkpoints")
    pairs = ((places.previous, aside / "older.pt"), (places.last, aside / "newer.pt"))
    with contextlib.suppress(FileNotFoundError):
        for place, kept in pairs:
            kept.unlink(missing_ok=True)
            os.link(place, kept)
        same = all(place.samefile(kept) for place, kept in pairs)  # False if the run has saved again in between
        return same and not places.previous.samefile(places.last)
    return False


def _resident(pid: int) -> int:
    """Return the peak memory of a process so far, in bytes; 0 if the system does not report it."""
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return 0


def _said(run: Path) -> str:
    """Return the message with which train.py ended."""
    lines = (run.parent / "train.txt").read_text(errors="replace").strip().splitlines()
    sentence = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    return f"train.py ended: {one_line(sentence.removeprefix('error: '), 600)}"
