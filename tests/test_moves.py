"""Runs recorded before source files moved into subpackages: the move itself does not count as a code change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import ROOT

from ranger21.records import code, moves
from ranger21.records.moves import Move

OLD = ROOT / "tests" / "golden" / "code_before_rooms.json"  # taken from a manifest.json written before the move


@pytest.fixture
def manifest() -> dict:
    return json.loads(OLD.read_text())


def recorded(manifest: dict) -> code.Code:
    found = code.recorded_code(manifest, manifest["sessions"][0])
    assert found is not None
    return found


def files_of(manifest: dict) -> dict[str, str]:
    (files,) = manifest["code"].values()
    return files


def edited_since(manifest: dict) -> set[str]:
    """Return the files edited since the move, found by comparing the list of moves and the old manifest with today."""
    now = code.hashes()
    left = {
        name: mark for name, mark in files_of(manifest).items() if name not in {move.name for move in moves.moves()}
    }
    left |= {move.new_name: move.new_mark for move in moves.moves() if code.can_change_a_result(move.new_name)}
    return {name for name in left.keys() | now.keys() if left.get(name) != now.get(name)}


def test_a_run_before_the_move_differs_only_in_files_edited_since(manifest: dict) -> None:
    then, now = recorded(manifest), code.Code(code.hashes(), None, {})
    assert {"ranger21/loop.py", "ranger21/memory.py"} <= files_of(manifest).keys()
    assert set(now.changed(then)) == edited_since(manifest)
    assert then.same(recorded({"code": {"x": dict(then.files or {})}, "sessions": [{"code": "x"}]}))


def test_earlier_changes_are_reported_under_the_new_file_names(manifest: dict) -> None:
    as_it_was = recorded(manifest)
    files = files_of(manifest)
    files |= {"ranger21/loop.py": "0" * 16, "ranger21/memory.py": "1" * 16, "ranger21/data/order.py": "2" * 16}
    del files["ranger21/undo.py"]
    changed = recorded(manifest).changed(as_it_was)
    engine = ["ranger21/engine/loop.py", "ranger21/engine/undo.py"]
    assert changed == ["ranger21/data/order.py", *engine, "ranger21/run/memory.py", "ranger21/system/memory.py"]


def test_earlier_uncommitted_changes_are_reported_under_the_new_file_names() -> None:
    """Files that cannot change a result are left out."""
    counts, others = ("ranger21/loop.py", "ranger21/data/order.py"), ("README.md", "ranger21/lr_finder.py")
    changed = dict.fromkeys(others, "2") | dict(zip(counts, ("1", None), strict=True))
    then = code.recorded_code({}, {"git": {"commit": "a" * 40, "changed": changed}})
    assert then is not None
    assert then.uncommitted == {"ranger21/engine/loop.py": "1", "ranger21/data/order.py": None}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository in which one file moves and its imports change, and another stays; code.py is pointed at it."""

    def commit(**files: str) -> str:
        for name, text in files.items():
            path = tmp_path / "ranger21" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("add", "-A")
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
        return git("rev-parse", "HEAD").strip()

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    for name in ("train.py", "configs/config.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    other = commit(loop="import undo  # slower\n", stays="x\n")
    before = commit(loop="import undo\n")
    git("rm", "-q", "ranger21/loop.py")
    commit(engine__loop="import engine.undo\n")
    old, new = ("import undo\n", "import engine.undo\n")
    line = Move(code._hash(old.encode()), "ranger21/loop.py", code._hash(new.encode()), "ranger21/engine/loop.py")
    monkeypatch.setattr(code, "PROJECT", tmp_path)
    monkeypatch.setattr(moves, "moves", lambda: [line])
    monkeypatch.setattr(code, "own_hashes", lambda: code.hashes(tmp_path))
    (tmp_path / "commits").write_text(f"{other} {before}")
    moves.gone.cache_clear()
    yield tmp_path
    moves.gone.cache_clear()


def test_a_commit_before_the_move_is_compared_as_if_its_files_had_moved(project: Path) -> None:
    other, before = (project / "commits").read_text().split()
    assert code.changed_since(before) == []
    assert code.changed_since(other) == ["ranger21/engine/loop.py"]
    (project / "ranger21" / "stays.py").write_text("y\n")
    assert code.changed_since(before) == ["ranger21/stays.py"]
    assert code.changed_since("HEAD") == ["ranger21/stays.py"]
