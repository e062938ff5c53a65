"""The harness for hostile files detects every side effect that it must detect."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hostile_files import HostileFiles

ATTACKS: list[tuple[str, str]] = [
    ("import pathlib; pathlib.Path('../escaped').touch()", "written outside the folders named: .'escaped'"),
    ("import pathlib; pathlib.Path.home().joinpath('.bashrc').touch()", "home/.bashrc"),
    ("import tempfile; tempfile.mkstemp(suffix='.part')", "tmp/tmp"),
    ("import os; os.system('gs -q x.eps')", "foreign code ran .gs -q x.eps."),
    ("import os; open(os.environ['RANGER21_CANARY'], 'w')", "foreign code ran"),
    ("raise ValueError", "Traceback"),
    ("import sys; sys.exit('error: \\x1b[2J')", "control characters"),
    ("bytearray(5 << 30)", "Traceback"),
    ("raise SystemExit(0)", "exit code 0"),
    ("pass", "exit code 0"),
]


@pytest.mark.parametrize(("code", "found"), ATTACKS, ids=[code for code, _ in ATTACKS])
def test_side_effects_of_a_command_are_detected(
    hostile: HostileFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, found: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr("support.command_runner.parse_line", lambda line, places: ([str(script)], {}))
    with pytest.raises(AssertionError, match=found):
        hostile.refuses("script.py", "")
