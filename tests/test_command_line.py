"""The command line of train.py, all without torch: refused arguments, error messages, --help."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT

from ranger21.config.compose import compose_config
from ranger21.config.groups import GROUPS, choices
from ranger21.config.overrides import CONFIG_DIR

Answer = tuple[int, str, str]  # exit code, standard output, standard error
TrainPy = Callable[..., Answer]

# Runs train.py in forks of one process that has imported Hydra, one after another; answers in JSON.
SERVER = """
import json, os, runpy, sys, tempfile
import ranger21.config.compose
for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            os.environ.update(request["env"])
            sys.argv = ["train.py", *request["args"]]
            runpy.run_path(TRAIN, run_name="__main__")
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
    print(json.dumps([code, *texts]), flush=True)
"""


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing torch raises an error."""
    stub = tmp_path_factory.mktemp("stub")
    (stub / "torch").mkdir()
    (stub / "torch" / "__init__.py").write_text("raise RuntimeError('torch was imported')\n")
    env = {key: value for key, value in os.environ.items() if key not in ("IMAGENET_DIR", "HYDRA_FULL_ERROR")}
    return env | {"PYTHONPATH": f"{stub}{os.pathsep}{ROOT}"}


@pytest.fixture(scope="module")
def train_py(no_torch: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainPy]:
    """Run `python train.py ARGUMENTS` in an environment without torch."""
    code = SERVER.replace("TRAIN", repr(str(ROOT / "train.py")))
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": no_torch}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path_factory.mktemp("cwd"), **options) as server:

        def ask(*args: str, **env: str) -> Answer:
            assert server.stdin is not None and server.stdout is not None
            server.stdin.write(json.dumps({"args": args, "env": env}) + "\n")
            server.stdin.flush()
            code, out, err = json.loads(server.stdout.readline())
            return code, out, err

        yield ask


# Refused arguments, and the words that the error message must contain.
REFUSED = {
    "optimizer.lrr=1": "optimizer.lrr optimizer.lr? weight_decay",
    "+new.key=1": "new seed trainer",
    "modell=resnet50": "modell model?",
    "model.kwargs.depth=2": "+model.kwargs.depth",
    "optimizer.lr=fast": "optimizer.lr=fast number",
    "data.batch_size=null": "data.batch_size=None whole number",
    "optimizer.lr=-1": "optimizer.lr=-1 0",
    "data.crop=300": "data.resize=288 data.crop=300",
    "trainer.precision=int8": "trainer.precision=int8 auto bf16 fp16 fp32 fp64",
    "trainer.device=cuda:x": "trainer.device=cuda:x cuda:N",
    "optimizer=adan": "optimizer=adan adamw nesterov ranger21",
    "experiment=imagenet": "experiment=imagenet demo fashion_mnist paper",
    "optimizer=null": "optimizer",
    "optimizer=ranger21,adamw": "optimizer=ranger21,adamw -m",
    "optimizer.lr=${typo}": "typo",
    "seed=0": "ImageNet data.root IMAGENET_DIR experiment=demo",
    "data.root=/no/such": "/no/such/train data.root",
    "data=fashion_mnist data.root=/no/such": "data.root=/no/such train-images-idx3-ubyte t10k-labels-idx1-ubyte",
    "-m seed=0,1 optimizer=adan": "optimizer=adan adamw",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_mistakes_give_one_line_that_names_the_problem(train_py: TrainPy, arguments: str) -> None:
    code, out, err = train_py(*arguments.split())
    assert (code, out) == (1, "") and re.fullmatch(r"error: \S.*\n", err), err
    assert not [word for word in REFUSED[arguments].split() if word not in err], err


@pytest.mark.parametrize("arguments", ["debug=true data.root=/no/such", "debug=true data.crop=300"])
def test_debug_shows_the_traceback(train_py: TrainPy, arguments: str) -> None:
    code, _, err = train_py(*arguments.split())
    assert code == 1 and "Traceback" in err


@pytest.mark.parametrize("argument", ["optimizer=adan", "data.crop=300"])
def test_hydra_full_error_shows_the_traceback(train_py: TrainPy, argument: str) -> None:
    code, _, err = train_py(argument, HYDRA_FULL_ERROR="1")
    assert code == 1 and "Traceback" in err


def test_the_environment_without_torch_detects_an_import_of_torch(train_py: TrainPy) -> None:
    assert "torch was imported" in train_py("experiment=demo")[2]


def test_a_separate_process_needs_no_torch_and_leaves_no_files(no_torch: dict[str, str], tmp_path: Path) -> None:
    """The two commands that users type first run without the fork server."""
    command = [sys.executable, str(ROOT / "train.py")]
    options: dict[str, Any] = {"env": no_torch, "cwd": tmp_path, "capture_output": True, "text": True}
    shown = subprocess.run([*command, "--cfg", "job", "optimizer=adamw"], **options)
    assert (shown.returncode, shown.stderr) == (0, "") and "name: constant" in shown.stdout
    refused = subprocess.run([*command, "optimizer=adan"], **options)
    assert refused.returncode == 1 and refused.stderr.startswith("error: optimizer=adan does not exist")
    assert not list(tmp_path.iterdir())


def commands(text: str) -> list[list[str]]:
    """Return the words of each train.py command line in a text; two spaces separate a command from its explanation."""
    lines = [re.split(r"\s{2,}", line.lstrip("# "))[0] for line in text.splitlines()]
    starts = re.compile(r"([A-Z_]+=\S+ )*(python|torchrun) (\S+ )*train\.py( [^\[]|$)")
    return [shlex.split(line) for line in lines if starts.match(line)]


def overrides_of(words: list[str]) -> list[str]:
    """Return the overrides of a command's run; of a sweep, those of its last run."""
    overrides = [word for word in words[words.index("train.py") + 1 :] if word not in ("-m", "--cfg", "job")]
    return [re.sub("=.*,", "=", word) for word in overrides] if "-m" in words else overrides


def test_a_sweep_leaves_no_files_outside_outputs(no_torch: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "-m", "seed=0,1", "data.root=/no/such"]
    swept = subprocess.run(command, env=no_torch, cwd=tmp_path, capture_output=True, text=True)
    assert (swept.returncode, swept.stderr[:36]) == (1, "error: seed=0: There is no folder /n")
    assert {path.name for path in tmp_path.iterdir()} <= {"outputs"}


def test_help_names_every_choice(train_py: TrainPy) -> None:
    code, text, err = train_py("--help")
    assert (code, err) == (0, "")
    listed = {group: names.split(", ") for group, names in re.findall(r"^(\w+): (.+)$", text, re.MULTILINE)}
    assert {group: listed[group] for group in GROUPS} == {group: choices(group) for group in GROUPS}
    for path in CONFIG_DIR.glob("*/*.yaml"):
        assert path.stem in listed[path.parent.name], path


def test_every_command_in_help_and_in_experiment_configs_composes(
    train_py: TrainPy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = commands(train_py("--help")[1])
    assert len(told) >= 10 and {"torchrun", "python"} < {words[0] for words in told}
    told += [words for path in CONFIG_DIR.glob("experiment/*.yaml") for words in commands(path.read_text())]
    for words in told:
        env = dict(word.split("=") for word in words[: words.index("train.py")] if re.match(r"[A-Z_]+=", word))
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            overrides = overrides_of(words)
            config = compose_config(overrides)
        assert config.data.root == env.get("IMAGENET_DIR", config.data.root)
        assert config.experiment in " ".join(["experiment=paper", *overrides])
