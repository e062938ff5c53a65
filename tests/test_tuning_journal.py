"""The journal of a tuning's trials, and the workers that share it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.tuning_course import composing_once, end, request

from ranger21.system.errors import UserError
from ranger21.tuning.claims import Claims
from ranger21.tuning.journal import Journal
from ranger21.tuning.outcome import outcome
from ranger21.tuning.plan import Task
from ranger21.tuning.search import Search
from ranger21.tuning.work import TrialWorker


@pytest.fixture(scope="module", autouse=True)
def composed() -> Iterator[None]:
    with composing_once():
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def queued(here: None) -> tuple[Journal, list[Task]]:
    """A journal with the four trials of two optimizers; all runs have ended, and the first has been recorded."""
    tasks = next(Search(request(trials=2)).phases())
    place = Path("outputs/tuning")
    place.mkdir(parents=True)
    journal = Journal(place / "tuning.journal")
    journal.enqueue(tasks)
    for task in tasks:
        end(task, 50.0)
    journal.tell(tasks[0], outcome(tasks[0]))
    return journal, tasks


def test_the_next_process_reads_the_journal(queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    again = Journal(journal.path)
    again.enqueue(tasks)
    again.enqueue(tasks)
    assert [again.has_ended(task) for task in tasks] == [True, False, False, False]
    assert journal.path.read_text().count('"op_code":4') == 4  # created once


@pytest.mark.parametrize("torn", [b'{"op_code":6,"trial', b"{"])
def test_a_partial_line_of_a_killed_worker_is_removed(torn: bytes, queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    whole = journal.path.read_bytes()
    with open(journal.path, "ab") as file:
        file.write(torn)
    again = Journal(journal.path)
    assert journal.path.read_bytes() == whole
    again.enqueue(tasks)
    again.tell(tasks[1], outcome(tasks[1]))
    assert Journal(journal.path).path.read_bytes().startswith(whole)


@pytest.mark.timeout(20)  # Optuna's own lock would be held for 30 s
def test_a_worker_killed_while_it_writes_leaves_no_lock(queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    if (child := os.fork()) == 0:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        journal.tell(tasks[1], outcome(tasks[1]))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    again = Journal(journal.path)
    again.enqueue(tasks)
    again.tell(tasks[2], outcome(tasks[2]))
    assert again.has_ended(tasks[2])


@pytest.mark.parametrize("line", ["rubbish", "[]", "{}", '{"op_code": 99}', '{"op_code":6,"trial_id":77,"state":1}'])
def test_a_damaged_journal_raises_an_error_with_the_remedy(line: str, queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    text = journal.path.read_text().splitlines()
    journal.path.write_text("\n".join([*text[:3], line, *text[3:], ""]))
    with pytest.raises(UserError, match=r"tuning.journal is damaged, or is not an Optuna journal .*move the file away"):
        Journal(journal.path).enqueue(tasks)


def test_a_deleted_journal_is_reported_and_can_be_made_again(queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    journal.path.unlink()
    with pytest.raises(UserError, match=r"tuning.journal was deleted during use. Repeat the command, which reu"):
        journal.take(tasks[1])
    again = Journal(journal.path)
    again.enqueue(tasks)
    again.tell(tasks[0], outcome(tasks[0]))
    assert again.has_ended(tasks[0]) and not again.has_ended(tasks[1])


def test_a_journal_with_a_different_space_or_different_runs_is_refused(queued: tuple[Journal, list[Task]]) -> None:
    journal, tasks = queued
    wide = [replace(t, stage=replace(t.stage, space=t.stage.space.widened("optimizer.lr", "low"))) for t in tasks]
    with pytest.raises(
        UserError, match="has trials of fashion_mnist/adamw/round 1/rung 1 of 1 in another search space"
    ):
        Journal(journal.path).enqueue(wide)
    other = [replace(t, job=replace(t.job, directory=t.job.directory.with_name("other"))) for t in tasks]
    with pytest.raises(UserError, match=r"trial 0 of fashion_mnist/adamw/round 1/rung 1 of 1 was the run .*, but"):
        Journal(journal.path).enqueue(other)
    end(tasks[0], 60.0)
    with pytest.raises(UserError, match=r"trial 0 of .* had the result 50.0, but .* now has 60.0"):
        journal.tell(tasks[0], outcome(tasks[0]))


def test_without_optuna_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"^This command needs Optuna: pip install 'ranger21-imagenet\[tune\]', or"):
        Journal(tmp_path / "tuning.journal")


def test_a_trial_has_one_worker_until_it_is_released(tmp_path: Path) -> None:
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a/b") and not one.take("a/b") and not other.take("a/b") and other.take("a/c")
    one.release("a/b")
    assert other.take("a/b")
    with one.turn():
        assert other._lock("turn") is None


# Workers


def test_finished_runs_are_recorded_without_starting_them(here: None, caplog: pytest.LogCaptureFixture) -> None:
    tasks = next(Search(request("adamw", trials=2)).phases())
    for task in tasks:
        end(task, 50.0)
    ended: list[int] = []
    worker = TrialWorker(Path("outputs/tuning"), lambda: (), lambda task: ended.append(task.point))
    worker.begin(tasks)
    assert worker.run(2) == [] and ended == [0, 1]
    assert [worker.journal.has_ended(task) for task in tasks] == [True, True]
    assert not list(Path("outputs").rglob("launcher.txt"))
    (tasks[0].job.directory / "result.json").unlink()
    worker.begin(tasks)
    assert f"{tasks[0].job.directory} ended before, but its result is missing: it runs again." in caplog.text


def test_a_trial_moves_to_the_next_worker_when_its_own_dies(here: None) -> None:
    tasks = next(Search(request("adamw", trials=3)).phases())
    queued: set[Path] = {tasks[0].job.directory}
    one, other = (TrialWorker(Path("outputs/tuning"), lambda: queued, lambda task: None) for _ in range(2))
    one.begin(tasks)
    other.begin(tasks)
    assert [worker._next() for worker in (one, other, one)] == [tasks[1], tasks[2], None]
    queued.clear()
    assert other._next() == tasks[0]
    for name in list(one.claims._held):  # as when its process ends
        one.claims.release(name)
    assert (other._next(), other._next()) == (tasks[1], None)
