"""Reading W&B's offline files, which the real W&B writes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ranger21.system.errors import UserError
from ranger21.wandb_tools.file import BLOCK, Fragment, merge, pack, payloads, read_fragment

pytest.importorskip("wandb", reason="pip install wandb")

# The fragments of one run: killed after step 8 with a checkpoint of step 4, resumed, stopped, resumed to its end.
PROGRAM = """
import math, sys, wandb
settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
def part(run_id, steps, code, best, note="", **more):
    run = wandb.init(id=run_id, resume="allow", dir=sys.argv[1], mode="offline", project="p", entity=more.get("entity"),
        name="n", tags=["t"], config={"optimizer": {"name": "adamw", "lr": 1e-3}, "seed": 0}, settings=settings)
    run.define_metric("*", step_metric="step")
    for step in steps:
        row = {"step": step, "epoch": step / 4, "train/loss": math.nan if step == 2 else code + step, "note": note}
        run.log(row | ({"val/acc1": 10.0 * step} if step % 4 == 0 else {}), step=step)
    run.summary["best/val/acc1"] = best
    run.config.update({"late": code}, allow_val_change=True)
    run.finish(exit_code=code)
part("whole", (2, 4, 6, 8), 1, 80.0)
part("whole", (6, 8), 143, 80.5)
part("whole", (10, 12), 0, 120.0)
part("large", range(1, 5), 0, 1.0, note="x" * 30_000, entity="us")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The files of both runs, ordered by time."""
    place = tmp_path_factory.mktemp("wandb")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(place)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = [read_fragment(path) for path in place.glob("wandb/offline-run-*/*.wandb")]
    found.sort(key=lambda fragment: fragment.started)
    return {name: [part.path for part in found if part.run_id == name] for name in ("whole", "large")}


def test_a_fragment_has_everything_that_was_logged(files):
    fragment = read_fragment(files["whole"][0])
    assert (fragment.run_id, fragment.project, fragment.entity) == ("whole", "p", None)
    assert fragment.config == {"optimizer": {"name": "adamw", "lr": 1e-3}, "seed": 0, "late": 1}
    assert [row["step"] for row in fragment.rows] == [2, 4, 6, 8]
    assert fragment.rows[3]["val/acc1"] == 80 and "val/acc1" not in fragment.rows[2]
    assert math.isnan(fragment.rows[0]["train/loss"])
    assert fragment.summary["best/val/acc1"] == 80 and fragment.summary["train/loss"] == 9
    assert fragment.exit_code == 1 and not fragment.cut and fragment.started > 1.7e9
    assert read_fragment(files["large"][0]).entity == "us"


def test_payloads_may_be_longer_than_a_block(files):
    fragment = read_fragment(files["large"][0])
    assert files["large"][0].stat().st_size > 3 * BLOCK
    assert [len(row["note"]) for row in fragment.rows] == [30_000] * 4


def test_a_resumed_run_has_each_step_once(files):
    """The order of fragments does not matter: the latest values win, and repeated steps appear once."""
    run = merge([read_fragment(path) for path in reversed(files["whole"])])
    assert [row["step"] for row in run.rows] == [2, 4, 6, 8, 10, 12]
    assert [row["train/loss"] for row in run.rows[1:]] == [5, 149, 151, 10, 12]
    assert run.summary["best/val/acc1"] == 120 and run.exit_code == 0 and run.config["late"] == 0
    assert run.started == read_fragment(files["whole"][0]).started


def test_a_step_back_replaces_the_later_steps():
    one = Fragment(Path("a"), "r", rows=[{"step": 2, "a": 1}, {"step": 4, "a": 1, "b": 1}, {"step": 7}], started=1)
    two = Fragment(Path("b"), "r", rows=[{"step": 4, "a": 2}], started=2, cut=True)
    assert merge([two, one]).rows == [{"step": 2, "a": 1}, {"step": 4, "a": 2, "b": 1}]
    assert merge([two, one]).cut and merge([one]) == one
    with pytest.raises(ValueError, match="one run"):
        merge([one, Fragment(Path("c"), "other")])


def test_a_truncated_file_gives_its_complete_rows(files, tmp_path):
    content = files["whole"][0].read_bytes()
    path, seen = tmp_path / "run-whole.wandb", set()
    everything = [json.dumps(row) for row in read_fragment(files["whole"][0]).rows]
    for size in range(0, len(content), 6):
        path.write_bytes(content[:size])
        fragment = read_fragment(path)
        assert fragment.run_id == "whole" and fragment.exit_code is None
        rows = [json.dumps(row) for row in fragment.rows]
        assert rows == everything[: len(rows)]
        seen.add((len(rows), fragment.cut))
    assert seen >= {(0, True), (4, True)}


def test_reading_a_damaged_file_continues_at_the_next_block(files, tmp_path):
    content = bytearray(files["large"][0].read_bytes())
    path = tmp_path / "run-large.wandb"
    for place in range(100, len(content), 997):
        damaged = bytearray(content)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        fragment = read_fragment(path)
        assert fragment.run_id == "large" and fragment.cut
        if place < BLOCK:
            assert fragment.rows and fragment.exit_code == 0
    path.write_bytes(content + b"\0" * 100)
    assert len(read_fragment(path).rows) == 4


def test_files_that_are_no_wandb_files_are_refused(files, tmp_path):
    (tmp_path / "a.wandb").write_text("hello there")
    for name in ("a.wandb", "nowhere.wandb", "."):
        with pytest.raises(UserError, match=r"name a \.wandb file"):
            read_fragment(tmp_path / name)


@pytest.mark.parametrize("name", ["whole", "large"])
def test_writing_a_file_equals_wandbs_own_byte_for_byte(name, files):
    """The payloads end at, or go beyond, the end of a block."""
    content = files[name][0].read_bytes()
    assert pack(payloads(content, files[name][0])) == content


@pytest.mark.parametrize("spare", range(10))
def test_payloads_near_the_end_of_a_block_are_read_back(spare):
    """Seven bytes hold a chunk of length 0; fewer are padding."""
    parts = [b"a" * (BLOCK - 7 - 7 - spare), b"b" * (2 * BLOCK), b"", b"c"]
    assert list(payloads(pack(parts), Path("a"))) == parts


@pytest.mark.parametrize("content", [b"", b":W&", b"\0" * 7, b"\0" * 4096])
def test_an_empty_file_is_not_an_error(content, tmp_path):
    """Such a file is left by a process killed before W&B wrote anything, or by a machine that crashed."""
    path = tmp_path / "run-early.wandb"
    path.write_bytes(content)
    assert read_fragment(path) == Fragment(path, "early", cut=True)
