"""Which checkpoint a run resumes from: it never starts over unless asked, and loses nothing."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.failing_files import failing_opens
from support.training import (
    FORKSERVER,
    TINY,
    assert_same_state,
    last_checkpoint,
    metrics_lines,
    metrics_without_speed,
    result,
    run_ranks,
    train_in_child,
)

from ranger21.config.compose import compose_config
from ranger21.records import checkpoint
from ranger21.records.checkpoint_file import read
from ranger21.run import experiment
from ranger21.system.errors import UserError

OVERRIDES = [*TINY, "optimizer=adamw"]  # saves after steps 3, 5, 6, 9, 10, 12, 15, 18 and 20


def start(directory: Path, *overrides: str) -> int:
    return experiment.run(compose_config([*OVERRIDES, *overrides]), directory)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("ranger21")
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(experiment, "log_to_console", lambda main: logger.setLevel(logging.INFO))
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 0.0, 0.0))
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, str]:
    """Three runs and the override for their images: a finished one, one killed at step 14, one before a checkpoint."""
    place, data = tmp_path_factory.mktemp("runs"), f"data.root={images}"
    for name, die_at in (("whole", None), ("killed", 14), ("young", 3)):
        child = FORKSERVER.Process(target=train_in_child, args=([*OVERRIDES, data], place / name, {}, die_at, "before"))
        child.start()
        child.join(300)
        assert child.exitcode == (0 if die_at is None else -signal.SIGKILL)
    return place / "whole", place / "killed", place / "young", data


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a run directory, except the lock and the log, which every start writes."""
    files = [path for path in directory.rglob("*") if path.name not in (".lock", "log.txt")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def names(directory: Path) -> set[str]:
    return {path.name for path in (directory / "checkpoints").iterdir()}


def damage(path: Path) -> None:
    """Truncate a checkpoint in a new file, because best.pt may be a hard link to the old one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def both_damaged(checkpoints: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        damage(checkpoints / name)


def all_damaged(checkpoints: Path) -> None:
    both_damaged(checkpoints)
    damage(checkpoints / "best.pt")


def put_aside_by_an_older_version(checkpoints: Path) -> None:
    both_damaged(checkpoints)
    for name in ("last", "previous"):
        (checkpoints / f"{name}.pt").rename(checkpoints / f"{name}.damaged")
    manifest = json.loads((checkpoints.parent / "manifest.json").read_text())
    manifest.pop("first_checkpoint", None)
    (checkpoints.parent / "manifest.json").write_text(json.dumps(manifest))


def gone(checkpoints: Path) -> None:
    shutil.rmtree(checkpoints)


def link_to_nothing(checkpoints: Path) -> None:
    shutil.rmtree(checkpoints)
    checkpoints.symlink_to("elsewhere")


def gone_in_a_run_of_an_older_version(checkpoints: Path) -> None:
    put_aside_by_an_older_version(checkpoints)
    shutil.rmtree(checkpoints)


def records_alone(checkpoints: Path) -> None:
    shutil.rmtree(checkpoints)
    (checkpoints.parent / "manifest.json").unlink()


def only_the_best(checkpoints: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (checkpoints / name).unlink()


LOST: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "both damaged": (both_damaged, "last.pt is damaged: .*; previous.pt is damaged: .*; there is best.pt", True),
    "all damaged": (all_damaged, "last.pt is damaged: .*; there is best.pt; .*; best.pt is damaged: .*", False),
    "aside already": (put_aside_by_an_older_version, "there is best.pt, last.damaged, previous.damaged", True),
    "gone": (gone, "manifest.json mentions a checkpoint at step 3", False),
    "gone, older": (gone_in_a_run_of_an_older_version, "metrics.jsonl goes to step 1[24]", False),
    "a link": (link_to_nothing, "there is checkpoints, a link to nothing", False),
    "records alone": (records_alone, "metrics.jsonl goes to step 1[24]", False),
    "best": (only_the_best, "there is best.pt; manifest.json mentions a checkpoint at step 3", True),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_run_without_usable_checkpoints_does_not_start_over_unasked(
    runs: tuple[Path, Path, Path, str], tmp_path: Path, kind: str
) -> None:
    """The second start must refuse, too; it used to miss what the first had moved aside."""
    lose, words, best = LOST[kind]
    directory = shutil.copytree(runs[1], tmp_path / "run")
    lose(directory / "checkpoints")
    before = contents(directory)
    assert len(metrics_lines(directory)) > 5
    offer = r"resume=best \(step (5|10), from best.pt\) or resume=scratch" if best else "beginning: resume=scratch"
    for resume in ("auto", "auto", *(() if best else ("best",))):
        with pytest.raises(UserError, match=rf"no intact checkpoint is left to resume from \({words}.*{offer}"):
            start(directory, runs[3], f"resume={resume}")
        assert contents(directory) == before


@pytest.mark.parametrize("resume", ["best", "scratch"])
def test_a_run_without_usable_checkpoints_continues_as_resume_says(
    runs: tuple[Path, Path, Path, str], tmp_path: Path, resume: str
) -> None:
    """The run ends with the same weights, and all earlier files are kept."""
    directory = shutil.copytree(runs[1], tmp_path / "run")
    both_damaged(directory / "checkpoints")
    before, best = contents(directory), read(directory / "checkpoints" / "best.pt")["progress"]["step"]
    assert start(directory, runs[3], f"resume={resume}") == 0
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))
    assert (
        metrics_without_speed(directory) == metrics_without_speed(runs[0]) and result(directory)["status"] == "finished"
    )
    after = set(contents(directory).values())
    kept = [name for name in before if not name.endswith(("manifest.json", "best.pt"))]
    assert all(before[name] in after for name in kept)
    session = json.loads((directory / "manifest.json").read_text())["sessions"][-1]
    assert session["resumed_from_step"] == (best if resume == "best" else 0)
    assert session["kept"] == ["metrics.lost.jsonl", *(["checkpoints.lost"] if resume == "scratch" else [])]
    if resume == "scratch":
        kept_best = (directory / "checkpoints.lost" / "best.pt").read_bytes()
        assert kept_best == before[str(directory / "checkpoints" / "best.pt")]


@pytest.mark.parametrize("resume", ["auto", "best", "scratch"])
def test_resume_best_and_scratch_use_an_intact_checkpoint_first(
    runs: tuple[Path, Path, Path, str], tmp_path: Path, resume: str, log: pytest.LogCaptureFixture
) -> None:
    """Therefore a job that restarts itself may always be given them."""
    directory = shutil.copytree(runs[1], tmp_path / "run")
    damage(directory / "checkpoints" / "last.pt")
    (directory / "checkpoints" / "last.damaged").write_text("of an earlier time")
    assert start(directory, runs[3], f"resume={resume}") == 0
    assert "Resumed at step 10 of 20." in log.messages
    assert "previous.pt is used, and it becomes last-2.damaged." in log.text
    assert names(directory) == {"last.pt", "previous.pt", "best.pt", "last.damaged", "last-2.damaged"}
    assert (directory / "checkpoints" / "last.damaged").read_text() == "of an earlier time"
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    runs: tuple[Path, Path, Path, str], tmp_path: Path
) -> None:
    directory = shutil.copytree(runs[2], tmp_path / "run")
    assert [line["step"] for line in metrics_lines(directory)] == [2]
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["first_checkpoint"] is None
    assert start(directory, runs[3]) == 0
    assert json.loads((directory / "manifest.json").read_text())["first_checkpoint"] == 3
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))
    assert metrics_without_speed(directory) == metrics_without_speed(runs[0])
    assert names(directory) == {"last.pt", "previous.pt", "best.pt"}


def test_a_read_error_of_a_checkpoint_loses_nothing(
    runs: tuple[Path, Path, Path, str], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    directory = shutil.copytree(runs[1], tmp_path / "run")
    before = contents(directory)
    for name in ("last.pt", "previous.pt"):
        path = directory / "checkpoints" / name
        if name == "previous.pt":
            (directory / "checkpoints" / "last.pt").unlink()
            before = contents(directory)
        for resume in ("auto", "scratch"):
            with failing_opens(path), pytest.raises(UserError, match=rf"{name} cannot be read now \(Input/output"):
                start(directory, runs[3], f"resume={resume}")
            assert contents(directory) == before
    with failing_opens(directory / "checkpoints" / "previous.pt", times=2):
        assert start(directory, runs[3]) == 0
    assert "Resumed at step 10 of 20." in log.messages and "last.pt is missing: previous.pt is used." in log.text
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))


def test_a_kill_between_saving_last_and_best_is_repaired(runs: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    directory = shutil.copytree(runs[0], tmp_path / "run")
    (directory / "result.json").unlink()
    checkpoints = directory / "checkpoints"
    step = read(runs[0] / "checkpoints" / "best.pt")["progress"]["step"]
    (checkpoints / "last.pt").unlink()
    (checkpoints / "best.pt").rename(checkpoints / "last.pt")
    damage(shutil.copyfile(checkpoints / "last.pt", checkpoints / "best.pt"))  # simulates the previous best.pt
    assert start(directory, runs[3]) == 0
    assert read(checkpoints / "best.pt")["progress"]["step"] == step
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))


def test_resume_never_refuses_a_run_without_a_manifest(runs: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    directory = shutil.copytree(runs[1], tmp_path / "run")
    (directory / "manifest.json").unlink()
    before = contents(directory)
    with pytest.raises(UserError, match=r"already has a run, and resume=never: choose another run_dir=\.$"):
        start(directory, runs[3], "resume=never")
    assert contents(directory) == before


# Checkpoints of other runs, and files that are no checkpoints


def edited(path: Path, *keys: Any, value: Any = None) -> Callable[[], None]:
    """Return a function that writes the checkpoint with one value changed, or removed if `value` is `...`."""

    def edit() -> None:
        state = read(path)
        part = state
        for key in keys[:-1]:
            part = part[key]
        if value is ...:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value(part[keys[-1]]) if callable(value) else value
        path.unlink()
        torch.save(state, path)

    return edit


OTHERS = {
    "seed": (("config", "seed"), 1, "is a checkpoint of another run (seed: 1 there, 0 now)"),
    "smoothing": (
        ("config", "trainer", "label_smoothing"),
        0.3,
        "run (trainer.label_smoothing: 0.3 there, 0.1 now)",
    ),
    "id": (("wandb_id",), "0123456789ab", "is a checkpoint of another run (0123456789ab, where"),
    "model": (("config", "model", "name"), "resnet18", "another run (model.name: resnet18 there, resnet10t now)"),
    "a newer format": (("format",), 99, "cannot be used: the format is 99"),
    "no configuration": (("config",), {"seed": 1}, "has a configuration that this version cannot read"),
}


@pytest.mark.parametrize(
    ("kind", "file"), [*((kind, "last.pt") for kind in OTHERS), ("seed", "previous.pt"), ("seed", "best.pt")]
)
def test_a_checkpoint_of_a_different_run_is_refused(
    runs: tuple[Path, Path, Path, str], tmp_path: Path, kind: str, file: str
) -> None:
    """The previous checkpoint is not used instead of any of the files, because the intention is unclear."""
    directory = shutil.copytree(runs[1], tmp_path / "run")
    keys, value, words = OTHERS[kind]
    for name in ("last.pt", "previous.pt")[: ("last.pt", "previous.pt", "best.pt").index(file)]:
        (directory / "checkpoints" / name).unlink()
    edited(directory / "checkpoints" / file, *keys, value=value)()
    before = contents(directory)
    if file == "best.pt":
        with pytest.raises(UserError, match=r"no intact checkpoint .*best.pt is a checkpoint of another run \(seed: 1"):
            start(directory, runs[3])
    with pytest.raises(UserError) as caught:
        start(directory, runs[3], "resume=best")
    assert str(caught.value).startswith(str(directory / "checkpoints" / file)) and words in str(caught.value)
    assert contents(directory) == before


def test_an_older_checkpoint_may_have_different_accumulation(
    runs: tuple[Path, Path, Path, str], tmp_path: Path
) -> None:
    """Older versions could resume with a different trainer.accumulate, which did not change their results."""
    directory = shutil.copytree(runs[1], tmp_path / "run")
    last = directory / "checkpoints" / "last.pt"
    edited(last, "config", "trainer", "accumulate", value=2)()
    with pytest.raises(UserError, match=r"another run \(trainer.accumulate: 2 there, 1 now\)"):
        start(directory, runs[3])
    edited(last, "format", value=...)()
    assert start(directory, runs[3]) == 0
    assert_same_state(last_checkpoint(directory), last_checkpoint(runs[0]))


def test_an_intact_file_without_a_checkpoint_is_not_called_damaged(
    runs: tuple[Path, Path, Path, str], tmp_path: Path
) -> None:
    directory = shutil.copytree(runs[1], tmp_path / "run")
    (directory / "checkpoints" / "last.pt").unlink()
    torch.save({"model": directory}, directory / "checkpoints" / "last.pt")
    before = contents(directory)
    with pytest.raises(UserError, match=r"is not a checkpoint of a run \(it contains .*Path.*restore the run's own"):
        start(directory, runs[3])
    assert contents(directory) == before


def test_two_ranks_continue_as_resume_says(runs: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    directory = shutil.copytree(runs[1], tmp_path / "run")
    both_damaged(directory / "checkpoints")
    assert run_ranks([*OVERRIDES, runs[3], "resume=best"], directory, ranks=2) == [0, 0]
    assert json.loads((directory / "manifest.json").read_text())["sessions"][-1]["kept"] == ["metrics.lost.jsonl"]
    assert [line["step"] for line in metrics_lines(directory)] == sorted(
        {line["step"] for line in metrics_lines(directory)}
    )


def test_two_ranks_refuse_a_checkpoint_of_a_different_run(runs: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    directory = shutil.copytree(runs[1], tmp_path / "run")
    edited(directory / "checkpoints" / "last.pt", "progress", "step", value=999)()
    before = contents(directory)
    assert run_ranks([*OVERRIDES, runs[3]], directory, ranks=2) == [1, 1]
    output = directory.with_suffix(".out").read_text()
    assert output.count("UserError: ") >= 2 and "its step is 999, but the run has steps 1 to 20" in output
    assert contents(directory) == before
