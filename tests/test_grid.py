"""Whole comparisons by one command on this machine: which runs it does, and what it prints."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import FOUR_RUNS, QUICK, make_job
from support.project import ROOT

from ranger21.config.ablation import INGREDIENTS
from ranger21.config.compose import compose_config
from ranger21.grid.cost import cost, images
from ranger21.grid.jobs import PlannedRun, expand, folder_name
from ranger21.grid.presets import PRESETS
from ranger21.grid.progress import FAILED, QUEUED, STARTING, progress
from ranger21.grid.record import publication, record, records
from ranger21.grid.slurm import QueuedJob
from ranger21.records.directory import in_use
from ranger21.records.naming import run_directory
from ranger21.report.runs.record_file import entries
from ranger21.report.runs.run import RUNNING
from ranger21.system.errors import UserError


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/reproduce.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)


@pytest.fixture
def four(tiny: list[str], tmp_path: Path) -> list[str]:
    """A tiny version of the paper's comparison: one model, two optimizers and two seeds, four steps per run."""
    kept = [override for override in tiny if not override.startswith(("trainer.", "logger="))]
    return [*FOUR_RUNS, "--at-once", "2", *kept, *QUICK, "trainer.device=cpu", f"outputs={tmp_path / 'outputs'}"]


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_run_of_a_preset_composes_and_has_a_unique_directory(name: str) -> None:
    preset = PRESETS[name]
    jobs = expand(preset, None, [], [])
    assert len(jobs) == len(list(preset.runs())) == len({job.directory for job in jobs})
    seeds = {job.config.seed for job in jobs}
    assert seeds == set(range(preset.first_seed, preset.first_seed + preset.seeds))
    for job in (jobs[0], jobs[-1]):  # composing once for all seeds gives the configuration of train.py
        assert job.config == compose_config(list(job.overrides))
        assert job.directory == run_directory(job.config)


def test_the_presets_contain_the_expected_runs() -> None:
    paper = [(job.config.model.name, job.config.optimizer.name) for job in expand(PRESETS["paper"], 1, [], [])]
    assert sorted(paper) == [(m, o) for m in ("nf_resnet50", "resnet50") for o in ("adamw", "ranger21")]
    fair = {(j.config.optimizer.name, j.config.schedule.name) for j in expand(PRESETS["fair"], 1, [], [])}
    assert {("adamw", "constant"), ("adamw", "explore_exploit"), ("ranger21", "explore_exploit")} < fair
    ablation = expand(PRESETS["ablation"], 1, [], [])
    assert len(ablation) == 8 + len(INGREDIENTS) - 1 + len(INGREDIENTS) - 1
    small = expand(PRESETS["fashion_mnist"], None, [], [])
    assert {job.config.seed for job in small if job.config.experiment == "ablation"} == {0, 1, 2}


def test_only_and_seeds_select_runs_and_wrong_selections_are_refused() -> None:
    jobs = expand(PRESETS["paper"], 2, ["model=resnet50", "optimizer=adamw"], ["data.fraction=0.5"])
    assert [(job.config.seed, job.config.data.batch_size) for job in jobs] == [(0, 64), (1, 64)]
    assert all("data.fraction=0.5" in job.overrides for job in jobs)
    with pytest.raises(UserError, match="--only model=vgg matches no run of the preset"):
        expand(PRESETS["paper"], None, ["model=vgg"], [])
    with pytest.raises(UserError, match="The preset chooses seed= and run_dir="):
        expand(PRESETS["paper"], None, [], ["seed=3"])


def test_comparisons_of_different_settings_have_different_folders() -> None:
    def name(*chosen: str) -> str:
        return folder_name("paper-comparison", chosen)

    neutral = ("data.pack=/packs/a", "logger=none", "logger.mode=offline", "outputs=/b", "trainer.device=cpu")
    assert name() == name(*neutral) == "paper-comparison"
    assert name("trainer.epochs=30", *neutral) == "paper-comparison-trainer.epochs=30"
    assert name("model=resnet50") == "paper-comparison-model=resnet50"
    long = [name(f"data.classes=[a,{last}]") for last in "bc"]
    assert len({*long, name("data=sample", "ablation=minus_pnm")}) == 3
    assert all(word.startswith("paper-comparison-") and "[" not in word for word in long)


# Running a preset


@pytest.mark.timeout(600)
def test_after_a_kill_the_repeated_command_repeats_no_step_and_a_third_runs_only_what_is_missing(
    four: list[str], tmp_path: Path
) -> None:
    dry = reproduce(*four, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("python train.py experiment=paper model=resnet50") == 4
    assert "hours unknown because no run of" in dry.stdout and "are not ImageNet's 1,000 classes" in dry.stderr
    assert not (tmp_path / "outputs").exists()
    kept = tmp_path / "kept" / "runs.jsonl.gz"
    slow = [*four, "trainer.steps=30", "trainer.checkpoint_every_steps=1"]
    recorded = [*slow, "--record", str(kept.parent), "--yes"]
    command = [sys.executable, str(ROOT / "scripts/reproduce.py"), *recorded]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    outputs = tmp_path / "outputs"
    wait_for(lambda: any(path.stat().st_size for path in outputs.rglob("metrics.jsonl")))
    runner = int(next(outputs.rglob(".lock")).read_text().split()[1])
    os.kill(runner, signal.SIGSTOP)  # else the run could end before --status looks
    try:
        seen = reproduce(*slow, "--status").stdout
    finally:
        os.kill(runner, signal.SIGCONT)
    assert "running" in seen
    assert "missing" in seen
    wait_for(kept.exists)  # written as soon as the first run has ended
    process.send_signal(signal.SIGHUP)  # the terminal closes; the runs have their own sessions
    assert process.wait(120) == 130
    wait_for(lambda: not any(in_use(path.parent) for path in outputs.rglob(".lock")))
    done = {path: path.stat().st_mtime_ns for path in outputs.rglob("result.json")}
    again = reproduce(*recorded)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 records copied to" in again.stdout and (kept.parent / "table.md").is_file()
    assert len([entry for entry in entries(kept) if not isinstance(entry, str)]) == 4
    for path in outputs.rglob("metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
        assert steps == sorted(set(steps))
        assert steps[-1] == 30
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    results = sorted(outputs.rglob("result.json"))
    assert len(results) == 4
    times = [path.stat().st_mtime_ns for path in results]
    results[2].unlink()
    (results[2].parent / "manifest.json").unlink()  # this run is missing now
    third = reproduce(*slow)
    assert "4 runs: 3 ended; 1 run to do, about" in third.stdout
    assert third.stdout.count("  finished\n") == 1
    assert third.returncode == 0 and len(list(outputs.glob("paper-comparison-*/index.html"))) == 1
    now = [path.stat().st_mtime_ns for path in results]
    assert [a == b for a, b in zip(now, times, strict=True)] == [True, True, False, True]


def test_a_failed_run_is_reported_and_shown_in_the_status(four: list[str], tmp_path: Path) -> None:
    bad = [*four, "--seeds", "1", f"data.root={tmp_path}/data"]
    missing = reproduce(*bad)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith(f"error: There is no folder {tmp_path}/data/train.")
    planned = reproduce(*bad, "--dry-run")
    assert planned.returncode == 0 and f"warning: There is no folder {tmp_path}/data/train." in planned.stderr
    assert not (tmp_path / "outputs").exists()
    for folder in ("train/a", "train/b", "val/a", "val/b"):  # passes the check of names
        (tmp_path / "data" / folder).mkdir(parents=True)
    done = reproduce(*bad)
    assert done.returncode == 1
    assert "failed: python train.py experiment=paper" in done.stderr
    shown = reproduce(*bad, "--status").stdout
    assert shown.count(FAILED) >= 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--every 5", "--every is only for --status: give both."),
        ("--sbatch --time=1", "--sbatch is only for --launcher=slurm: give both."),
        ("--launcher slurm --sbatch '", '--sbatch="\'" is not a command line (No closing quotation).'),
        ("--data-on-nodes", "--data-on-nodes is only for --launcher=slurm: give both."),
        ("--record there --out here", "--record chooses the output directory: omit --out."),
    ],
)
def test_options_without_effect_and_impossible_options_are_refused(options: str, sentence: str) -> None:
    done = reproduce("--preset", "paper", *options.replace("--sbatch ", "--sbatch=").split())
    assert (done.returncode, done.stderr) == (1, f"error: {sentence}\n")


def test_a_missing_launcher_is_named(tmp_path: Path) -> None:
    nowhere = subprocess.run(
        [sys.executable, str(ROOT / "scripts/reproduce.py"), *FOUR_RUNS, "--launcher", "slurm", "--data-on-nodes",
         f"outputs={tmp_path}"],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, env=os.environ | {"PATH": "/nowhere"},
    )  # fmt: skip
    assert nowhere.returncode == 1
    assert "sbatch was not found: run this command on a login node, or use --launcher=local." in nowhere.stderr


# Progress, cost and records


@pytest.mark.parametrize("said", ["error: no such folder", "ModuleNotFoundError: No module named 'torch'"])
def test_progress_shows_the_last_error_of_a_failed_run(said: str, tmp_path: Path) -> None:
    job = make_job(tmp_path / "a")
    (job.directory / "launcher.txt").write_text(
        f"Training\n{said}\nsrun: error: node1: task 0: Exited with exit code 1\n"
    )
    assert progress(job) == replace(progress(job), state=FAILED, error=said.removeprefix("error: "))


@pytest.mark.parametrize(("locked", "state"), [(".lock", RUNNING), ("launcher.txt", STARTING)])
def test_progress_shows_the_time_left_of_a_running_run(locked: str, state: str, tmp_path: Path) -> None:
    job = make_job(tmp_path / "a", **{"val/acc1": 12.5, "perf/images_per_s": 100.0})
    assert progress(job).state == "stopped"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); "
         "print('held', flush=True); time.sleep(60)", str(job.directory / locked)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    now, launched = progress(job), job.launched
    holder.kill()
    holder.wait()
    assert (now.state, now.epoch, now.top1, now.images_per_s) == (state, 1.5, 12.5, 100.0)
    assert now.done == pytest.approx(1.5 / job.config.trainer.epochs)
    assert state == STARTING or now.left == pytest.approx(30 * (1 / now.done - 1))
    assert launched and not job.launched and not in_use(job.directory)
    for job_of_slurm, expected in ((QueuedJob("7_0", running=True), STARTING), (QueuedJob("7_0", False), QUEUED)):
        assert progress(job, {job.directory: job_of_slurm}).state == expected


def test_cost_is_the_remaining_work_at_the_measured_speed(tmp_path: Path) -> None:
    begun = make_job(tmp_path / "a", **{"perf/images_per_s": 50.0})
    (begun.directory / "checkpoints").mkdir()
    (begun.directory / "checkpoints/last.pt").write_bytes(bytes(1000))
    (begun.directory / "manifest.json").write_text(json.dumps({"data": {"train_images": 1000}}))
    missing = PlannedRun(begun.overrides, begun.config, tmp_path / "b")
    found = cost([begun, missing])
    left = images(begun) * (1 - 1.5 / begun.config.trainer.epochs) + images(missing)
    assert (found.runs, found.hours, found.bytes) == (2, pytest.approx(left / 50 / 3600), 6000)
    assert cost([missing]).hours is None
    alone = cost([begun, missing], left=[missing])  # the other one is running
    assert (alone.runs, alone.hours) == (1, pytest.approx(images(missing) / 50 / 3600))


def test_without_a_measured_speed_the_cost_is_in_images(tmp_path: Path) -> None:
    """The holdout and the classes that are not chosen do not count."""
    config = compose_config(["experiment=imagenet100", "data.root=/nowhere"])
    found = cost([PlannedRun((), config, tmp_path / "a")])
    assert found.hours is None and found.images == 16 * (128_117 - 5_000)
    small = compose_config(["experiment=fair_resnet"])
    assert images(PlannedRun((), small, tmp_path / "b")) == small.trainer.epochs * 55_000
    assert "(1.97 million images take 0.547 hours at 1,000 images/s)" in found.sentence(1)


def test_records_contain_no_paths_or_host_name(tmp_path: Path) -> None:
    job = make_job(tmp_path / "runs" / "demo" / "a")
    (job.directory / "result.json").write_text('{"status": "finished"}')
    session = {
        "command": ["/home/me/bin/python3", "/home/me/train.py", "seed=1"],
        "hardware": {"host": "mine", "cores": 2},
    }
    (job.directory / "manifest.json").write_text(json.dumps({"data": {"classes": 10}, "sessions": [session]}))
    (job.directory / "checkpoints").mkdir()
    file = tmp_path / "kept" / "runs.jsonl.gz"
    assert record(records([job]), file) == 1
    _, head, *lines = gzip.decompress(file.read_bytes()).splitlines()
    kept = {"command": ["python3", "train.py", "seed=1"], "hardware": {"cores": 2}}
    assert json.loads(head) == {
        "run": "demo/a",
        "manifest": {"data": {"classes": 10}, "sessions": [kept]},
        "result": {"status": "finished"},
    }
    assert b"\n".join(lines[:-1]) + b"\n" == (job.directory / "metrics.jsonl").read_bytes() + b"\n"
    for damaged in ("", "[]", '{"sessions": [3]}'):
        (job.directory / "manifest.json").write_text(damaged)
        assert record(records([job]), tmp_path / f"kept{len(damaged)}") == 1


def test_records_name_only_the_last_folder_of_the_outputs_and_report_diffs_only_if_there_are_some(
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "out" / "demo" / "a")
    place = str(tmp_path / "out")
    (job.directory / "config.yaml").write_text(f"outputs: {place}\nrecords: {{diff: names}}\n")
    session: dict[str, object] = {"command": ["python", "train.py", f"outputs={place}"], "hardware": {}}
    for git, has_diff in (({"commit": "c0ffee"}, False), ({"diff": "+x", "changed": {}}, True)):
        manifest = {"data": {}, "sessions": [session | {"git": git}]}
        (job.directory / "manifest.json").write_text(json.dumps(manifest))
        (job.directory / "result.json").write_text('{"status": "finished"}')
        (found,) = records([job])
        assert "outputs=out" in found.text and place not in found.text
        assert ("uncommitted changes" in publication([found])) is has_diff


def wait_for(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.2)
