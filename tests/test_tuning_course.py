"""The course of a tuning with made-up results: rungs, divergence, edges, wider spaces, budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.tuning_course import SMALL, composing_once, end, request

from ranger21.config.compose import compose_config, composing
from ranger21.system.errors import UserError
from ranger21.tuning.plan import Task
from ranger21.tuning.record import Edge, Tuned, read_tuned
from ranger21.tuning.search import Search
from ranger21.tuning.space import Choice, LogRange, Space


@pytest.fixture(scope="module", autouse=True)
def composed() -> Iterator[None]:
    with composing_once():
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def by_rate(task: Task) -> float:
    """Return an objective that increases with the learning rate and depends on nothing else."""
    return 50 + 10 * math.log10(float(task.values["optimizer.lr"]))


def finish(search: Search, top1: Callable[[Task], float | None] = by_rate) -> tuple[list[list[Task]], list[Tuned]]:
    phases = []
    for tasks in search.phases():
        phases.append(tasks)
        for task in reversed(tasks):  # trials may finish in any order
            end(task, top1(task))
    return phases, search.tuned()


def test_every_optimizer_gets_the_same_points_and_its_best_trial_wins(tmp_path: Path) -> None:
    (tasks,), tuned = finish(Search(request()))
    assert [(task.stage.optimizer, task.point) for task in tasks] == [
        (optimizer, point) for point in range(4) for optimizer in ("adamw", "nesterov")
    ]
    for one in tuned:
        assert one.winner is not None
        assert one.winner.values["optimizer.lr"] == max(trial.values["optimizer.lr"] for trial in one.trials)
        assert Edge("optimizer.lr", "high") in one.edges and Edge("optimizer.lr", "low") not in one.edges
    for task in tasks:
        only_at_the_end = {"trainer.final_validation=false", "trainer.eval_every_steps=null"}
        assert {"seed=0", "outputs=outputs/tuning"} | only_at_the_end < set(task.job.overrides)
        assert task.job.config.data.holdout == 100 and not task.job.config.trainer.final_validation
        assert task.job.directory.is_relative_to("outputs/tuning")


@pytest.mark.parametrize("optimizer", ["ranger21_official", "muon"])
def test_a_trial_has_the_configuration_of_its_command(optimizer: str) -> None:
    """The cases have a schedule with its own rate, an override of one list element, and an added key."""
    more = (*SMALL, "+model.kwargs.drop_rate=0.1", "model=resnet10t", "trainer.epochs=3", "trainer.log_every_steps=7")
    tasks = next(Search(request(optimizer, arguments=more)).phases())
    with composing():
        assert [task.job.config for task in tasks] == [compose_config(list(task.job.overrides)) for task in tasks]


def test_each_rung_runs_to_its_own_length_and_promotes_the_best(tmp_path: Path) -> None:
    phases, tuned = finish(Search(request(trials=5, rungs=3)))
    assert [len(tasks) for tasks in phases] == [10, 4, 2]
    for tasks, steps in zip(phases, (2, 4, 8), strict=True):
        assert {task.job.config.trainer.steps for task in tasks} == {steps}
    for one in tuned:
        first = {trial.point: trial.objective for trial in one.trials if trial.rung == 0}
        ranked = sorted(first, key=lambda point: -(first[point] or 0))
        assert {trial.point for trial in one.trials if trial.rung == 1} == set(ranked[:2])
        assert [trial.point for trial in one.trials if trial.rung == 2] == ranked[:1]
        assert one.winner == one.trials[-1]


def test_a_diverged_trial_ranks_last(tmp_path: Path) -> None:
    def result(task: Task) -> float | None:
        return None if task.point % 2 == 0 else float(task.point == 1)

    _, tuned = finish(Search(request()), result)
    assert [one.winner and (one.winner.point, one.winner.objective) for one in tuned] == [(1, 1.0)] * 2
    _, none = finish(Search(request()), lambda task: None)
    assert [(one.winner, one.edges) for one in none] == [(None, ())] * 2


def test_a_loss_that_is_not_finite_counts_as_diverged_and_no_holdout_is_an_error(tmp_path: Path) -> None:
    search = Search(request("adamw", trials=1))
    phases = search.phases()
    (task,) = next(phases)
    end(task, 90.0, None)
    assert next(phases, None) is None
    assert search.tuned()[0].trials[0].state == "diverged"
    (task.job.directory / "result.json").write_text('{"status": "finished", "final": {"val/acc1": 90.0}}')
    phases = Search(request("adamw", trials=1)).phases()
    next(phases)
    with pytest.raises(UserError, match="has no holdout/acc1, because its run had no holdout"):
        next(phases, None)


def test_a_winner_at_an_edge_widens_the_space_of_every_optimizer() -> None:
    """AdamW's best rate is the highest and SGD's is not; both get the same number of trials in wider spaces."""

    def result(task: Task) -> float:
        rate = by_rate(task)
        return rate if task.stage.optimizer == "adamw" else 90 - abs(rate - 33)

    phases, tuned = finish(Search(request(widen=True)), result)
    assert [len(tasks) for tasks in phases] == [8, 8]
    assert {task.point for task in phases[1]} == {4, 5, 6, 7}
    for optimizer, high in (("adamw", 1.0), ("nesterov", 8.0)):
        stages = [task.stage for task in phases[1] if task.stage.optimizer == optimizer]
        old = Search(request()).planner.spaces[optimizer].dimensions["optimizer.lr"]
        assert isinstance(old, LogRange)
        assert {stage.space.dimensions["optimizer.lr"] for stage in stages} == {replace(old, high=high)}
    for one in tuned:
        assert one.budget.rounds == 2 and len(one.spaces) == 2 and len(one.trials) == 8
        assert one.winner == min(one.trials, key=lambda trial: trial.rank)


def test_without_a_winner_at_an_edge_there_is_no_second_round() -> None:
    search = Search(request("adamw", trials=6, widen=True))
    drawn = {task.point: task.values for task in next(search.phases())}
    inner = set(drawn)
    for name in ("optimizer.lr", "optimizer.weight_decay"):
        ordered = sorted(drawn, key=lambda point: float(drawn[point][name]))
        inner -= {ordered[0], ordered[-1]}
    phases, tuned = finish(search, lambda task: 90.0 if task.point == min(inner) else None)
    assert len(phases) == 1 and not any(one.edges for one in tuned)


def test_the_record_keeps_other_optimizers_and_refuses_unequal_budgets(tmp_path: Path) -> None:
    search = Search(request())
    finish(search)
    path = search.write()
    before = path.read_bytes()
    again = Search(request())
    finish(again)
    again.write()
    assert path.read_bytes() == before
    third = Search(request("lion"))
    finish(third)
    third.write()
    assert [one.optimizer for one in read_tuned(path)] == ["adamw", "lion", "nesterov"]
    longer = {"arguments": ("data.holdout=100", "trainer.steps=16")}
    for changes in ({"trials": 5}, {"widen": True}, {"seed": 1}, {"rungs": 2}, longer):
        with pytest.raises(
            UserError, match=r"has optimizer=adamw in experiment=fashion_mnist.* Add it to --optimizers"
        ):
            Search(request("muon", **changes))


def test_simultaneous_commands_keep_each_others_record_or_are_refused(tmp_path: Path) -> None:
    first, second, unlike = (
        Search(request(name, trials=count)) for name, count in (("adamw", 1), ("lion", 1), ("muon", 2))
    )
    for search in (first, second, unlike):
        finish(search)
    first.write()
    path = second.write()
    assert [one.optimizer for one in read_tuned(path)] == ["adamw", "lion"]
    with pytest.raises(UserError, match="has optimizer=adamw in experiment=fashion_mnist, tuned with another budget"):
        unlike.write()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": ()}, "has data.holdout=0, so its trials would be judged on the official validation set"),
        ({"arguments": (*SMALL, "seed=3")}, "seed=3 cannot be given, because the trials set seed themselves"),
        (
            {"arguments": (*SMALL, "trainer.final_validation=true")},
            "the trials set trainer.final_validation themselves",
        ),
        ({"arguments": (*SMALL, "tuning.trials=3")}, "the trials set tuning.trials themselves"),
        ({"arguments": (*SMALL, "optimizer.lr=1")}, "configs/space/adamw.yaml tunes optimizer.lr"),
        ({"arguments": (*SMALL, "schedule=cosine")}, "configs/space/adamw.yaml tunes schedule"),
        ({"optimizers": ("lamb",)}, "optimizer=lamb has no search space"),
        (
            {"rungs": 5},
            "--halving 5 cannot be used: trainer.steps=8 of experiment=fashion_mnist cannot be divided",
        ),
        (
            {"rungs": 2, "arguments": ("data.holdout=100", "trainer.epochs=3")},
            "trainer.epochs=3 of experiment=",
        ),
    ],
)
def test_impossible_tuning_requests_are_refused(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        next(Search(request("adamw", **{"trials": 1, **changes})).phases())  # type: ignore[arg-type]
    assert words in str(error.value)


def test_error_names_the_point_of_a_refused_value(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(request("adamw", trials=1))
    wrong = Choice({"a": ("schedule=cosine", "schedule.final=2")})
    space = Space("adamw", {**search.spaces["fashion_mnist", "adamw"][0].dimensions, "schedule": wrong})
    search.spaces["fashion_mnist", "adamw"] = [space]
    with pytest.raises(UserError, match=r"configs/space/adamw.yaml, point 0: schedule.final=2.0 is invalid"):
        next(search.phases())
