"""A user's own configurations, paths and commands: folders outside the project, and labels that are no choices."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from support.command_runner import CommandRunner
from support.project import ROOT
from support.training import TINY

from ranger21.config.arguments import setting
from ranger21.config.compose import compose_config, with_overrides
from ranger21.config.overrides import CONFIG_DIR, prepare
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError
from ranger21.system.project import command

MINE = "# @package _global_\nexperiment: my_first\noptimizer: {weight_decay: 0.5}\n"
MODEL = "name: resnet18\nremove_batch_norm: false\nremove_skips: false\nkwargs: {drop_rate: 0.1}\ninit_from: null\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, and an experiment whose label differs from its file name."""
    for name, text in (("experiment/mine", MINE), ("model/dropped", MODEL)):
        path = tmp_path / "my configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "my configs"


def test_the_label_of_an_experiment_need_not_be_a_choice(folder: Path) -> None:
    """The run directory has the user's label, and a hash of the differences from the project's configuration."""
    searched = setting("hydra.searchpath", "X").replace("X", f'["{folder}"]')
    config = compose_config([searched, "experiment=mine"])
    by_hand = compose_config(["optimizer.weight_decay=0.5"])
    assert run_directory(config).parent == Path("outputs/my_first")
    assert run_directory(config).name == run_directory(by_hand).name != "resnet50-ranger21-s0"
    own: Any = compose_config([searched, "model=dropped", "experiment=mine"])
    assert own.model.kwargs == {"drop_rate": 0.1} and own.optimizer.weight_decay == 0.5
    assert run_directory(own).name.startswith("resnet18-ranger21-s0-")


@pytest.mark.parametrize("flags", [["--config-dir", "FOLDER"], ["-cd", "FOLDER"], ['hydra.searchpath=["FOLDER"]']])
def test_train_finds_a_users_experiment_and_model(flags: list[str], folder: Path, images: Path, tmp_path: Path) -> None:
    """The run is refused only for its missing data, which comes after naming its directory, and without warnings."""
    words = [flag.replace("FOLDER", str(folder)) for flag in flags]
    typed = [sys.executable, str(ROOT / "train.py"), *words, "experiment=mine", "model=dropped", "data.root=/nowhere"]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and done.stderr.startswith("error: There is no folder /nowhere/train"), done.stderr


def test_flags_may_be_mixed_with_overrides() -> None:
    assert prepare(["seed=1", "-m", "optimizer=adamw,lion"]) == ["seed=1", "optimizer=adamw,lion", "-m"]
    folder = str(CONFIG_DIR)
    assert prepare(["seed=1", "-cd", folder, "debug=true"]) == ["seed=1", "debug=true", "-cd", folder]
    assert prepare(["--cfg", "job", "seed=1"]) == ["seed=1", "--cfg", "job"]
    assert prepare(["-m", "optimizer=glob(ada*)"]) == ["optimizer=glob(ada*)", "-m"]


FILES = {  # of a user's experiment, and part of the error message
    b"# @package _global_\nexperiment: [mine\n": 'broken.yaml", line 3',
    b"\xff\xfe": "UnicodeDecodeError",
    b"# @package _global_\ndefaults: [broken]\n": "RecursionError",
    b"experiment: mine\n": "The file of experiment= must begin with the line '# @package _global_'",
    b"- 1\n": "The file of experiment= must begin with the line '# @package _global_'",
}


@pytest.mark.parametrize("content", FILES)
def test_a_broken_experiment_file_is_reported(content: bytes, commands: CommandRunner, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "broken.yaml").write_bytes(content)
    commands.refuses("train.py experiment=broken --config-dir $HERE seed=1", 1, FILES[content], {"HERE": tmp_path})


def test_overrides_change_the_configuration_of_a_checkpoint() -> None:
    values = asdict(compose_config([*TINY, "data.root=/data", "optimizer=adamw", "schedule=cosine", "experiment=demo"]))
    same = with_overrides(values, [])
    assert asdict(same) == values
    assert with_overrides(values, ["data.root=~/x"]).data.root == str(Path.home() / "x")
    other: Any = with_overrides(
        values, ["+model.kwargs.drop_path_rate=0.1", "data=fashion_mnist", "model.name=resnet18"]
    )
    assert other.model.kwargs["drop_path_rate"] == 0.1 and other.model.kwargs["drop_rate"] == 0.2
    assert other.data.name == "fashion_mnist" and (other.optimizer, other.schedule) == (same.optimizer, same.schedule)
    with pytest.raises(UserError, match=r"experiment= would replace the whole configuration"):
        with_overrides(values, ["experiment=paper"])
    with pytest.raises(UserError, match=r"Did you mean optimizer\.lr\?"):
        with_overrides(values, ["lr=1"])


def test_a_tilde_becomes_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "a b"))
    config: Any = compose_config(["data.root=~/x", "data.pack=~", "outputs=~/runs", "model.init_from=~/w.pt"])
    home = f"{tmp_path}/a b"
    assert (config.data.root, config.data.pack, config.outputs) == (f"{home}/x", home, f"{home}/runs")
    assert config.model.init_from == f"{home}/w.pt"
    assert prepare(["-m", "data.root=~/x,~/y", "seed=0"]) == [f"data.root={home}/x,{home}/y", "seed=0", "-m"]


@given(
    st.text(alphabet=st.sampled_from([*"ab/\\\"' =[](),:~#\t.3-+%@*"]), min_size=1) | st.sampled_from(["null", "1e3"])
)
def test_setting_quotes_any_text(text: str) -> None:
    """The texts have spaces, quotes, brackets, and words with a meaning of their own, such as null."""
    read = OverridesParser.create().parse_overrides([setting("data.root", text)])[0].value()
    assert read == text and isinstance(read, str)


@pytest.mark.parametrize("path", ["/a path", "epoch=3-model.pt", 'a\'s "b"', "$HOME [1]"])
def test_a_printed_command_can_be_pasted(path: str) -> None:
    pasted = command(sys.executable, "-c", "import sys; print(sys.argv[1])", setting("model.init_from", path))
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=True)
    assert compose_config([done.stdout.removesuffix("\n")]).model.init_from == path
