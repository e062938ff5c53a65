"""Wrong commands: train.py's command line, told in a sentence each. How a case is written: tests/wrong_inputs.py."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from wrong_inputs import Wrong, environment, words_of

CASES = [
    ("train.py", 1, "There is no ImageNet: set data.root="),
    ("train.py data.root=/no/such", 1, "There is no folder /no/such/train"),
    ("IMAGENET_DIR=/no/such train.py", 1, "There is no folder /no/such/train"),
    ("train.py optimizer=adan", 1, "optimizer=adan does not exist: optimizer is one of"),
    ("train.py --nosuch", 2, "error: unrecognized arguments: --nosuch"),
    ("train.py -m seed=0,1 optimizer=adan", 1, "optimizer=adan does not exist"),
]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the lines name as $NOTHING and the like."""
    return {"NOTHING": tmp_path_factory.mktemp("places") / "nothing"}


@pytest.mark.parametrize(("line", "code", "words"), CASES, ids=[line for line, _, _ in CASES])
def test_a_wrong_command_line_is_told(wrong: Wrong, places: dict[str, Path], line: str, code: int, words: str) -> None:
    wrong.refuses(line, code, words, places)


@pytest.mark.parametrize("line", ["train.py optimizer=adan", "train.py --nosuch"])
def test_a_process_of_its_own_says_the_same(wrong: Wrong, places: dict[str, Path], line: str) -> None:
    """What the harness answers is what a shell would: exit code, words, and nothing left behind."""
    argv, env = words_of(line, places)
    with tempfile.TemporaryDirectory() as cwd:
        done = subprocess.run([sys.executable, *argv], env=environment() | env, cwd=cwd, capture_output=True, text=True)
        assert not list(Path(cwd).iterdir())
    answer = wrong.run(line, places)
    assert (answer.code, answer.out, answer.err, answer.left) == (done.returncode, done.stdout, done.stderr, ())


def test_the_harness_sees_tracebacks_and_what_is_left(wrong: Wrong, places: dict[str, Path]) -> None:
    with pytest.raises(AssertionError, match="Traceback"):
        wrong.refuses("train.py data.crop=300 debug=true", 1, "data.resize=288", places)
    with pytest.raises(AssertionError, match="exit code 0"):
        wrong.refuses("train.py --version", 1, "", places)
    with pytest.raises(AssertionError, match="exit code 1"):
        wrong.refuses("train.py optimizer=adan", 1, "another sentence", places)
