"""How commands end: what is printed reaches its reader, or the exit code and a sentence say why not."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import command
from support.project import ROOT
from support.training import TINY

from ranger21.config.ending import ending_well

USED = "choose one that can be used, or make room there."
PRELUDE = """
import os, sys
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError
with ending_well("starts over"):
"""
HELLO = 'for i in range(10): print("hello", i)'
BUFFERED, UNBUFFERED = dict[str, str](), {"PYTHONUNBUFFERED": "1"}
SCRIPTS = sorted((ROOT / "scripts").glob("[!_]*.py"))  # _installed.py is imported by all of them


def ended(command: list[str], stdout: int = subprocess.PIPE, more: dict[str, str] = BUFFERED) -> tuple[int, str]:
    """A command's exit code and its standard error; what it prints goes to `stdout`."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=240, env=own | more
    )
    return done.returncode, done.stderr


def with_body(body: str) -> list[str]:
    """A command with these lines in its `with`."""
    return ["-c", PRELUDE + "".join(f"    {line}\n" for line in body.splitlines())]


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    """A file on a disk that is full."""
    writer = os.open("/dev/full", os.O_WRONLY)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("more", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        f"{HELLO}\nsys.exit()",
        f"{HELLO}\nsys.exit(3)",  # it makes no difference whether that is reached before the flush
        'for i in range(10_000): print("hello", i)',
        'from rich.console import Console\nConsole().print("hello")',  # rich exits with 1
    ],
    ids=["few lines", "exit", "exit with a code", "many lines", "rich"],
)
def test_a_reader_that_goes_away_ends_it_silently(body: str, more: dict[str, str], unread: int) -> None:
    assert ended(with_body(body), unread, more) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (f"{HELLO}\nraise UserError('x is not possible.')", 1, "error: x is not possible.\n"),
        (f"{HELLO}\nraise KeyboardInterrupt", 130, "stopped: when run again, this command starts over\n"),
    ],
    ids=["mistake", "Ctrl-C"],
)
def test_what_there_is_to_say_is_said_without_a_reader_too(body: str, code: int, said: str, unread: int) -> None:
    assert ended(with_body(body), unread) == (code, said)


def test_another_pipe_that_breaks_is_a_fault_of_ours() -> None:
    """Its traceback is needed."""
    body = 'reader, writer = os.pipe()\nos.close(reader)\nprint("hello")\nos.write(writer, b"hello")'
    code, said = ended(with_body(body))
    assert code == 1 and said.endswith("BrokenPipeError: [Errno 32] Broken pipe\n"), said


@pytest.mark.parametrize("more", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("body", [HELLO, f"{HELLO}\nsys.exit()"], ids=["few lines", "exit"])
def test_a_full_disk_under_the_output_is_told(body: str, more: dict[str, str], full: int) -> None:
    assert ended(with_body(body), full, more) == (1, f"error: the output: No space left on device: {USED}\n")


def test_a_mistake_is_told_on_a_full_disk_too(full: int) -> None:
    body = f"{HELLO}\nraise UserError('x is not possible.')"
    assert ended(with_body(body), full) == (1, "error: x is not possible.\n")


@pytest.mark.parametrize("body", ["pass", "sys.stdout.close()", f"sys.stdout = None\n{HELLO}"])
def test_no_output_is_no_mistake(body: str) -> None:
    """It is None where the shell has closed it: `>&-`."""
    assert ended(with_body(body)) == (0, "")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), f"the output: No space left on device: {USED}"),
        (PermissionError(errno.EACCES, "Permission denied", "a/x.json"), f"a/x.json: Permission denied: {USED}"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), f"xxx: File name too long: {USED}"),
    ],
)
def test_files_that_cannot_be_used_end_a_command_in_a_sentence(
    error: OSError, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ending_well("starts over"):
        raise error
    assert ended.value.code == 1 and capsys.readouterr().err == f"error: {sentence}\n"
    with pytest.raises(OSError, match="something else"), ending_well("starts over"):
        raise OSError(errno.EIO, "something else")  # no user's mistake: its traceback is needed


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_script_ends_well(path: Path) -> None:
    """Around main(), or around all of it but the parsing of its arguments."""
    assert re.search(r"^    with ending_well\(.+\):\n", path.read_text(), re.MULTILINE)


def test_a_sweep_goes_on_after_a_refusal(images: Path, tmp_path: Path) -> None:
    """It lists what failed, and exits with 1; and on a terminal that knows ASCII only."""
    env = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    arguments = ["-m", *TINY, f"data.root={images}", f"outputs={tmp_path}/runs", "trainer.steps=1"]
    arguments += ["trainer.accumulate=3,1"]
    with open(tmp_path / "told", "w") as told:
        code, said = ended([str(ROOT / "train.py"), *arguments], told.fileno(), env)
    refusal = "trainer.accumulate=3: data.batch_size=16 cannot be divided evenly"
    assert code == 1 and f"error: {refusal}" in said and f"error: 1 of 2 runs failed:\n  {refusal}" in said, said
    assert "Traceback" not in said and "Logging error" not in said, said
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert "·" in (result.parent / "log.txt").read_text(encoding="utf-8")
    assert r"\xb7" in (tmp_path / "told").read_text()


def test_a_run_whose_reader_goes_away_saves_and_stops(images: Path, tmp_path: Path) -> None:
    """As if the terminal were closed: silently, to be gone on with."""
    more = [
        f"data.root={images}",
        "trainer.epochs=400",
        "trainer.checkpoint_every_steps=null",
        f"run_dir={tmp_path}/run",
    ]
    process = subprocess.Popen(**command(*TINY, *more) | {"stderr": subprocess.PIPE})
    while " step " not in process.stdout.readline():  # there is something to save from then on
        pass
    process.stdout.close()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (129, "")
    assert (
        "Stopped at step" in (tmp_path / "run/log.txt").read_text() and (tmp_path / "run/checkpoints/last.pt").exists()
    )


def test_what_cannot_be_written_is_told() -> None:
    """After the work, too: by a script that draws when all is computed."""
    command = [str(ROOT / "scripts" / "show_schedule.py"), "--images", "6400", "--out", "/proc/nothing/x.png"]
    assert ended(command) == (1, f"error: /proc/nothing: No such file or directory: {USED}\n")


def test_a_script_without_a_reader(unread: int, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    command = [str(ROOT / "scripts" / "show_schedule.py"), "--images", "6400", "--out", str(out)]
    assert ended(command, unread) == (128 + signal.SIGPIPE, "") and out.exists()
