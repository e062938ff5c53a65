"""How commands end: output reaches its reader, or the exit code and an error message say why not."""

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

FULL, USABLE = "free disk space there, or choose another path.", "choose a path that can be used."
PRELUDE = """
import os, sys
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError
with ending_well("starts over"):
"""
HELLO = 'for i in range(10): print("hello", i)'
BUFFERED, UNBUFFERED = dict[str, str](), {"PYTHONUNBUFFERED": "1"}
SCRIPTS = sorted((ROOT / "scripts").glob("[!_]*.py"))  # _installed.py is no script; all of them import it


def ended(command: list[str], stdout: int = subprocess.PIPE, more: dict[str, str] = BUFFERED) -> tuple[int, str]:
    """Run a command with its output sent to `stdout`; return its exit code and standard error."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=240, env=own | more
    )
    return done.returncode, done.stderr


def with_body(body: str) -> list[str]:
    """Return a command with these lines inside `with ending_well(…)`."""
    return ["-c", PRELUDE + "".join(f"    {line}\n" for line in body.splitlines())]


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has closed it."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    """A file on a full disk."""
    writer = os.open("/dev/full", os.O_WRONLY)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("more", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        f"{HELLO}\nsys.exit()",
        f"{HELLO}\nsys.exit(3)",  # this line may be reached before the output is flushed
        'for i in range(10_000): print("hello", i)',
        'from rich.console import Console\nConsole().print("hello")',  # rich itself would exit with 1
    ],
    ids=["few lines", "exit", "exit with a code", "many lines", "rich"],
)
def test_a_command_ends_silently_if_its_reader_goes_away(body: str, more: dict[str, str], unread: int) -> None:
    assert ended(with_body(body), unread, more) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (f"{HELLO}\nraise UserError('x is invalid.')", 1, "error: x is invalid.\n"),
        (f"{HELLO}\nraise KeyboardInterrupt", 130, "stopped: when run again, this command starts over\n"),
    ],
    ids=["mistake", "Ctrl-C"],
)
def test_errors_are_printed_even_if_nobody_reads_the_output(body: str, code: int, said: str, unread: int) -> None:
    assert ended(with_body(body), unread) == (code, said)


def test_any_other_broken_pipe_shows_its_traceback() -> None:
    body = 'reader, writer = os.pipe()\nos.close(reader)\nprint("hello")\nos.write(writer, b"hello")'
    code, said = ended(with_body(body))
    assert code == 1 and said.endswith("BrokenPipeError: [Errno 32] Broken pipe\n"), said


@pytest.mark.parametrize("more", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("body", [HELLO, f"{HELLO}\nsys.exit()"], ids=["few lines", "exit"])
def test_output_to_a_full_disk_gives_an_error_message(body: str, more: dict[str, str], full: int) -> None:
    assert ended(with_body(body), full, more) == (1, f"error: the output: No space left on device: {FULL}\n")


def test_errors_are_printed_even_if_the_output_is_on_a_full_disk(full: int) -> None:
    body = f"{HELLO}\nraise UserError('x is invalid.')"
    assert ended(with_body(body), full) == (1, "error: x is invalid.\n")


@pytest.mark.parametrize("body", ["pass", "sys.stdout.close()", f"sys.stdout = None\n{HELLO}"])
def test_a_command_without_output_succeeds(body: str) -> None:
    """`>&-` in a shell closes the output, and sys.stdout is then None."""
    assert ended(with_body(body)) == (0, "")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), f"the output: No space left on device: {FULL}"),
        (PermissionError(errno.EACCES, "Permission denied", "a/x.json"), f"a/x.json: Permission denied: {USABLE}"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), f"xxx: File name too long: {USABLE}"),
    ],
)
def test_files_that_cannot_be_used_give_an_error_message(
    error: OSError, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ending_well("starts over"):
        raise error
    assert ended.value.code == 1 and capsys.readouterr().err == f"error: {sentence}\n"
    with pytest.raises(OSError, match="something else"), ending_well("starts over"):
        raise OSError(errno.EIO, "something else")  # not the user's mistake, so the traceback is needed


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_script_uses_ending_well(path: Path) -> None:
    assert re.search(r"^    with ending_well\(.+\):\n", path.read_text(), re.MULTILINE)


def test_a_sweep_continues_after_a_refused_run(images: Path, tmp_path: Path) -> None:
    """The sweep lists the failed runs and exits with 1, also on an ASCII-only terminal."""
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
    """A reader goes away when the terminal closes. The run can be resumed."""
    more = [
        f"data.root={images}",
        "trainer.epochs=400",
        "trainer.checkpoint_every_steps=null",
        f"run_dir={tmp_path}/run",
    ]
    process = subprocess.Popen(**command(*TINY, *more) | {"stderr": subprocess.PIPE})
    while " step " not in process.stdout.readline():  # wait until there is something to save
        pass
    process.stdout.close()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (129, "")
    assert (
        "Stopped at step" in (tmp_path / "run/log.txt").read_text() and (tmp_path / "run/checkpoints/last.pt").exists()
    )


def test_a_target_that_cannot_be_written_gives_an_error_message() -> None:
    """The script notices it only at the end, when it draws."""
    command = [str(ROOT / "scripts" / "show_schedule.py"), "--images", "6400", "--out", "/proc/nothing/x.png"]
    assert ended(command) == (1, f"error: /proc/nothing: No such file or directory: {USABLE}\n")


def test_a_script_without_a_reader_still_writes_its_file(unread: int, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    command = [str(ROOT / "scripts" / "show_schedule.py"), "--images", "6400", "--out", str(out)]
    assert ended(command, unread) == (128 + signal.SIGPIPE, "") and out.exists()
