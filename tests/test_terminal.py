"""The terminal: one line of progress at every width, as tmux shows it, and no control codes in a notebook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib.image import imread
from support.command_runner import CommandRunner
from support.page_browser import needs_browser
from support.project import ROOT

PROGRAM = """
import time
from pathlib import Path
from ranger21.run.summary import next_steps
from ranger21.system.terminal import log, log_to_console
from ranger21.tracking.console import ConsoleTracker
log_to_console(True)
tracker = ConsoleTracker(750, 0)
tracker.left = lambda step: "0:12:34"
row = {"epoch": 2.5, "step": 300, "train/loss": 1.23456, "train/acc1": 45.6, "lr": 0.003, "grad_norm": 0.789}
row |= {"perf/images_per_s": 1234.0, "perf/data_wait": 0.02}
tracker.log(row | {"val/loss": 0.98765, "val/acc1": 67.89, "val/acc5": 95.5})
log.info("The data is read from a folder whose name has 12 digits: " + "/data/123456789012" * 6)
tracker.progress(300)
time.sleep(WAIT)
tracker.close(0, {})
print("done", *next_steps(Path("outputs/demo/a run")), sep="\\n")
"""
OTHERS = """
from rich.table import Table
from ranger21.system.processes import ProgressBar
from ranger21.system.terminal import wide_console
table = Table("run", "state")
table.add_row("first", "[red]failed")
wide_console(160).print(table)
with wide_console(80, stderr=True).status("1/3  reading"), ProgressBar("copied", 1000, "{:,.0f}".format) as bar:
    bar.advance(400)
"""
BAR = "━━━━╸━━━━━━━ 300/750  left 0:12:34  loss 1.2346  epoch 2.50  train 45.6 %"
VALIDATED = "epoch 2.50  step 300  left 0:12:34  val top-1 67.89 %  val loss 0.9877"
WIDER = {  # what follows in the line of progress, and in that of a validation
    80: ("", ""),
    100: ("  lr 3.00e-03  grad 0.789", "  val top-5 95.50 %"),
    120: ("  lr 3.00e-03  grad 0.789  1234 images/s", "  val top-5 95.50 %  loss 1.2346  train 45.6 %"),
    200: (
        "  lr 3.00e-03  grad 0.789  1234 images/s  data wait 2%",
        "  val top-5 95.50 %  loss 1.2346  train 45.6 %  lr 3.00e-03  grad 0.789  1234 images/s  data wait 2%",
    ),
}


def program(wait: float) -> str:
    return PROGRAM.replace("WAIT", str(wait))


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_the_progress_line_has_a_bar_the_step_the_time_left_and_metrics_that_fit(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program(60))
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", "-u"]
    env = {key: value for key, value in os.environ.items() if key not in ("JPY_PARENT_PID", "NO_COLOR", "COLUMNS")}
    env |= {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    try:
        for width in WIDER:
            size = ["-x", str(width), "-y", "20"]
            start = [*tmux, "new-session", "-d", "-s", f"w{width}", *size, sys.executable, str(tmp_path / "program.py")]
            subprocess.run(start, check=True, env=env)
        for width, (progress, validation) in WIDER.items():
            lines: list[str] = []
            end = time.monotonic() + 100
            while time.monotonic() < end and not any("300/750" in line for line in lines):
                time.sleep(0.2)
                shown = [*tmux, "capture-pane", "-p", "-t", f"w{width}"]
                lines = subprocess.run(shown, capture_output=True, text=True, check=True, env=env).stdout.splitlines()
            lines = [line.rstrip() for line in lines if line.strip()]
            assert lines[0] == VALIDATED + validation
            assert [line for line in lines if "300/750" in line] == [lines[-1]] == [BAR + progress]
            assert max(map(len, lines)) <= width
            coloured = subprocess.run(
                [*tmux, "capture-pane", "-p", "-e", "-t", f"w{width}"],
                capture_output=True,
                text=True,
                check=True,
                env=env,
            ).stdout
            assert VALIDATED in coloured  # no codes between its digits
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, env=env)


@needs_browser
@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_a_picture_of_a_command_in_a_terminal_shows_its_screen(tmp_path: Path, commands: CommandRunner) -> None:
    pytest.importorskip("playwright", reason="needs pip install playwright")
    picture, command = tmp_path / "made" / "screen.png", ("--", "sh", "-c", "for i in 1 2 3; do echo line $i; done")
    done = commands.complete("screenshot_terminal.py", str(picture), "--until", "line 4", *command)
    assert done.returncode == 1 and "--until=line 4 was not on the screen" in done.stderr and "line 3" in done.stderr
    assert commands.complete("screenshot_terminal.py", str(picture), "--width", "60", *command).returncode == 0
    height, width, _ = imread(picture).shape
    assert 90 < height < 140 and 200 < width < 700  # the command and three lines, without the empty rest of the screen


def test_a_notebook_gets_no_control_codes_and_the_last_lines_say_what_to_do_next(tmp_path: Path) -> None:
    """The shell commands of a notebook run in a pseudo-terminal, whose output the notebook shows as text."""
    import pty

    leader, follower = pty.openpty()
    env = os.environ | {"PYTHONPATH": str(ROOT), "JPY_PARENT_PID": "1", "TERM": "xterm-256color"}
    running = subprocess.Popen([sys.executable, "-c", OTHERS + program(0)], stdout=follower, stderr=follower, env=env)
    os.close(follower)
    found = b""
    try:
        while part := os.read(leader, 65536):
            found += part
    except OSError:  # the end, on Linux
        pass
    os.close(leader)
    assert running.wait() == 0
    text = found.decode().replace("\r\n", "\n")
    assert not [letter for letter in text if ord(letter) < 32 and letter != "\n"]
    assert "failed" in text and "copied: 400 in 0:00:0" in text
    assert text.splitlines()[-5:] == [
        "done",
        "# compare all runs in this folder; then open outputs/demo-comparison/index.html",
        "python scripts/compare.py outputs/demo --out outputs/demo-comparison",
        "# evaluate the best checkpoint",
        "python scripts/evaluate.py 'outputs/demo/a run'",
    ]
