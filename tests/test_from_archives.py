"""From ImageNet's official archives to a trained model, with the real commands, each killed once."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.archives import make_archives, need_readers
from support.commands import command
from support.project import ROOT
from support.training import TINY, assert_same_state, last_checkpoint, metrics_lines, metrics_without_speed, result

need_readers("scipy")


def killed_and_run_again(arguments: list[str], begun: Callable[[], bool]) -> bool:
    """Kill the command as soon as `begun()`, then run it to its end. Return whether the kill came before its end."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    while process.poll() is None and not begun():
        time.sleep(0.002)
    caught = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return caught


def after(seconds: float) -> Callable[[], bool]:
    moment = time.monotonic() + seconds
    return lambda: time.monotonic() > moment


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".index.npz")  # contains modification times
    }


class Chain:
    """The four commands, with a separate folder for their output."""

    def __init__(self, archives: Path, place: Path) -> None:
        self.root, self.pack, self.run, self.report = (place / name for name in ("data", "pack", "run", "report.json"))
        script = [sys.executable, str(ROOT / "scripts")]
        options = [o for o in TINY if not o.startswith("data.workers")]
        self.prepare = [script[0], f"{script[1]}/prepare_imagenet.py", str(archives), str(self.root), "--no-checksums"]
        verify = [script[0], f"{script[1]}/verify_imagenet.py", str(self.root)]
        self.verify = [*verify, "--expect", "none", "--json", str(self.report)]
        packs = [script[0], f"{script[1]}/pack.py", str(self.pack)]
        self.packs = [*packs, "data=imagenet", f"data.root={self.root}", "data.resize=36", "data.crop=32"]
        data = [f"data.root={self.root}", f"data.pack={self.pack}", "data.workers=1", f"run_dir={self.run}"]
        self.train = command(*options, *data)["args"]


def test_killing_each_command_on_the_way_to_a_model_changes_nothing(images: Path, tmp_path: Path) -> None:
    archives, calm, troubled = (tmp_path / name for name in ("archives", "calm", "troubled"))
    make_archives(images, archives)
    for place in (calm, troubled):
        place.mkdir()
    quiet = Chain(archives, calm)
    for arguments in (quiet.prepare, quiet.verify, quiet.packs, quiet.train):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
    harsh = Chain(archives, troubled)
    assert killed_and_run_again(harsh.prepare, lambda: len(list(troubled.rglob("*.JPEG"))) > 20)
    assert killed_and_run_again(harsh.verify, after(0.4))
    assert killed_and_run_again(harsh.packs, lambda: (harsh.pack / ".train-00000.tar.tmp").exists())
    checkpoint = harsh.run / "checkpoints" / "last.pt"
    assert killed_and_run_again(harsh.train, checkpoint.exists)

    assert digests(harsh.root) == digests(quiet.root)
    assert json.loads(harsh.report.read_text())["splits"] == json.loads(quiet.report.read_text())["splits"]
    assert digests(harsh.pack) == digests(quiet.pack)
    assert_same_state(last_checkpoint(harsh.run), last_checkpoint(quiet.run))
    assert metrics_without_speed(harsh.run) == metrics_without_speed(quiet.run)
    assert result(quiet.run)["status"] == "finished" and metrics_lines(quiet.run)[-1]["images_seen"] == 320
