"""compare.py --watch: the comparison is written again while runs are running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.project import ROOT
from support.run_directories import MakeRun


def test_watch_writes_the_comparison_again_until_every_run_has_ended(make_run: MakeRun, tmp_path: Path) -> None:
    running = make_run(seed=0, status="running")
    make_run(seed=1)
    page = tmp_path / "out" / "index.html"
    command = [sys.executable, str(ROOT / "scripts" / "compare.py"), str(running.parent), "--watch", "1"]
    with subprocess.Popen([*command, "--out", str(page.parent)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "2 runs, 1 running or stopped" in process.stdout.readline()
        assert '"reload":1.0' in page.read_text()
        (running / "result.json").write_text(json.dumps({"status": "finished", "step": 20}))
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 0
    assert f"wrote {page}" in output
    assert '"reload":null' in page.read_text()
