"""The course of a composition with made-up results: brackets, killed commands, budgets, the winners and the report."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.composing import TUNED, asked, end, finish, rivals
from support.fashion_mnist import idx_files
from support.project import ROOT

from ranger21.config.compose import Composer, compose_config
from ranger21.config.mistakes import CONFIG_ERRORS
from ranger21.meta import plan
from ranger21.meta.composition import Composition
from ranger21.meta.finals import Contestant, Finals, contestants, planned
from ranger21.meta.page import write_compose
from ranger21.meta.plan import CompositionRequest
from ranger21.meta.record import Composed, read_composed, write_composed
from ranger21.meta.rivals import rivals_in, rivals_search, with_rivals
from ranger21.meta.standings import standings
from ranger21.meta.written import write_config
from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.metrics import from_rows
from ranger21.report.runs.run import RecordedRun
from ranger21.system.errors import UserError
from ranger21.tuning.journal import Journal
from ranger21.tuning.plan import Task
from ranger21.tuning.space import Space


@pytest.fixture(scope="module", autouse=True)
def composed_once() -> Iterator[None]:
    """Compose each configuration only once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        composer = Composer()
        kept = functools.cache(lambda words: composer.compose(list(words)))
        composer_once: Any = type("ComposerOnce", (), {"compose": lambda self, words: kept(tuple(words))})
        patch.setattr(plan, "Composer", composer_once)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "fashion"
    idx_files(root, train=80, test=10)
    return root


@pytest.fixture
def request_(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompositionRequest:
    monkeypatch.chdir(tmp_path)
    return asked(data)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[Task]], Composed]:
    """The phases and the results of a composition that was never killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        composition = Composition(asked(data))
        return finish(composition), composition.composed()


@pytest.fixture
def composed(finished: tuple[list[list[Task]], Composed]) -> Composed:
    return finished[1]


def test_brackets_halve_the_arms_and_double_the_steps(finished: tuple[list[list[Task]], Composed]) -> None:
    """Both searches begin with the same random bracket; every rung has the best half of the one before."""
    phases, composed = finished
    assert [len(tasks) for tasks in phases] == [4 * arms for arms in (8, 4, 2, 1)] * 2
    for tasks, steps in zip(phases, (8, 16, 33, 66) * 2, strict=True):
        assert {task.job.config.trainer.steps for task in tasks} == {steps}
        assert not any(task.job.config.trainer.final_validation for task in tasks)
    names = [task.stage.optimizer for task in phases[0]]
    assert names == ["thompson-0"] * 8 + ["random-0"] * 8 + ["thompson-1"] * 8 + ["random-1"] * 8
    first = [{str(task.job.directory) for task in phases[0][place : place + 8]} for place in (0, 8, 16)]
    assert first[0] == first[1] and not first[0] & first[2]
    assert {task.job.config.seed for task in phases[0][:16]} == {0}
    for one in composed.searches:
        for bracket in (0, 1):
            for rung in (0, 1, 2):
                trials = [t for t in one.trials if (t.round, t.rung) == (bracket, rung)]
                ranked = sorted(trials, key=lambda trial: trial.rank)
                kept = {t.point for t in one.trials if (t.round, t.rung) == (bracket, rung + 1)}
                assert kept == {trial.point for trial in ranked[: len(trials) // 2]}
        whole = [trial for trial in one.trials if trial.rung == 3 and trial.objective is not None]
        assert one.winner == max(whole, key=lambda trial: trial.objective or 0, default=None)
    assert len({trial.directory for one in composed.searches for trial in one.trials if trial.round}) > 40


def test_a_search_that_is_killed_at_any_moment_continues_with_the_same_trials(
    request_: CompositionRequest, finished: tuple[list[list[Task]], Composed], tmp_path: Path
) -> None:
    """Ten commands run some trials each and are killed: the trials and the bytes of composed.json are the same."""
    choose, request_ = random.Random(21), replace(request_, searches=("thompson",), repeats=1)
    for _ in range(10):
        left = [task for task in Composition(request_).present() if not task.job.ended]
        for task in choose.sample(left, choose.randint(len(left) // 3, len(left))):
            end(task)
    again = Composition(request_)
    phases = [[task.job.overrides for task in tasks] for tasks in finish(again)]
    own = [[task.job.overrides for task in tasks if task.stage.optimizer == "thompson-0"] for tasks in finished[0]]
    whole = replace(finished[1], searches=finished[1].searches[:1])
    assert phases == own
    for name, one in (("whole", whole), ("killed", again.composed())):
        write_composed(tmp_path / name, one)
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert read_composed(tmp_path / "killed") == whole


def test_a_larger_budget_continues_the_searches(
    request_: CompositionRequest, finished: tuple[list[list[Task]], Composed]
) -> None:
    """The first bracket is the same for every budget, for all seeds."""
    larger = Composition(replace(request_, budget=12))
    first = next(larger.phases())
    assert len(larger.jobs()) == 16 and len(first) == 32  # the searches with the same seed share these runs
    assert [task.job.overrides for task in first] == [task.job.overrides for task in finished[0][0]]


def test_a_search_does_not_continue_with_other_ingredients(
    finished: tuple[list[list[Task]], Composed], tmp_path: Path
) -> None:
    task = finished[0][0][0]
    Journal(tmp_path / "journal").enqueue([task])
    other = replace(task, stage=replace(task.stage, space=Space("chain", {})))
    with pytest.raises(UserError, match=r"; the space of the ingredients and configs/space/chain\.yaml now has"):
        Journal(tmp_path / "journal").enqueue([other])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget": 6}, "--budget 6 must be a multiple of 4"),
        ({"arguments": ("data.holdout=0",)}, "experiment=fair_resnet has data.holdout=0"),
        ({"arguments": ("optimizer.lr=1",)}, r"optimizer.lr=1 cannot be given, because the trials set optimizer.lr"),
        ({"arguments": ("schedule=cosine",)}, r"schedule=cosine cannot be given, because the trials set schedule"),
        ({"arguments": ("+optimizer.parts=[]",)}, r"cannot be given, because the trials set optimizer.parts"),
        ({"arguments": ("data.holdout=10", "trainer.steps=63")}, "has 63 steps, too few to be divided by 8"),
        ({"arguments": ("data.holdout=10", "protocol.seeds=[0,1]")}, "Seed 0 is one of the seeds of protocol="),
    ],
)
def test_what_would_be_unfair_or_impossible_is_refused(
    changes: dict[str, Any], sentence: str, request_: CompositionRequest, data: Path
) -> None:
    if "arguments" in changes:
        changes["arguments"] = (f"data.root={data}", "data.batch_size=4", *changes["arguments"])
    with pytest.raises(UserError, match=sentence):
        Composition(replace(request_, **changes))


def final_run(job: plan.PlannedRun, value: float) -> RecordedRun:
    """Return the record of a finished final run."""
    config = {
        "experiment": job.config.experiment, "seed": job.config.seed, "tuning.record": job.config.tuning.record,
        "tuning.trials": job.config.tuning.trials, "optimizer.name": job.config.optimizer.name,
        "optimizer.all": repr(job.config.optimizer),
        "data.holdout": 10, "data.name": "fashion_mnist", "trainer.final_validation": True,
    }  # fmt: skip
    metrics = from_rows([{"step": 1, "epoch": 1.0, "val/acc1": value}])
    return RecordedRun(job.directory, config, "finished", {"status": "finished"}, metrics)


def test_winners_and_tuned_optimizers_run_unchanged_on_every_task(
    request_: CompositionRequest, composed: Composed
) -> None:
    """The runs of a task differ in the seed and in the contestant; the transfer has its own data and model."""
    found = contestants(composed, rivals())
    assert [one.name for one in found] == [*(one.name for one in composed.searches), "adamw, tuned", "ranger21, tuned"]
    jobs = planned(request_, found, ["shapes"], None)
    assert len(jobs) == 2 * 5 * len({one.choices for one in found})
    here, there = jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]
    assert {job.config.seed for job in jobs} == {100, 101, 102, 103, 104}
    assert [job.config.optimizer for job in here] == [job.config.optimizer for job in there]
    assert [job.config.schedule for job in here] == [job.config.schedule for job in there]
    assert {job.config.model.name for job in there} == {"regnetx_002"}
    assert {job.config.data.name for job in there} == {"sample"}
    assert all(job.config.trainer.final_validation for job in jobs)
    assert {(job.config.optimizer.name, job.config.tuning.trials) for job in here} == {
        ("chain", 8), ("adamw", 16), ("ranger21", 16),
    }  # fmt: skip
    with pytest.raises(UserError, match="There are 5 fresh seeds for experiment=fair_resnet: use fewer --seeds"):
        planned(request_, found, [], 6)
    with pytest.raises(UserError, match=r"tuned.json has no winner of optimizer=adamw in experiment=paper\. Tune it"):
        rivals_in(TUNED, "paper")
    assert rivals_search(request_).request.trials == 8


def test_the_verdict_is_over_searches(request_: CompositionRequest, composed: Composed, tmp_path: Path) -> None:
    """Two searches are too few for a verdict however many seeds they have; with three there is one."""
    composed = with_rivals(composed, rivals())
    found = contestants(composed, rivals())
    jobs = planned(request_, found, ["shapes"], None)
    level = {"chain": 80.0, "adamw": 70.0, "ranger21": 75.0}
    runs = [
        final_run(job, level[job.config.optimizer.name] + job.config.seed % 7 / 10 + n / 50)
        for n, job in enumerate(jobs)
    ]
    here, there = standings(composed, runs)
    assert (here.experiment, there.experiment) == ("fair_resnet", "shapes")
    assert set(here.methods) == {"thompson", "random", "adamw", "ranger21"}
    assert here.methods["thompson"].n == 2 and here.methods["adamw"].n == 5
    assert all("Too few seeds" in pair.difference.sentence(pair.a, pair.b) for pair in here.pairs)
    third = replace(composed.searches[0], seed=2)  # its winner's runs are those of the first search
    three = standings(replace(composed, searches=(*composed.searches, third)), runs)[0]
    verdicts = {(pair.a, pair.b): pair.difference.verdict for pair in three.pairs}
    assert three.methods["thompson"].n == 3 and verdicts["thompson", "adamw"] == "better"
    assert verdicts["thompson", "random"] == "cannot tell"  # random has two searches
    labels = {group.label for one in compare_like_with_like(runs, (), composed.labels) for group in one.groups}
    assert "thompson-0 (composed, 8 full runs)" in labels
    files, (heading, html) = write_compose(composed, runs, tmp_path / "report")
    assert heading == "Composing an optimizer for fair_resnet" and html.count("<table") == 3
    text = files[0].read_text()
    assert "shapes, a task that no search saw" in text and "| thompson-0 |" in text
    assert "5 seeds, tuned once with 16 trials" in text and "from warmup 0 and constant." in " ".join(text.split())
    assert {path.name for path in files[1].iterdir()} >= {"progress.png", "effects.svg"}


def test_failures_count_in_the_verdict(request_: CompositionRequest, composed: Composed) -> None:
    """A diverged run makes it a rank test; a search without a winner counts as chance; who lacks runs is named."""
    composed = with_rivals(composed, rivals())
    jobs = planned(request_, contestants(composed, rivals()), [], None)
    runs = [final_run(job, 80.0 + n / 50) for n, job in enumerate(jobs)]
    spoilt = next(n for n, run in enumerate(runs) if run.config["tuning.record"] == composed.rivals[0].record)
    runs[spoilt] = replace(runs[spoilt], result={"status": "diverged"}, status="diverged")
    lost = replace(composed.searches[0], trials=(), winner=None)
    late = replace(composed.searches[1], search="tpe")
    runs = [run for run in runs if run.config["tuning.record"] != late.hash or run.config["seed"] == 100]
    (found,) = standings(replace(composed, searches=(lost, late)), runs)
    assert found.methods["thompson"].mean == 10 and found.winners.keys() == {"thompson-0", "tpe-0"}
    assert {pair.difference.test for pair in found.pairs if pair.b == "adamw"} == {"ranks"}
    assert found.notes == [
        "thompson-0 has no winner, as every trial of full length diverged: it counts as chance.",
        "tpe-0 has 1 of 5 seeds here.",
        "adamw diverged in 1 of 5 seeds, which count as chance.",
    ]
    longer = replace(runs[0], config={**runs[0].config, "trainer.epochs": 9})  # of the same winner
    with pytest.raises(UserError, match=r"come from different commands, .* \(.*trainer.epochs\)\. Give"):
        standings(composed, [*runs, longer])


def test_a_report_with_an_unknown_ingredient_is_refused(composed: Composed, tmp_path: Path) -> None:
    other = replace(composed, space={**composed.space, "agc": [*composed.space["agc"], "magic"]})
    with pytest.raises(UserError, match="tried agc: magic, which this code does not have"):
        write_compose(other, [], tmp_path)


def test_the_winner_is_a_configuration(composed: Composed, tmp_path: Path) -> None:
    """optimizer=composed has the same optimizer and schedule as the winner's line, and names where it comes from."""
    given = ("optimizer.decay_norm_and_bias=true", "lr_scaling=linear")  # arguments of the searches
    path = write_config(replace(composed, arguments=("data.holdout=10", *given)), tmp_path)
    assert path is not None and yaml.safe_load(path.read_text())["optimizer"]["name"] == "chain"
    text = path.read_text()
    assert "experiment=fair_resnet" in text and "the winner of thompson-" in text
    searched = f"hydra.searchpath=[{tmp_path}]"
    config = compose_config([searched, "experiment=fair_resnet", "optimizer=composed"])
    best = max(
        (one.winner for one in composed.searches if one.winner and one.search == "thompson"),
        key=lambda trial: trial.objective or 0,
    )
    by_hand = compose_config(["experiment=fair_resnet", "optimizer=chain", *given, *best.overrides])
    assert config == by_hand
    elsewhere = [searched, "experiment=strong", "optimizer=composed"]  # which chooses another schedule
    with pytest.raises(UserError, match="does not fit the other keys of schedule"):
        compose_config(elsewhere)
    assert compose_config([*elsewhere, f"schedule={config.schedule.name}"]).schedule == config.schedule


def test_a_damaged_composed_json_is_refused(composed: Composed, tmp_path: Path) -> None:
    path = tmp_path / "composed.json"
    write_composed(path, composed)
    content = json.loads(path.read_text())
    first = content["searches"][0]
    for change, sentence in (
        ({"version": 2}, "is of another version than 1"),
        ({"searches": [{**first, "winner": first["trials"][0]}]}, "not its best trial"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=sentence):
            read_composed(path)


def test_impossible_final_runs_are_refused_before_the_searches(
    request_: CompositionRequest, composed: Composed
) -> None:
    arm, more = composed.searches[0].trials[0].overrides, replace(request_, repeats=101)
    cases: list[tuple[CompositionRequest, Path | None, list[str], int | None, str]] = [
        (request_, Path("missing.json"), [], None, r"missing\.json"),
        (request_, TUNED, [], None, r"adamw tuned with no arguments, but this command has data\.holdout=10"),
        (request_, None, ["nowhere"], None, "nowhere"),
        (request_, None, ["imagenet100"], None, "The final runs cannot start: "),  # its data is missing
        (request_, None, [], 6, "There are 5 fresh seeds for experiment=fair_resnet: use fewer --seeds"),
        (more, None, ["shapes"], None, "of experiment=fair_resnet have seed 100, which a search uses"),
    ]
    for request, tuned, transfer, count, sentence in cases:
        with pytest.raises((UserError, *CONFIG_ERRORS), match=sentence):
            Finals(request, arm, tuned, transfer, count)
    Finals(replace(request_, arguments=request_.arguments[:1]), arm, TUNED, ["shapes"], 1)


def test_the_optimizer_is_the_same_on_every_task(request_: CompositionRequest, tmp_path: Path) -> None:
    """Arguments for the optimizer hold on all tasks; an experiment that changes the optimizer is refused."""
    request_ = replace(request_, arguments=(*request_.arguments, "lr_scaling=linear", f"hydra.searchpath=[{tmp_path}]"))
    found = [Contestant("agc", ("optimizer=chain", "optimizer.parts=[agc]", "schedule=cosine"))]
    here, there = planned(request_, found, ["shapes"], 1)
    assert here.config.lr_scaling == there.config.lr_scaling and there.config.lr_scaling.name == "linear"
    (tmp_path / "experiment").mkdir()
    text = (ROOT / "configs" / "experiment" / "shapes.yaml").read_text()
    (tmp_path / "experiment" / "mine.yaml").write_text(text + "schedule: {linear_warmup: 7%}\n")
    with pytest.raises(UserError, match="experiment=mine sets its own values for schedule, so that the winners"):
        planned(request_, found, ["mine"], 1)
