"""Comparisons that tune first: the trials, the winners' runs on fresh seeds, and how records are reused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.project import ROOT
from support.training import TINY

from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.presets import PRESETS, Preset
from ranger21.records.directory import to_dict
from ranger21.system.errors import UserError
from ranger21.tuning.contest import Contest, contest, enqueue, publish, tune, winner_arguments
from ranger21.tuning.record import Budget, read_tuned, tuned_hash, write_tuned

TWO = Preset("two", 2, ({"experiment": ("fair_deep",), "optimizer": ("adamw", "lion")},), first_seed=100, trials=3)
SMALL = [
    *(word for word in TINY if not word.startswith(("data=", "trainer.epochs", "trainer.checkpoint"))),
    *("data.classes=null", "data.holdout=20", "trainer.steps=2"),
]


def ended(job: PlannedRun, top1: float | None) -> None:
    """Write the result file that an ended run leaves behind."""
    job.directory.mkdir(parents=True, exist_ok=True)
    final = {"holdout/acc1": top1, "holdout/loss": 1.0}
    content = {"status": "diverged"} if top1 is None else {"status": "finished", "final": final}
    (job.directory / "result.json").write_text(json.dumps(content))


def test_a_forced_output_folder_also_holds_the_trials(tmp_path: Path) -> None:
    (search,) = contest(TWO, None, [], [f"++outputs={tmp_path}"], None).searches()
    assert search.request.arguments == () and search.request.place == tmp_path / "tuning"


def two(place: Path, given: Path | None = None, *more: str) -> Contest:
    return contest(TWO, None, [], ["logger=none", f"outputs={place}", *more], given)


def tuned(found: Contest, top1: dict[str, list[float | None]]) -> None:
    """Write the results of all trials, and collect them."""
    (search,) = found.searches()
    for task in next(search.phases()):
        ended(task.job, top1[task.stage.optimizer][task.point])
    assert tune(search, tuple, 1, lambda task: None) == []


def test_presets_run_every_workload_on_the_seeds_of_its_protocol() -> None:
    for name, workloads in (("fair_cpu", 4), ("imagenet100", 1)):
        preset = PRESETS[name]
        runs = list(preset.runs())
        assert len(runs) == workloads * 6 * 5 and preset.trials in (8, 16)
        for experiment in {chosen[0] for chosen in runs}:
            config = compose_config([experiment])
            seeds = [int(chosen[-1].removeprefix("seed=")) for chosen in runs if chosen[0] == experiment]
            assert config.protocol.name == config.experiment and sorted({*seeds}) == config.protocol.seeds
            assert config.data.holdout and config.trainer.final_validation
            assert config.trainer.eval_every_steps or config.trainer.epochs >= config.protocol.min_validations


def test_all_optimizers_get_equal_tuning_and_run_tuned_and_untuned(tmp_path: Path) -> None:
    found = two(tmp_path)
    (search,) = found.searches()
    request = search.request
    assert (request.experiments, request.optimizers, request.trials, request.seed) == (
        ("fair_deep",),
        ("adamw", "lion"),
        3,
        0,
    )
    assert request.arguments == ("logger=none",)
    assert found.winners() == {} and len(found.runs()) == len(found.to_come()) == 4 and len(found.trials()) == 6
    assert not any(job.ended for job in (*found.trials(), *found.to_come()))
    tuned(found, {"adamw": [60.0, None, 70.0], "lion": [50.0, 40.0, 30.0]})
    assert found.searches() == found.to_come() == found.trials() == []
    runs = found.runs()
    assert [(job.config.optimizer.name, job.config.tuning.trials, job.config.seed) for job in runs] == [
        (optimizer, trials, seed) for seed in (100, 101) for optimizer in ("adamw", "lion") for trials in (0, 3)
    ]
    (adamw, lion) = read_tuned(found.record)
    assert adamw.winner is not None and adamw.winner.point == 2 and lion.winner is not None and lion.winner.point == 0
    for job, one in zip((runs[1], runs[3]), (adamw, lion), strict=True):
        assert job.config.tuning.record == tuned_hash(one)
        assert job.config.optimizer.lr == one.winner.values["optimizer.lr"]  # type: ignore[union-attr]
        assert job.config == compose_config(list(job.overrides)) and job.config.trainer.final_validation
        assert job.directory.parent == tmp_path / "fair_deep"
    assert len({job.directory for job in runs}) == 8


def test_the_winners_of_all_workloads_are_kept_in_one_record(tmp_path: Path) -> None:
    """All workloads' tunings are planned before the first one writes its winners."""
    preset = replace(TWO, sweeps=({"experiment": ("fair_deep", "fair_resnet"), "optimizer": ("adamw",)},), trials=1)
    found = contest(preset, None, [], [f"outputs={tmp_path}"], None)
    for search in found.searches():
        for task in next(search.phases()):
            ended(task.job, 50.0)
        assert tune(search, tuple, 1, lambda task: None) == []
    assert list(found.winners()) == [("fair_deep", "adamw"), ("fair_resnet", "adamw")]
    assert found.searches() == [] and sum(job.config.tuning.trials for job in found.runs()) == 4


def test_an_optimizer_without_a_finished_trial_runs_only_untuned(tmp_path: Path) -> None:
    found = two(tmp_path)
    tuned(found, {"adamw": [60.0, 61.0, 70.0], "lion": [None, None, None]})
    assert {job.config.optimizer.name for job in found.runs() if job.config.tuning.trials} == {"adamw"}
    assert found.searches() == []


def test_winners_of_a_different_tuning_are_not_used(tmp_path: Path) -> None:
    """A record with fewer trials, another seed or another space does not count. Finished trials are not repeated."""
    found = two(tmp_path)
    tuned(found, {"adamw": [60.0, 61.0, 70.0], "lion": [1.0, 2.0, 3.0]})
    whole = read_tuned(found.record)
    others = [
        replace(whole[0], budget=Budget(2, 1, 1, 0)),
        replace(whole[0], budget=Budget(3, 1, 1, 7)),
        replace(whole[0], spaces=({**whole[0].spaces[0], "hash": "0" * 16},)),
        replace(whole[0], arguments=("trainer.steps=7",)),
    ]
    for other in others:
        write_tuned(found.record, [other, whole[1]])
        assert [key[1] for key in found.winners()] == ["lion"]
        assert [search.request.optimizers for search in found.searches()] == [("adamw", "lion")]
    assert all(job.ended for job in found.trials())


def test_a_given_record_is_used_without_tuning(tmp_path: Path) -> None:
    mine = two(tmp_path / "a")
    tuned(mine, {"adamw": [60.0, 61.0, 70.0], "lion": [1.0, 2.0, 3.0]})
    found = two(tmp_path / "b", mine.record, "trainer.steps=5")
    assert found.searches() == [] and found.record == mine.record
    assert sum(job.config.tuning.trials == 3 for job in found.runs()) == 4
    (doubt,) = found.doubts()
    assert "had no other argument, but these runs have trainer.steps=5: the winners were not tuned for" in doubt
    assert two(tmp_path / "c", mine.record).doubts() == [] == mine.doubts()
    whole = read_tuned(mine.record)
    write_tuned(mine.record, [whole[0], replace(whole[1], budget=Budget(3, 1, 1, 101))])
    with pytest.raises(UserError, match=r"used seed 101, which this preset's runs use, too"):
        found.winners()
    write_tuned(mine.record, whole[:1])
    with pytest.raises(UserError, match=r"has no trials of optimizer=lion in experiment=fair_deep\. Tune it"):
        found.winners()
    assert len(contest(TWO, None, ["optimizer=adamw"], [], mine.record).runs()) == 4
    with pytest.raises(UserError, match=r"nothing\.json"):
        two(tmp_path, tmp_path / "nothing.json").winners()


def test_only_unfinished_trials_are_submitted_to_a_scheduler(tmp_path: Path) -> None:
    found = two(tmp_path)
    first = enqueue(found.searches(), tuple)
    assert len(first) == 6
    for task in first[:4]:
        ended(task.job, 50.0)
    assert [task.job.directory for task in enqueue(found.searches(), tuple)] == [
        task.job.directory for task in first[4:]
    ]
    for task in first[4:]:
        ended(task.job, 60.0)
    assert enqueue(found.searches(), tuple) == [] and len(found.winners()) == 2


def test_a_record_hash_that_looks_like_a_number_remains_a_string(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = two(tmp_path)
    tuned(found, {"adamw": [60.0, 61.0, 70.0], "lion": [1.0, 2.0, 3.0]})
    for number in ("12345e6789012345", "1234567890123456", "0000000000000000"):
        monkeypatch.setattr("ranger21.tuning.contest.tuned_hash", lambda one, number=number: number)
        chosen = winner_arguments(read_tuned(found.record)[0])
        assert to_dict(compose_config([*chosen]))["tuning"] == {"trials": 3, "record": number}


def test_the_published_record_has_the_same_winners(tmp_path: Path) -> None:
    found = two(tmp_path, None, "+model.kwargs.api_key=hf_abcdefghijklmnopqrstuvwx")
    tuned(found, {"adamw": [60.0, 61.0, 70.0], "lion": [1.0, 2.0, 3.0]})
    shown = publish(found.record, tmp_path / "shown")
    assert "hf_abc" in found.record.read_text() and "hf_abc" not in shown.read_text()
    assert list(map(tuned_hash, read_tuned(shown))) == list(map(tuned_hash, read_tuned(found.record)))


def test_publishing_one_workload_keeps_the_others(tmp_path: Path) -> None:
    """Workloads may be tuned and recorded one at a time, also on different machines."""
    here, shown = two(tmp_path), tmp_path / "shown"
    tuned(here, {"adamw": [60.0, 61.0, 70.0], "lion": [1.0, 2.0, 3.0]})
    one, other = read_tuned(here.record)
    elsewhere = tmp_path / "elsewhere.json"
    write_tuned(elsewhere, [replace(one, experiment="another")])
    for record in (here.record, elsewhere, here.record):
        publish(record, shown)
    assert [(t.experiment, t.optimizer) for t in read_tuned(shown / "tuned.json")] == [
        ("another", one.optimizer), (one.experiment, one.optimizer), (other.experiment, other.optimizer)
    ]  # fmt: skip
    (shown / "tuned.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        publish(here.record, shown)
    assert (shown / "tuned.json").read_text() == "{"


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/reproduce.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)


def test_one_command_collects_the_trials_runs_the_winner_and_compares(images: Path, tmp_path: Path) -> None:
    """The trials' results exist, but not yet their record; the two runs on a fresh seed are real."""
    overrides = [*SMALL, f"data.root={images}", f"outputs={tmp_path}"]
    chosen = ["--preset", "imagenet100", "--only", "optimizer=adamw", "--seeds", "1"]
    found = contest(PRESETS["imagenet100"], 1, ["optimizer=adamw"], overrides, None)
    (search,) = found.searches()
    for task in next(search.phases()):
        ended(task.job, 50.0 + task.point)
    record = tmp_path / "record"
    done = reproduce(*chosen, *overrides, "--record", str(record), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 runs, 8 of them trials: 8 ended; 2 runs to do" in done.stdout
    assert done.stdout.count("trial ") >= 8 and done.stdout.count("  finished\n") == 2
    (one,) = read_tuned(record / "tuned.json")
    assert one.winner is not None and one.winner.point == 7
    table = (record / "table.md").read_text()
    assert "adamw (tuned, 8 trials)" in table and "adamw (untuned)" in table
    page = (record / "tuning.md").read_text()
    assert "| adamw |" in page and "the winner has not been run" not in page and "from another tuning" not in page
    assert found.searches() == [] and len(found.runs()) == 2 and all(job.ended for job in found.runs())


def test_a_tuned_file_for_a_preset_that_does_not_tune_is_refused() -> None:
    done = reproduce("--preset", "paper", "--tuned", str(ROOT / "results/fair_cpu/tuned.json"))
    sentence = "--tuned is only for presets that tune first, and paper does not: omit it."
    assert (done.returncode, done.stderr) == (1, f"error: {sentence}\n")
