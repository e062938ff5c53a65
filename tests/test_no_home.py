"""Users without a home directory or a name, as in containers: HOME is unset and the user id is unknown."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.training import TINY, result

NOBODY = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
refused = not shutil.which("unshare") or subprocess.run([*NOBODY, "true"], capture_output=True).returncode
pytestmark = pytest.mark.skipif(bool(refused), reason="needs user namespaces")


def as_nobody(*arguments: str, tmp: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp), "OMP_NUM_THREADS": "1"}
    command = [*NOBODY, sys.executable, *arguments]
    return subprocess.run(command, env=env, cwd=tmp, capture_output=True, text=True, timeout=240)


def test_a_run_with_wandb_needs_no_home_or_user_name(images: Path, tmp_path: Path) -> None:
    overrides = [value for value in TINY if value != "logger=none"] + ["logger=wandb", "trainer.steps=1"]
    done = as_nobody(str(ROOT / "train.py"), *overrides, f"data.root={images}", "run_dir=run", tmp=tmp_path)
    assert done.returncode == 0 and "W&B is switched off" not in done.stdout, done.stdout + done.stderr
    assert result(tmp_path / "run")["status"] == "finished" and [*(tmp_path / "run/wandb").glob("offline-run-*")]


def test_cache_directory_without_a_home_says_which_variable_to_set(tmp_path: Path) -> None:
    code = "from ranger21.data.layout import cache_directory as c; from ranger21.config.ending import ending_well\n"
    done = as_nobody("-c", f"{code}with ending_well(''): c()", tmp=tmp_path)
    sentence = "error: There is no home folder for cached files. Set XDG_CACHE_HOME to a folder.\n"
    assert (done.returncode, done.stderr) == (1, sentence)
