"""Hostile checkpoints, through every command that reads one."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile_checkpoints import write_changed_runs, write_hostile_checkpoints
from support.hostile_files import HostileFiles
from support.project import FORMATS, ROOT

from ranger21.records.checkpoint_file import Damaged, read
from ranger21.system.errors import UserError

sys.path.insert(0, str(ROOT / "scripts"))
from export import python_line

RUN = sorted((FORMATS / "runs" / "paper").iterdir())[1]
KNOWN = RUN / "checkpoints" / "last.pt"
SMALL = "data.resize=18 data.crop=16 data.batch_size=4 data.workers=0 logger=none trainer.device=cpu"
COMMANDS = {
    "evaluate": "evaluate.py $FILES/{file} data.root=$FILES/images",
    "export": "export.py $FILES/{file} $WORK/x.pth",
    "landscape": "landscape.py $FILES/{file} data.root=$FILES/images",
    "train": f"train.py model=resnet10t data.root=$FILES/images {SMALL} model.init_from=$FILES/{{file}}",
}
INDEX = ("files/images",)  # the cached index is written there


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_checkpoints_are_refused(hostile: HostileFiles, command: str) -> None:
    shutil.copytree(FORMATS / "images", hostile.files / "images")
    strangers = list(write_hostile_checkpoints(hostile.files, hostile.canary, KNOWN).items())
    part = slice(None) if command == "evaluate" else slice(list(COMMANDS).index(command), None, 5)  # all share a reader
    for file, words in strangers[part]:
        hostile.refuses(COMMANDS[command].format(file=file), words, INDEX)


def test_reading_a_hostile_checkpoint_raises_damaged_or_oserror_only(tmp_path: Path) -> None:
    """A resuming run relies on these two exceptions."""
    whole = {"names.pt", "keys.pt"}
    files = write_hostile_checkpoints(tmp_path, tmp_path / "canary", KNOWN)
    for file in files.keys() - whole - {"storage.pt"}:  # storage.pt takes only virtual memory and may be read
        with pytest.raises((Damaged, OSError)):
            read(tmp_path / file)
    for file in whole:
        assert read(tmp_path / file).keys() == {"model"}
    assert not (tmp_path / "canary").exists()


def test_hostile_run_checkpoints_are_refused_or_exported_as_a_harmless_line(hostile: HostileFiles) -> None:
    shutil.copytree(FORMATS / "images", hostile.files / "images")
    write_hostile_checkpoints(hostile.files, hostile.canary, KNOWN)
    for file, (evaluated, exported) in write_changed_runs(hostile.files, hostile.canary, KNOWN).items():
        hostile.refuses(COMMANDS["evaluate"].format(file=file), evaluated, INDEX)
        line = COMMANDS["export"].format(file=file)
        if exported != "timm.create_model(":
            hostile.refuses(line, exported)
        else:
            answer = hostile.refuses(line, exported, ("work/x.pth",), code=0)
            arguments_of(answer.out.strip())


def test_a_hostile_timm_directory_is_refused(hostile: HostileFiles) -> None:
    write_hostile_checkpoints(hostile.files, hostile.canary, KNOWN)
    shutil.copytree(FORMATS / "images", hostile.files / "images")
    for source, custom in (("local-dir:$FILES/evil", False), ("$FILES/evil2", True)):
        folder = hostile.files / source.rpartition("/")[2]
        folder.mkdir()
        settings = {"architecture": "resnet10t", "num_classes": 4, "pretrained_cfg": {"custom_load": custom}}
        (folder / "config.json").write_text(json.dumps(settings))
        shutil.copy(hostile.files / "mkdir.pt", folder / "pytorch_model.bin")
        hostile.refuses(f"evaluate.py {source} data.root=$FILES/images", "timm cannot load", INDEX)


def test_a_hostile_config_yaml_runs_no_code(hostile: HostileFiles) -> None:
    run = shutil.copytree(RUN, hostile.files / "run")
    (run / "config.yaml").write_text(f"seed: !!python/object/apply:os.mkdir [{hostile.canary}]\n")
    hostile.refuses("compare.py $FILES/run", "its config.yaml cannot be read", ("work",))
    hostile.refuses(f"train.py run_dir=$FILES/run data.root=$FILES/images model=resnet10t {SMALL}", "error: ", INDEX)


@pytest.mark.parametrize("how", ["a pipe", "too deep"])
def test_a_hostile_manifest_beside_a_checkpoint_is_ignored(hostile: HostileFiles, how: str) -> None:
    run = shutil.copytree(RUN, hostile.files / "run")
    manifest = run / "manifest.json"
    manifest.unlink()
    if how == "a pipe":
        os.mkfifo(manifest)
    else:
        manifest.write_text('{"data": ' + "[" * 100_000)
    hostile.refuses(COMMANDS["evaluate"].format(file="run"), "error: ", INDEX)
    hostile.refuses(COMMANDS["export"].format(file="run"), "timm.create_model(", ("work/x.pth",), code=0)


def arguments_of(line: str) -> dict[str, Any]:
    """Return the arguments of a line, and assert that it only calls timm with literals."""
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call) and ast.unparse(call.func) == "timm.create_model"
    for value in call.args:
        assert isinstance(ast.literal_eval(value), str)
    return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=300, deadline=None)
@given(name=st.text() | st.sampled_from(["a", "a=1,b", "a)#", "class", "\xaa", "a\n"]), value=VALUES, model=st.text())
def test_the_exported_line_has_exactly_the_runs_arguments_or_is_refused(name: str, value: Any, model: str) -> None:
    config = {"model": {"name": model, "kwargs": {name: value}, "remove_batch_norm": False}}
    try:
        line = python_line({"config": config, "data": {"classes": 4, "channels": 3}}, Path("x.pth"))
    except UserError as error:
        assert "not an argument name" in str(error)
        return
    assert line.isascii() and line.isprintable()
    assert arguments_of(line) == {"num_classes": 4, "in_chans": 3, name: value, "checkpoint_path": "x.pth"}
