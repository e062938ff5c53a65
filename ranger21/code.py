"""The project's own files: which code a run was made by. Imports no torch."""

import subprocess
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
TRAIN = PROJECT / "train.py"


def git_state() -> dict[str, Any] | None:
    """Commit and uncommitted changes of the project; None where it is no git checkout."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=PROJECT, capture_output=True, check=True, timeout=30)
        return done.stdout.decode(errors="replace")

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "diff": git("diff", "HEAD")[:1_000_000]}
    except (OSError, subprocess.SubprocessError):
        return None
