"""`model.init_from` accepts weights from many sources, and refuses files without weights with a precise error."""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from support.colours import WNIDS, Colours
from support.project import ROOT
from timm.models._hub import save_for_hf
from torch import nn

from ranger21.config import ModelConfig
from ranger21.models.build import build_model
from ranger21.models.weights import export, read_any, start_from
from ranger21.system.errors import UserError

SCRIPTS = ROOT / "scripts"
KWARGS = {"channels": [8, 16, 16, 16], "stem_width": 8}
Write = Callable[[Colours, Path], Path | str]


def fresh(classes: int = 12, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelConfig("resnet10t", False, dict(KWARGS), None), classes, 3)


def torch_file(wrap: Callable[[dict[str, Any]], Any], **options: Any) -> Write:
    def write(colours: Colours, place: Path) -> Path:
        torch.save(wrap(dict(colours.model.state_dict())), place / "w.pth", **options)
        return place / "w.pth"

    return write


def exported(suffix: str) -> Write:
    def write(colours: Colours, place: Path) -> Path:
        export(read_any(str(colours.run)), place / f"w{suffix}")
        return place / f"w{suffix}"

    return write


def bare_safetensors(colours: Colours, place: Path) -> Path:
    save_file(colours.model.state_dict(), place / "w.safetensors")
    return place / "w.safetensors"


def timms_directory(prefix: str) -> Write:
    """Write a directory as timm's push_to_hf_hub and save_for_hf do."""

    def write(colours: Colours, place: Path) -> str:
        model = timm.create_model("resnet10t", num_classes=12, **KWARGS)
        model.load_state_dict(colours.model.state_dict())
        save_for_hf(model, str(place / "hub"), model_config={"label_names": WNIDS}, safe_serialization=True)
        return f"{prefix}{place / 'hub'}"

    return write


def prefixed(prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def zeros_for(weights: dict[str, Any]) -> dict[str, Any]:
    """Return zeros of the same shapes, as decoys where the average of the weights must be used."""
    return {name: torch.zeros_like(value) for name, value in weights.items()}


# A source, whether it names its classes, and how it is written.
SOURCES: dict[str, tuple[bool, Write]] = {
    "a run directory": (True, lambda colours, place: colours.run),
    "a checkpoint": (True, lambda colours, place: colours.run / "checkpoints" / "last.pt"),
    "our .safetensors": (True, exported(".safetensors")),
    "our .pth": (True, exported(".pth")),
    "a state_dict": (False, torch_file(lambda weights: weights)),
    "a state_dict of torch 1.5": (False, torch_file(lambda weights: weights, _use_new_zipfile_serialization=False)),
    "a bare .safetensors": (False, bare_safetensors),
    "timm's training checkpoint": (
        False,
        torch_file(
            lambda weights: {"epoch": 3, "state_dict": weights, "args": argparse.Namespace(lr=0.1), "version": 2}
        ),
    ),
    "timm's average": (False, torch_file(lambda w: {"state_dict": zeros_for(w), "state_dict_ema": w})),
    "torchvision's average": (
        False,
        torch_file(lambda w: {"model": zeros_for(w), "model_ema": prefixed("module.", w)}),
    ),
    "AveragedModel's": (False, torch_file(lambda w: prefixed("module.", w) | {"n_averaged": torch.tensor(3)})),
    "DistributedDataParallel's": (False, torch_file(lambda weights: prefixed("module.", weights))),
    "torch.compile's": (False, torch_file(lambda weights: {"model": prefixed("_orig_mod.", weights)})),
    "both, one in the other": (False, torch_file(lambda weights: prefixed("_orig_mod.module.", weights))),
    "timm's directory": (True, timms_directory("")),
    "local-dir:": (True, timms_directory("local-dir:")),
    "timm:local-dir:": (True, timms_directory("timm:local-dir:")),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_weights_of_every_source_are_loaded(kind: str, colours: Colours, tmp_path: Path) -> None:
    """All tensors except the head are equal; so is the head if the source names its classes, in any order."""
    names_classes, write = SOURCES[kind]
    weights = read_any(str(write(colours, tmp_path)))
    assert weights.classes == (WNIDS if names_classes else None)
    expected = colours.model.state_dict()
    for classes in (WNIDS, WNIDS[::-1], [*WNIDS[:11], "n99999999"], WNIDS[:4]):
        model = fresh(len(classes))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        message = start_from(model, weights, classes)
        known = names_classes and set(classes) == set(WNIDS)
        rows = torch.tensor([WNIDS.index(name) for name in classes]) if known else None
        for name, value in model.state_dict().items():
            if not name.startswith("fc."):
                assert torch.equal(value, expected[name]), name
            else:
                assert torch.equal(value, before[name] if rows is None else expected[name][rows]), name
        expected_words = (
            "without the head, because"
            if not known
            else "in a different order"
            if classes != WNIDS
            else "for the same 12 classes."
        )
        assert expected_words in message, message
    if names_classes:
        assert "it is for 12 classes, of which 4 are among the 4 here. Not loaded: fc.bias, fc.weight." in message
    else:
        assert "without the head, because it does not name its classes. Not loaded: fc.bias, fc.weight." in message


def test_torchvision_weights_are_loaded(tmp_path: Path) -> None:
    """torchvision's published ResNets have 1000 classes and use timm's names for layers."""
    torch.manual_seed(0)
    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    model = build_model(ModelConfig("resnet18", False, {}, None), 12, 3)
    message = start_from(model, read_any(str(tmp_path / "resnet18-f37072fd.pth")), WNIDS)
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], source.state_dict()["layer4.1.conv2.weight"])
    assert "without the head, because" in message and "fc.weight" in message


def test_timm_weights_are_loaded_by_name(colours: Colours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local file replaces the download of `timm:NAME`."""
    torch.manual_seed(0)
    source = timm.create_model("test_resnet.r160_in1k", num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    real = timm.create_model
    overlay = {"file": str(tmp_path / "w.pth")}
    monkeypatch.setattr(timm, "create_model", lambda name, **kw: real(name, pretrained_cfg_overlay=overlay, **kw))
    weights = read_any("timm:test_resnet.r160_in1k")
    assert weights.classes is not None and weights.classes[0] == "n01440764" and len(weights.classes) == 1000
    assert torch.equal(weights.tensors["fc.weight"], source.state_dict()["fc.weight"])


class Foreign:
    """A class that only its own code can restore."""


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: {"model": Foreign()},
            r"cannot be read without running code in it \(it contains test_weights.Foreign",
        ),
        (lambda: nn.Linear(2, 2), r"running code in it \(it contains torch.nn.modules.linear.Linear\)"),
        (lambda: {"epoch": 3}, "has no weights: it is neither a state_dict nor a checkpoint"),
        (lambda: [1, 2], "has no weights: torch.save wrote a list"),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_files_without_weights_are_refused(new: bool, make: Callable[[], Any], sentence: str, tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match=sentence) as raised:
        read_any(str(tmp_path / "w.pth"))
    assert "damaged" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")  # torch warns that it is deprecated
def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(UserError, match="it is a TorchScript program, not a file of tensors"):
        read_any(str(tmp_path / "w.pt"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80"])
def test_damaged_files_are_called_damaged(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged: "):
        read_any(str(tmp_path / name))
    with pytest.raises(UserError, match=r"There (is|are) no (checkpoint|weights) .*nothing"):
        read_any(str(tmp_path / f"nothing{Path(name).suffix}"))


def test_the_head_of_an_older_checkpoint_is_used_if_its_run_recorded_the_data(colours: Colours, tmp_path: Path) -> None:
    from ranger21.data.build import build_data
    from ranger21.models.weights import named

    state = colours.state()
    del state["format"], state["data"]["names"]
    run = colours.save(state, tmp_path / "run")
    data = build_data(colours.config.data, 0)
    weights = read_any(str(run))
    assert weights.classes is None and named(weights, data).classes == WNIDS
    assert named(weights, replace(data, fingerprint="names:other", names="names:other")).classes is None
    (run / "manifest.json").unlink()
    assert named(weights, data).classes is None


def test_an_export_does_not_contain_paths_of_the_machine(colours: Colours, tmp_path: Path) -> None:
    export(read_any(str(colours.run)), tmp_path / "w.safetensors")
    shutil.copy(tmp_path / "w.safetensors", tmp_path / "moved.safetensors")
    raw = (tmp_path / "moved.safetensors").read_bytes()
    assert str(colours.root).encode() not in raw
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    assert json.loads(metadata["ranger21"])["data"]["names"] == WNIDS


def test_an_export_evaluates_like_its_run_and_its_printed_line_works(
    colours: Colours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's name and the model's arguments need quoting."""
    from ranger21.models.evaluated import Request
    from ranger21.models.scoring import score

    state = colours.state()
    state["config"]["model"]["kwargs"]["drop_rate"] = 0.25
    run = colours.save(state, tmp_path / "run")
    for suffix in (".safetensors", ".pth"):
        target = tmp_path / f'it\'s "new"\n\\ ümlaut{suffix}'
        monkeypatch.setattr("sys.argv", ["export.py", str(run), str(target)])
        monkeypatch.syspath_prepend(SCRIPTS)
        runpy.run_path(str(SCRIPTS / "export.py"), run_name="__main__")
        line = capsys.readouterr().out
        assert line.count("\n") == 1 and line.isascii()
        model = eval(line, {"timm": timm, "torch": torch})
        assert all(torch.equal(value, state["model"][name]) for name, value in model.state_dict().items())
        scored = score(Request(str(target), (f"data.root={colours.root}",)))
        assert scored is not None and scored[0]["val/acc1"] == pytest.approx(100 * 23 / 24)
    assert {path.name[0] for path in tmp_path.iterdir()} == {"i", "r"}  # no temporary files are left


def test_an_export_of_an_older_run_has_class_names_if_its_data_is_available(
    colours: Colours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = colours.state()
    del state["format"], state["data"]["names"]
    run, target = colours.save(state, tmp_path / "run"), tmp_path / "w.safetensors"
    for known in (True, False):
        monkeypatch.setattr("sys.argv", ["export.py", str(run), str(target)])
        monkeypatch.syspath_prepend(SCRIPTS)
        runpy.run_path(str(SCRIPTS / "export.py"), run_name="__main__")
        assert read_any(str(target)).classes == (WNIDS if known else None)
        assert ("does not name its classes" in capsys.readouterr().err) is not known
        (run / "manifest.json").unlink(missing_ok=True)


def test_the_printed_line_can_hold_every_value_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    literal = runpy.run_path(str(SCRIPTS / "export.py"))["literal"]
    for value in ({"a": [1, None, {"b": True}], "ü\n": -0.5}, float("inf"), "'\"", 1e-300):
        assert eval(literal(value)) == value
    assert eval(literal(float("nan"))) != eval(literal(float("nan")))
