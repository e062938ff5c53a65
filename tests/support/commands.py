"""Run train.py as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.project import ROOT

WANDB_INSPECT = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]  # W&B's own reader of its files


def command(*overrides: str, env: dict[str, str] | None = None, launcher: list[str] | None = None) -> dict[str, Any]:
    """Return the arguments with which subprocess runs train.py as a user types it."""
    return {
        "args": [*(launcher or [sys.executable]), str(ROOT / "train.py"), *overrides],
        "env": os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def train(*overrides: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run train.py to its end."""
    return subprocess.run(**command(*overrides, env=env, **options), timeout=240)


def wait_for_line(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if path.exists() and path.stat().st_size:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing in {path}")
