"""scripts/compose.py as a command, up to the records of its final runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.command_runner import CommandRunner
from support.composing import asked, finish, rivals
from support.fashion_mnist import idx_files
from support.project import ROOT

from ranger21.meta.composition import Composition
from ranger21.meta.record import for_publication, read_composed
from ranger21.meta.rivals import with_rivals
from ranger21.system.errors import UserError
from ranger21.tuning.record import write_tuned


def test_one_command_runs_the_winners_and_records_them(tmp_path: Path, commands: CommandRunner) -> None:
    """The trials' results are made up; the three final runs are real."""
    idx_files(data := tmp_path / "data", train=80, test=10)
    small = replace(asked(data), repeats=1, searches=("thompson",), budget=4, outputs=str(tmp_path))
    finish(searched := Composition(small))
    tuned = [replace(one, arguments=small.recorded) for one in rivals()]
    write_tuned(file := tmp_path / "tuned.json", tuned)
    words = ["experiment=fair_resnet", *small.arguments, f"outputs={tmp_path}", "logger=none", "--budget", "4"]
    words += ["--seeds", "1", "--tuned", str(file), "--record", str(kept := tmp_path / "kept"), "--yes"]
    command = [sys.executable, str(ROOT / "scripts/compose.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "final runs: 0 of 3 ended" in done.stdout and "3 records copied to" in done.stdout
    there = read_composed(kept / "composed.json")
    assert there == with_rivals(replace(searched.composed(), arguments=there.arguments), tuned)
    text = (kept / "compose.md").read_text()
    assert "| thompson |" in text and "| adamw |" in text and (kept / "optimizer/composed.yaml").is_file()
    again = commands.complete("compose.py", *words, "--dry-run")
    assert "--record would copy the records of 3 runs" in again.stdout and "train.py" not in again.stdout
    with pytest.raises(UserError, match=r"another task, experiment=fair_resnet data.*: choose another --record"):
        for_publication(replace(there, arguments=()), kept)
