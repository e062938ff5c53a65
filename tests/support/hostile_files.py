"""Hostile files: a command that reads one must end soon with an error message and do nothing else.

A test writes hostile files below `hostile.files` and gives command lines as in tests/support/command_runner.py:

    def test_a_bomb(hostile: HostileFiles) -> None:
        (hostile.files / "bomb.pt").write_bytes(BOMB)
        hostile.refuses("evaluate.py $FILES/bomb.pt", "bomb.pt is damaged")

The command runs in $WORK, with its own $HOME and $TMPDIR, and a folder of fake programs comes first in its PATH. All of
these and $FILES lie in one watched folder, where nothing may change except the paths that a test lists in `writes`. So
a payload shows itself by writing `hostile.canary` ("../canary" from $WORK and $FILES) or by starting one of PROGRAMS,
which write that file. The output must hold no control characters, with which a file name could control the terminal.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_runner import CommandResult, CommandRunner

LIMIT = 20.0  # seconds
MEMORY = 2 << 30  # bytes beyond those of the imports
PROGRAMS = ("gs", "gswin64c", "convert", "magick", "djpeg", "ffmpeg", "xdg-open", "curl", "wget", "ssh", "touch")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class HostileFiles:
    """Run commands on hostile files, and detect side effects."""

    def __init__(self, commands: CommandRunner, top: Path) -> None:
        self.wrong, self.top, self.canary = commands, top, top / "canary"
        self.files, self.work, self.bin = top / "files", top / "work", top / "bin"
        self.env = {"HOME": str(top / "home"), "TMPDIR": str(top / "tmp"), "RANGER21_CANARY": str(self.canary)}
        self.env["MPLCONFIGDIR"] = str(commands.scratch.parent / "matplotlib")  # share the font cache
        for folder in (self.files, self.work, self.bin, top / "home", top / "tmp"):
            folder.mkdir()
        for program in PROGRAMS:
            (self.bin / program).write_text(f'#!/bin/sh\necho {program} "$@" >> "{self.canary}"\n')
            (self.bin / program).chmod(0o755)

    def refuses(self, line: str, words: str, writes: tuple[str, ...] = (), code: int = 1) -> CommandResult:
        """Assert that a command prints these words, ends with this exit code, and does nothing else.

        Args:
            line: The command; `$FILES` and `$WORK` stand for the folders.
            words: A part of its output, in which `$FILES` and `$WORK` stand for the same folders.
            writes: Paths in the watched folder to which the command may write, such as "work/out".
            code: The exit code; 0 if the command skips hostile files and continues.
        """
        before = self.snapshot(writes)
        env = self.env | {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin"}
        places = {"FILES": self.files, "WORK": self.work}
        answer = self.wrong.run_in(self.work, line, places, env, LIMIT, MEMORY)
        told = f"{line}\nexit code {answer.code} after {answer.seconds:.1f} s\n{answer.out}\n{answer.err}"
        after = self.snapshot(writes)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        ran = self.canary.read_text(errors="replace") if self.canary.is_file() else "a payload"
        assert "canary" not in changed, f"foreign code ran ({ran.strip()}): {told}"
        assert not changed, f"written outside the folders named: {changed}; {told}"
        assert answer.code is not None, f"still running after {LIMIT:g} s: {told}"
        both = answer.out + answer.err
        assert "Traceback" not in both, told
        assert answer.code == code, told
        assert code == 0 or "error: " in answer.err or "WRONG: " in answer.out, told  # verify_imagenet.py lists all
        for name, place in places.items():
            words = words.replace(f"${name}", str(place))
        assert words in " ".join(both.split()), told
        assert not CONTROL.search(both), f"control characters: {both!a}"
        return answer

    def snapshot(self, writes: tuple[str, ...] = ()) -> dict[str, str]:
        """Return a digest, link target or file type for each path in the watched folder, except below `writes`."""
        found: dict[str, str] = {}
        for path in sorted(self.top.rglob("*")):
            name = str(path.relative_to(self.top))
            if any(name == given or name.startswith(f"{given}/") for given in writes):
                continue
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found[name] = f"{mode} {digest(path)}"
            else:
                found[name] = f"{mode} {path.readlink()}" if stat.S_ISLNK(mode) else str(mode)
        return found


def digest(path: Path) -> str:
    """Return a file's SHA-256, or size, time and number of blocks if it is large (and perhaps sparse)."""
    facts = path.stat()
    if facts.st_size > 1 << 20:
        return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_blocks}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def hostile(commands: CommandRunner, tmp_path: Path) -> Iterator[HostileFiles]:
    folder = tmp_path / "around"
    folder.mkdir()
    yield HostileFiles(commands, folder)
