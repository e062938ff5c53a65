"""The kinds of faults in a campaign: what each does to a run directory, and how it is undone."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ranger21.faults import inside, whole
from ranger21.faults.damages import copy, flip
from ranger21.faults.kinds import Between, Ending, Refused, Scene, SessionRecord, Within
from ranger21.faults.listing import BY_NAME, KINDS
from ranger21.faults.start import as_command
from ranger21.records.checkpoint_file import read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fault injection needs Linux")
LINES = b'{"step": 1}\n{"step": 2}\n'


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A run directory with the files that faults touch, and a checkpoint of another run."""
    directory, spare, other = (tmp_path / name for name in ("run", "run.spare", "other"))
    spare.mkdir()
    for folder in (directory, other):
        (folder / "checkpoints").mkdir(parents=True)
    state = {"model": {"w": torch.arange(600.0)}, "progress": {"step": 2}, "metrics_size": len(LINES)}
    torch.save(state, directory / "checkpoints" / "last.pt")
    os.link(directory / "checkpoints" / "last.pt", directory / "checkpoints" / "best.pt")
    torch.save(state | {"progress": {"step": 1}}, directory / "checkpoints" / "previous.pt")
    torch.save(state | {"progress": {"step": 9}}, other / "checkpoints" / "last.pt")
    (directory / "metrics.jsonl").write_bytes(LINES)
    (directory / ".lock").touch()
    others = (other / "checkpoints" / "last.pt",)
    return Scene(directory, spare, others, tmp_path / "stage", tmp_path / "drawn", tmp_path, ranks=1, before=None)


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", [0.0, 0.2, 0.3, 0.6, 0.8, 0.99])
@pytest.mark.parametrize("name", [kind.name for kind in KINDS if isinstance(kind, Refused)])
def test_a_fault_that_must_be_refused_can_be_undone(name: str, where: float, scene: Scene) -> None:
    """Undoing it works after the campaign was killed, too, and a second time it changes nothing."""
    before, kind = content(scene.directory), BY_NAME[name]
    assert not kind.mend(scene)
    assert kind.prepare(scene, where) is not None
    assert content(scene.directory) != before
    assert kind.mend(scene) and content(scene.directory) == before
    assert not kind.mend(scene) and content(scene.directory) == before


@pytest.mark.parametrize("name", ["directory renamed", "metrics.jsonl deleted", ".lock deleted"])
def test_files_and_folders_taken_from_a_run_are_put_back(name: str, scene: Scene) -> None:
    before, kind = content(scene.directory), BY_NAME[name]
    session: Any = None  # these faults do not use it
    assert kind.hit(scene, session, 0.5) == {}
    assert not scene.directory.exists() or content(scene.directory) != before
    assert kind.hit(scene, session, 0.5) is None
    assert kind.mend(scene) and content(scene.directory) == before and not kind.mend(scene)


def test_a_file_that_the_run_has_written_again_is_not_overwritten(scene: Scene) -> None:
    kind, metrics, session = BY_NAME["metrics.jsonl deleted"], scene.directory / "metrics.jsonl", Any
    assert kind.hit(scene, session, 0.5) == {}  # type: ignore[arg-type]
    metrics.write_bytes(b"anew")
    assert not kind.mend(scene) and metrics.read_bytes() == b"anew"


def test_a_copied_folder_keeps_its_hard_links(scene: Scene) -> None:
    copy(scene.last.parent, scene.spare / "copy")
    assert (scene.spare / "copy" / "last.pt").samefile(scene.spare / "copy" / "best.pt")
    assert not (scene.spare / "copy" / "last.pt").samefile(scene.last)


def test_the_structure_of_a_checkpoint_is_every_byte_outside_its_tensors(scene: Scene) -> None:
    """If a byte there is changed, either reading fails or the values are unchanged."""
    parts, size = whole.structure(scene.last), scene.last.stat().st_size
    places = [place for part in parts for place in part]
    assert len(set(places)) == len(places) == size - 600 * 4
    values = torch.arange(600.0).numpy().tobytes()
    bytes_ = scene.last.read_bytes()
    assert bytes(bytes_[place] for place in range(size) if place not in set(places)) == values
    rng, before = random.Random(0), scene.last.read_bytes()
    for _ in range(300):
        flip(scene.last, rng.choice(places), rng.random())
        if state := whole.state(scene.last):
            assert torch.equal(state["model"]["w"], torch.arange(600.0))
        scene.last.write_bytes(before)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore afterwards the functions that `inside.obey` replaces."""
    for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (time, "time"), (time, "time_ns")):
        monkeypatch.setattr(module, name, getattr(module, name))


def test_the_ordered_number_of_reads_fails_and_then_the_file_is_intact(
    scene: Scene, patched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read gets EIO, whichever function reads."""
    orders = [{"rank": 0, "unreadable": str(scene.last), "times": 3}]
    monkeypatch.setenv(inside.ORDERS, json.dumps(orders))
    inside.obey()
    for attempt in (scene.last.read_bytes, lambda: os.open(scene.last, os.O_RDONLY), lambda: read(scene.last)):
        with pytest.raises(OSError, match="Input/output") as error:
            attempt()
        assert error.value.errno == errno.EIO
    assert read(scene.last)["progress"]["step"] == 2 and zipfile.is_zipfile(scene.last)
    assert read(scene.previous)["progress"]["step"] == 1


def test_the_clock_is_set_back(patched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside.ORDERS, json.dumps([{"rank": 0, "clock": 86_400, "after": -1.0}]))
    real = time.time()
    inside.obey()
    assert real - time.time() > 86_000 and real - time.time_ns() / 1e9 > 86_000


def test_train_py_obeys_orders_as_a_command(tmp_path: Path) -> None:
    """train.py runs as the main program, with its own arguments and exit code."""
    code = as_command(["--help"], {inside.ORDERS: "[]"}, tmp_path / "help.txt").wait()
    assert code == 0 and "train.py" in (tmp_path / "help.txt").read_text()


def record(**values: Any) -> SessionRecord:
    facts = {"newest": 20, "resumed": None, "reached": 20, "saved": 20, "codes": [1, 1]} | values
    return SessionRecord("1 rank", 0, 1, 1, **facts)


LATER = [SessionRecord("1 rank", 0, 2, 1, newest=20, resumed=20, reached=120, saved=120, codes=[0], finished=True)]
OTHERS, EIO, TWO = "last.pt of another run", "EIO from reads of a checkpoint", "two starts at once"


@pytest.mark.parametrize(
    ("name", "fact", "values", "mistake"),
    [
        (OTHERS, {}, {"told": ["of another run"]}, ""),
        (OTHERS, {}, {}, "no message with 'of another run'"),
        (OTHERS, {}, {"told": ["of another run", "Traceback"]}, "showed a traceback"),
        (OTHERS, {}, {"told": ["of another run"], "codes": [1, 0]}, "ended with [1, 0]"),
        (OTHERS, {}, {"told": ["of another run"], "resumed": 0}, "was not refused: resumed from step 0"),
        (OTHERS, {}, {"told": ["of another run"], "saved": 15}, "refused, but lost a checkpoint"),
        (EIO, {"times": 1}, {"resumed": 20, "reached": 33}, ""),
        (EIO, {"times": 1}, {"resumed": 15, "reached": 33}, "resumed from step 15, not the newest intact one, 20"),
        (EIO, {"times": 9}, {"codes": [1], "told": ["cannot be read"]}, ""),
        (EIO, {"times": 9}, {"codes": [1]}, "no message with 'cannot be read'"),
        (EIO, {"times": 9}, {"told": ["cannot be read"], "saved": 15}, "an unreadable checkpoint was abandoned"),
        (TWO, {"codes": [1], "refused": True}, {"resumed": 20, "reached": 30}, ""),
        (TWO, {"codes": [1], "refused": False}, {"resumed": 20, "reached": 30}, "the other start ended with [1]"),
        (TWO, {"codes": [], "refused": False}, {"resumed": 20, "reached": 30}, "both starts trained"),
        (
            "metrics.jsonl deleted",
            {},
            {"finished": True, "reached": 30, "codes": [0]},
            "no message with 'metrics.js",
        ),
        ("directory renamed", {"mended": True}, {"finished": True, "codes": [0]}, "no message with"),
    ],
)
def test_each_kind_of_fault_is_judged_by_its_own_rules(
    name: str, fact: dict[str, Any], values: dict[str, Any], mistake: str
) -> None:
    fault = {"kind": name, "step": 20} | fact
    of_fault = record(faults=[fault], **values)
    found = BY_NAME[name].judge(of_fault.faults[0], of_fault, LATER)[1]
    assert found.startswith(mistake) and bool(found) == bool(mistake), found


def test_every_kind_has_a_unique_name_and_a_known_base_class() -> None:
    assert len(BY_NAME) == len(KINDS)
    assert all(isinstance(kind, Between | Refused | Within | Ending) for kind in KINDS)


def test_every_message_that_a_kind_expects_exists_in_the_program() -> None:
    """Otherwise a reworded message would make its fault look as if the run never recovered."""
    package = Path(whole.__file__).parents[1]
    code = "\n".join(path.read_text() for path in package.rglob("*.py") if path.parent.name != "faults")
    code += os.strerror(errno.ENOSPC)
    expected = {words.removeprefix(f"{getattr(kind, 'part', '')} ") for kind in KINDS for words in kind.says}
    assert expected and not {words for words in expected if words not in code}
