"""Run hundreds of commands quickly, by forking one process that has imported torch.

Most tests use it for wrong commands, which must end soon with an error message and an exit code and leave no files.

A case is `(line, code, words)`. `line` is a command line as in a shell, with quotes and with variables in front; its
first word is train.py or the name of a script, and `$NAME` stands for a path of the test. `code` is the exit code, and
`words` is a part of standard error. tests/test_wrong_*.py hold the cases, by subject:

    CASES = [("train.py optimizer.lr=nan", 1, "optimizer.lr=nan is invalid"),
             ("evaluate.py $NOTHING", 1, "there is no checkpoint")]

    @pytest.mark.parametrize(("line", "code", "words"), CASES)
    def test_wrong(commands: CommandRunner, places: dict[str, Path], line: str, code: int, words: str) -> None:
        commands.refuses(line, code, words, places)

The fork runs the file as `python FILE ARGUMENTS` would: with its own sys.argv, environment, exit code and signals, in
an empty working directory. Nothing is mocked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import pytest

from support.project import ROOT

LIMIT = 60.0  # seconds that a command may take

SERVER = """
import atexit, json, os, resource, runpy, signal, sys, tempfile, threading, time, traceback
from ranger21.system.importing import without_collecting_garbage
with without_collecting_garbage():
    import ranger21.run.experiment, ranger21.config.compose, ranger21.report.write
    import ranger21.downloads.prepare, ranger21.data.verify

def run(request):
    "Run a command and end the process as Python does, but skip the modules' teardown: with torch it takes a second."
    code = 0
    try:
        os.environ.update(request["env"])
        tempfile.tempdir = None  # computed before TMPDIR was set
        os.chdir(request["cwd"])
        if request["memory"] is not None:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + request["memory"], resource.RLIM_INFINITY))
        sys.argv = request["argv"]
        sys.path[0] = os.path.dirname(sys.argv[0])  # as Python sets it
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

def outcome(child, limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None

for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            run(request)
        code = outcome(child, request["limit"])
        seconds = time.monotonic() - began
        texts = [(file.seek(0), file.read().decode(errors="replace"))[1] for file in (out, err)]
    print(json.dumps([code, *texts, seconds]), flush=True)
"""


@dataclass(frozen=True)
class CommandResult:
    code: int | None  # None if it was killed after LIMIT seconds
    out: str
    err: str
    seconds: float
    left: tuple[str, ...]  # files that it left in its working directory


class CommandRunner:
    """Run train.py and the scripts."""

    def __init__(self, server: subprocess.Popen[str], scratch: Path) -> None:
        self.server, self.scratch = server, scratch

    def run(self, line: str, places: dict[str, Path]) -> CommandResult:
        """Run a command line in a new empty folder."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as cwd:
            answer = self.run_in(Path(cwd), line, places)
            left = tuple(sorted(str(path.relative_to(cwd)) for path in Path(cwd).rglob("*")))
        return replace(answer, left=left)

    def run_in(
        self,
        cwd: Path,
        line: str,
        places: dict[str, Path],
        env: dict[str, str] | None = None,
        limit: float = LIMIT,
        memory: int | None = None,
    ) -> CommandResult:
        """Run a command line in a folder, limited to `limit` seconds and `memory` bytes beyond those of the imports."""
        argv, own = parse_line(line, places)
        request = {"argv": argv, "env": (env or {}) | own, "cwd": str(cwd), "limit": limit, "memory": memory}
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return CommandResult(*json.loads(self.server.stdout.readline()), left=())

    def complete(self, *words: object, limit: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a script with arguments in a new empty folder; return the result as `subprocess.run` does."""
        line = shlex.join(map(str, words))
        with tempfile.TemporaryDirectory(dir=self.scratch) as cwd:
            answer = self.run_in(Path(cwd), line, {}, limit=limit)
        assert answer.code is not None, f"still running after {limit:g} s: {line}\n{answer.out}\n{answer.err}"
        return subprocess.CompletedProcess(line, answer.code, answer.out, answer.err)

    def refuses(self, line: str, code: int, words: str, places: dict[str, Path]) -> CommandResult:
        """Assert that a command ends with this exit code and error message, without traceback or files."""
        answer = self.run(line, places)
        told = f"{line}\nexit code {answer.code} after {answer.seconds:.1f} s\n{answer.out}\n{answer.err}"
        assert answer.code is not None, f"still running after {LIMIT:g} s: {told}"
        assert "Traceback" not in answer.out + answer.err, told
        assert answer.code == code, told
        assert Template(words).safe_substitute(places) in " ".join(answer.err.split()), told
        assert "error: " in answer.err, told
        assert not answer.left, f"left behind: {answer.left}; {told}"
        return answer


def parse_line(line: str, places: dict[str, Path]) -> tuple[list[str], dict[str, str]]:
    """Return a command line's arguments, starting with the file to run, and the variables set in front of it."""
    words = [Template(word).safe_substitute(places) for word in shlex.split(line)]
    env: dict[str, str] = {}
    while re.match(r"[A-Z_][A-Z0-9_]*=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    file = ROOT / words[0] if words[0] == "train.py" else ROOT / "scripts" / words[0]
    assert file.is_file(), f"{line}: there is no {file}"
    return [str(file), *words[1:]], env


def environment() -> dict[str, str]:
    """Return the commands' environment, without variables that name ImageNet's folder or make the process a rank."""
    hidden = ("IMAGENET_DIR", "HYDRA_FULL_ERROR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("SLURM_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRunner]:
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    scratch = tmp_path_factory.mktemp("wrong")
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=scratch, **options) as server:
        yield CommandRunner(server, scratch)
        assert server.stdin is not None
        server.stdin.close()
