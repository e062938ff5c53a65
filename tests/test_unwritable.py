"""Unwritable records: reported before anything starts, or after everything that can be saved is saved."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from support.training import (
    FORKSERVER,
    assert_same_state,
    last_checkpoint,
    metrics_lines,
    metrics_without_speed,
    result,
    train_in_child,
)

from ranger21.config.compose import compose_config
from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError
from ranger21.system.terminal import log_to_file
from ranger21.tracking.jsonl import JsonLines


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "result.json", "metrics.jsonl", "log.txt", ".lock"])
def test_run_files_that_are_no_files_are_reported_before_the_start(tmp_path: Path, name: str) -> None:
    config = compose_config(["logger=none"])
    makers = {
        "it is a folder, not a file": Path.mkdir,
        "it is a pipe, not a file": os.mkfifo,
        "it is a device, not a file": lambda path: path.symlink_to("/dev/full"),
        "it is a link to nothing": lambda path: path.symlink_to("nothing"),
        "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    }
    for number, (words, make) in enumerate(makers.items()):
        place = RunDirectory(tmp_path / str(number))
        place.path.mkdir()
        make(place.path / name)
        with pytest.raises(UserError) as caught:
            place.look(config)
        assert str(caught.value) == (
            f"{place.path / name} cannot be used ({words}): move it away and run the same command again."
        )
        assert [path.name for path in place.path.iterdir()] == [name]


def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    for begin in (lambda path: JsonLines(path, 0), log_to_file):
        with pytest.raises(
            UserError, match=r"file could not be written \(Is a directory\): remove the cause and run the"
        ):
            (tmp_path / "file").mkdir(exist_ok=True)
            begin(tmp_path / "file")


def test_lines_that_cannot_be_written_are_kept_for_later(tmp_path: Path) -> None:
    """A limit on file size makes the write of line 2 fail in its middle."""
    path, failures = tmp_path / "metrics.jsonl", list[int]()
    tracker = JsonLines(path, 0, on_failure=lambda: failures.append(1))
    tracker.log({"step": 1})
    tracker.sync()
    with limit(tracker.size + 5):
        tracker.log({"step": 2})
        tracker.log({"step": 3})
        tracker.sync()
        assert (
            path.read_bytes().startswith(b'{"step": 1}\n') and tracker.size == len(b'{"step": 1}\n') and failures == [1]
        )
        assert tracker.rest == '{"step": 2}\n{"step": 3}\n'
        with pytest.raises(
            UserError, match=r"\(File too large\): free disk space and run the same command again; it is kept"
        ):
            tracker.require_written("it is kept")
        with pytest.raises(UserError, match=r"could not be written \(File too large\): free disk space"):
            JsonLines(path, tracker.size, tracker.rest)
    again = JsonLines(path, tracker.size, tracker.rest)
    assert [row["step"] for row in metrics_lines(tmp_path)] == [1, 2, 3] and again.size == path.stat().st_size
    tracker.log({"step": 4})  # the first tracker can write again, too
    tracker.require_written()
    assert [row["step"] for row in metrics_lines(tmp_path)] == [1, 2, 3, 4]


class limit:
    """A limit on the size of the files that this process writes, in bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))

    def __exit__(self, *error: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, self.handler)


def run_with_full_metrics(overrides: list[str], directory: Path, step: int) -> None:
    """Run training whose metrics.jsonl cannot be written from a step on; print its error at the end of the output."""
    real = JsonLines._write

    def full(self: JsonLines) -> None:
        if f'"step": {step},' not in self.rest:
            real(self)
        else:
            with limit(self.size + 20):
                real(self)

    JsonLines._write = full  # type: ignore[method-assign]
    train_and_print_its_error(overrides, directory)


def run_with_a_folder_for_its_result(overrides: list[str], directory: Path) -> None:
    real = RunDirectory.finish

    def finish(self: RunDirectory, ended: dict[str, Any]) -> None:
        self.result.mkdir()
        real(self, ended)

    RunDirectory.finish = finish  # type: ignore[method-assign]
    train_and_print_its_error(overrides, directory)


def train_and_print_its_error(overrides: list[str], directory: Path) -> None:
    try:
        train_in_child(overrides, directory, {}, None, "")
    except UserError as error:
        sys.stdout.write(f"{error}\n")
        sys.stdout.flush()
        sys.exit(1)


def start(target: object, *arguments: object) -> int | None:
    process = FORKSERVER.Process(target=target, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join(120)
    return process.exitcode


def test_unwritable_metrics_and_results_lose_no_training(tiny: list[str], tmp_path: Path) -> None:
    """After the problem is solved, the same command writes metrics.jsonl and result.json from the checkpoint."""
    directory, whole = tmp_path / "run", tmp_path / "whole"
    assert start(train_in_child, tiny, whole, {}, None, "") == 0
    assert start(run_with_full_metrics, tiny, directory, 8) == 1
    sentence = directory.with_suffix(".out").read_text().splitlines()[-1]
    assert sentence == (
        f"{directory}/metrics.jsonl could not be written (File too large): free disk space and run the same command "
        "again; the checkpoint of step 9 has the lines that are missing."
    )
    assert last_checkpoint(directory)["progress"]["step"] == 9
    assert start(run_with_a_folder_for_its_result, tiny, directory) == 1
    sentence = directory.with_suffix(".out").read_text().splitlines()[-1]
    assert sentence.startswith(f"{directory}/result.json cannot be used (it is a folder, not a file): move it away")
    assert sentence.endswith("It then writes the result from the checkpoint, without training.")
    last = directory / "checkpoints" / "last.pt"
    before = last.read_bytes(), last.stat().st_mtime_ns, (directory / "metrics.jsonl").read_bytes()
    (directory / "result.json").rmdir()
    assert start(train_and_print_its_error, tiny, directory) == 0
    assert before == (last.read_bytes(), last.stat().st_mtime_ns, (directory / "metrics.jsonl").read_bytes())
    assert metrics_without_speed(directory) == metrics_without_speed(whole)
    assert_same_state(last_checkpoint(directory), last_checkpoint(whole))
    assert {k: v for k, v in result(directory).items() if k != "time"} == {
        k: v for k, v in result(whole).items() if k != "time"
    }
    starts = [
        session["resumed_from_step"] for session in json.loads((directory / "manifest.json").read_text())["sessions"]
    ]
    assert starts == [0, 9, 20]
