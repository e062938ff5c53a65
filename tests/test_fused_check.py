"""The fused step's self-check, in Triton's interpreter and a separate process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.project import ROOT

pytest.importorskip("triton")


def test_the_self_check_passes_its_tests_in_tritons_interpreter() -> None:
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    args = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/interpreted/fused_check.py",
    ]
    done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
