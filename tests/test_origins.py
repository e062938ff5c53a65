"""How compare.py reports runs with equal settings but different code, machines, number formats, passes or images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.run_directories import MakeRun

from ranger21.records.code import digest
from ranger21.records.manifest import FORMAT
from ranger21.report.groups.comparisons import GroupComparison, compare_like_with_like, separation
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables.table import notes
from ranger21.report.write import examine

FILES = {"train.py": "1", "ranger21/engine/loop.py": "2"}
HARDWARE = {"device": "cpu", "ranks": 1, "precision": "fp32", "threads": 2}


def manifest(path: Path, *files: dict[str, str], data: dict[str, Any] | None = None, **hardware: Any) -> None:
    """Write a manifest of format 2, with one session per version of the code."""
    codes = {digest(each): each for each in files or (FILES,)}
    sessions = [{"code": mark, "hardware": HARDWARE | hardware, "packages": {"torch": "2.14.1"}} for mark in codes]
    (path / "manifest.json").write_text(
        json.dumps({"format": FORMAT, "data": data or {}, "code": codes, "sessions": sessions})
    )


def compared(tmp_path: Path) -> list[GroupComparison]:
    return compare_like_with_like(find_runs([str(tmp_path)]).runs)


def notes_about(tmp_path: Path, *beginnings: str) -> list[str]:
    (comparison,) = compared(tmp_path)
    return [note for note in notes(comparison.rows) if note.startswith(beginnings)]


def test_runs_of_several_commits_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    """The records are older than the hashes of files, so commits and diffs are compared."""
    for seed, commit in enumerate(["a" * 40, "b" * 40, "b" * 40]):
        diff = "diff --git a/ranger21/engine/loop.py b/ranger21/engine/loop.py\n+x\n" if seed == 2 else ""
        session = {"git": {"commit": commit, "diff": diff}, "hardware": {"device": "cpu"}, "packages": {}}
        (make_run(seed=seed) / "manifest.json").write_text(json.dumps({"sessions": [session, "odd"]}))
    assert notes_about(tmp_path, "These runs") == [
        f"These runs did not all use the same code: {'a' * 9} (adamw seed 0), {'b' * 9} (adamw seed 1), {'b' * 9} with "
        "uncommitted changes in ranger21/engine/loop.py (adamw seed 2); different: ranger21/engine/loop.py."
    ]


def test_different_code_is_reported_by_group_run_and_file(make_run: MakeRun, tmp_path: Path) -> None:
    edited = FILES | {"ranger21/engine/loop.py": "3", "ranger21/new.py": "4"}
    for seed in range(2):
        manifest(make_run("adamw", seed))
        manifest(make_run("ranger21", seed), FILES, *([edited] if seed else []))
    (sentence,) = notes_about(tmp_path, "These runs")
    one, two = (f"code {digest(files)[:9]}" for files in (FILES, edited))
    both = ", ".join(sorted([f"{one} (adamw; ranger21)", f"{two} (ranger21 seed 1)"]))
    different = "ranger21/engine/loop.py, ranger21/new.py"
    assert sentence == f"These runs did not all use the same code: {both}; different: {different}."


def test_a_note_about_many_groups_is_short(make_run: MakeRun, tmp_path: Path) -> None:
    for number in range(8):
        for seed in range(2):
            manifest(make_run("adamw", seed, name=f"{number}-{seed}", optimizer__lr=number), ranks=1 + seed)
    assert notes_about(tmp_path, "Not the same") == [
        "Not the same for all of these runs: ranks 1 (seed 0 of every group), 2 (seed 1 of every group)."
    ]
    manifest(make_run("adamw", 2, name="one-more", optimizer__lr=7), ranks=2)
    (sentence,) = notes_about(tmp_path, "Not the same")
    assert "ranks 1 (seed 0 of every group), 2 (lr=0 seed 1; " in sentence and "and 2 more groups)." in sentence


def test_equal_code_and_machines_need_no_note(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        manifest(make_run(seed=seed))
    assert notes_about(tmp_path, "These runs", "Not the same", "Images", "The images") == []


def test_different_ranks_precision_device_and_rounding_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    manifest(make_run("adamw", 0, trainer__compile=False))
    manifest(make_run("adamw", 1, trainer__compile=True), ranks=4)
    manifest(make_run("ranger21", 0, trainer__compile=False), device="a GPU", precision="bf16")
    assert notes_about(tmp_path, "Not the same") == [
        "Not the same for all of these runs: device a GPU (ranger21 seed 0), cpu (adamw); ranks 1 (adamw seed 0; "
        "ranger21 seed 0), 4 (adamw seed 1); precision bf16 (ranger21 seed 0), fp32 (adamw); trainer.compile false "
        "(adamw seed 0; ranger21 seed 0), true (adamw seed 1)."
    ]


def test_older_runs_count_as_not_deterministic(make_run: MakeRun, tmp_path: Path) -> None:
    """Neither their config.yaml nor their session settings mention trainer.deterministic."""
    for seed, settings in enumerate(({}, {"trainer.compile": False}, {"trainer.deterministic": True})):
        path = make_run("adamw", seed, **({"trainer__deterministic": True} if seed == 2 else {}))
        manifest(path)
        whole = json.loads((path / "manifest.json").read_text())
        whole["sessions"][0]["settings"] = settings
        (path / "manifest.json").write_text(json.dumps(whole))
    (sentence,) = notes_about(tmp_path, "Not the same")
    assert "trainer.deterministic false (adamw seeds 0, 1), true (adamw seed 2)" in sentence


def test_runs_are_grouped_by_accumulation_passes_and_older_runs_had_one(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0)  # its config has no trainer.accumulate
    make_run("adamw", 1, trainer__accumulate=1)
    make_run("adamw", 2, trainer__accumulate=2)
    comparisons = compared(tmp_path)
    assert [(c.title, [run.seed for run in c.runs]) for c in comparisons] == [
        ("resnet50 on photos (trainer.accumulate=1)", [0, 1]),
        ("resnet50 on photos (trainer.accumulate=2)", [2]),
    ]
    assert "settings: trainer.accumulate" in (separation(comparisons) or "")


def test_different_initial_weights_in_files_of_one_name_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, mark in enumerate(["a1", "a1", "b2"]):
        path = make_run("adamw", seed, model__init_from="w.pth")
        manifest(path)
        facts = json.loads((path / "manifest.json").read_text())
        facts["sessions"][0]["init_from"] = mark
        (path / "manifest.json").write_text(json.dumps(facts))
    assert notes_about(tmp_path, "model.init_from") == [
        "model.init_from=w.pth did not hold the same weights for all of these runs: a1 (adamw seeds 0, 1), b2 (adamw "
        "seed 2)."
    ]


def image_facts(mark: str, names: str = "names:n") -> dict[str, Any]:
    return {"fingerprint": mark, "names": names}


def test_runs_on_images_of_different_sizes_are_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    """Imagenette-full, -320 and -160 have files of the same names."""
    for seed, mark in enumerate(["images-2:full", "images-2:full", "images-2:320", "images-2:160"]):
        manifest(make_run(seed=seed), data=image_facts(mark))
    comparisons = compared(tmp_path)
    assert [[run.seed for run in c.runs] for c in comparisons] == [[3], [2], [0, 1]]
    assert "settings: data.fingerprint" in (separation(comparisons) or "")


def test_older_records_without_sizes_are_matched_by_names(make_run: MakeRun, tmp_path: Path) -> None:
    manifest(make_run(seed=0), data={"fingerprint": "names:n"})
    manifest(make_run(seed=1), data=image_facts("images-2:full"))
    manifest(make_run(seed=2), data={"fingerprint": "names:n"})
    assert notes_about(tmp_path, "The images") == [
        "The images of adamw seeds 0, 2 are assumed to be those of the other runs because their names are the same: "
        "these runs did not record the sizes of the images."
    ]
    manifest(make_run(seed=3), data=image_facts("images-2:320"))  # now the names could belong to either of the two
    assert sorted([run.seed for run in c.runs] for c in compared(tmp_path)) == [[0, 2], [1], [3]]


def test_older_records_with_different_names_are_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    manifest(make_run(seed=0), data={"fingerprint": "names:other"})
    manifest(make_run(seed=1), data=image_facts("images-2:full"))
    assert len(compared(tmp_path)) == 2


def test_replaced_unreadable_images_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    manifest(make_run(seed=0), data=image_facts("a") | {"unreadable": ["one", "two"]})
    manifest(make_run(seed=1), data=image_facts("a"))
    assert notes_about(tmp_path, "Unreadable") == ["Unreadable images that were replaced by others: 2 in adamw seed 0."]


def test_a_run_of_a_later_version_is_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    manifest(make_run(seed=0))
    path = make_run(seed=1)
    (path / "manifest.json").write_text(json.dumps({"format": FORMAT + 1}))
    report = examine([str(tmp_path / "outputs")])
    assert [run.seed for comparison in report.comparisons for run in comparison.runs] == [0]
    assert report.remarks[0].startswith(f"{path} is left out: in manifest.json, the format is {FORMAT + 1}, and")
