"""reproduce.py --measure: real steps of one training give the hours, and leave nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT

from ranger21.grid.cost import cost
from ranger21.grid.jobs import expand
from ranger21.grid.measure import to_measure
from ranger21.grid.presets import PRESETS


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/reproduce.py"), "--preset", "paper", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)


def test_each_training_is_measured_once() -> None:
    jobs = expand(PRESETS["paper"], 2, [], [])
    assert [(job.config.model.name, job.config.optimizer.name) for job in to_measure(jobs, jobs, [])] == [
        (model, optimizer) for model in ("resnet50", "nf_resnet50") for optimizer in ("ranger21", "adamw")
    ]


def test_without_a_speed_the_sentence_says_what_to_do_and_has_no_exponent() -> None:
    told = cost(expand(PRESETS["paper"], None, [], [])).sentence(1, "do this")
    assert "(1,540 million images take 427 hours at 1,000 images/s); do this" in told


@pytest.mark.timeout(300)
def test_forty_steps_give_the_hours_and_leave_nothing_behind(tiny: list[str], tmp_path: Path) -> None:
    """The images are those of data.root, whose number is known only from a training on them."""
    outputs = tmp_path / "outputs"
    chosen = ["--only", "model=resnet50", "--only", "optimizer=adamw", *tiny, "trainer.epochs=12", f"outputs={outputs}"]
    done = reproduce(*chosen, "--dry-run", "--measure")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1:] == ["measuring 1/1: resnet10t with adamw, data=imagenet"]
    found = re.search(r"about (\S+) hours .* \(this command: (\S+) for resnet10t with adamw on cpu of ", done.stdout)
    assert found, done.stdout
    assert float(found[1]) == pytest.approx(5 * 12 * 80 / float(found[2]) / 3600, rel=0.02)  # runs, epochs, images
    assert list(tmp_path.iterdir()) == [] and "of disk space" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--measure"], "--measure is only for --dry-run: give both."),
        (["--measure", "--dry-run", "--launcher=slurm"], "--measure measures this machine"),
    ],
)
def test_a_measurement_without_effect_is_refused(options: list[str], sentence: str) -> None:
    done = reproduce(*options)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {sentence}")
