"""scripts/compare.py: its files, which runs it compares with each other, and its error messages."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from matplotlib.image import imread
from support.command_runner import CommandRunner
from support.run_directories import MakeRun

from ranger21.report.groups.comparisons import compare_like_with_like, separation
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables.table import notes, sentences
from ranger21.report.write import examine, write_report
from ranger21.system.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


Compare = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = (sys.executable, str(ROOT / "scripts" / "compare.py"))


@pytest.fixture
def compare(commands: CommandRunner) -> Compare:
    """Run scripts/compare.py with arguments."""
    return partial(commands.complete, "compare.py")


# What it writes


def test_command_writes_tables_claims_figures_and_the_page(compare: Compare, make_run: MakeRun, tmp_path: Path) -> None:
    finals = {"adamw": (60.0, 61.0, 63.0), "ranger21": (70.0, 72.0, 71.0)}
    for optimizer, values in finals.items():
        for seed, value in enumerate(values):
            make_run(optimizer, seed, (40.0, 50.0, value))
    make_run("nesterov", 0, (40.0, 55.0, 50.0))
    make_run("nesterov", 1, (40.0,), status="diverged", trainer__epochs=3, tail='{"step": 15, "epoch": 1.5, "train/lo')
    make_run("nesterov", 2, (), status="running", trainer__epochs=3)
    out = tmp_path / "made" / "here"
    done = compare(tmp_path / "outputs", "--out", out, "--power", 0.5)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    names = ["index.html", "claims.md", "table.md", "table.csv", "pairs.csv", "resnet50-on-photos", "power.md"]
    written = [line for line in done.stdout.splitlines() if line.startswith("wrote")]
    assert written == [f"wrote {out / name}" for name in names]
    assert "71.00 ± 1.00" in done.stdout
    assert "ranger21 is better than adamw by 9.67 points" in " ".join(done.stdout.split())
    assert "Seeds per group that detect a gap of 0.5 points" in done.stdout
    assert "| ranger21 | adamw | 3 and 3 |" in (out / "power.md").read_text()
    folder = out / "resnet50-on-photos"
    pictures = sorted(folder.glob("*.png"))
    wanted = {"figure1_schedule", "figure2_curves", "figure3_start", "accuracy", "gradient_norm", "smoothness"}
    assert wanted == {path.stem for path in pictures}
    assert {path.stem for path in folder.glob("*.svg")} == {path.stem for path in pictures}
    for path in pictures:
        pixels = imread(path)[..., :3]
        assert min(pixels.shape[:2]) > 400
        assert pixels.std() > 0.02
        assert pixels[0, 0].tolist() == [1.0, 1.0, 1.0]
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [row["group"] for row in rows] == ["ranger21", "adamw", "nesterov"]
    assert float(rows[1]["final_top1_percent_mean"]) == pytest.approx(184 / 3)
    assert float(rows[1]["final_top1_percent_sd"]) == pytest.approx(statistics.stdev(finals["adamw"]))
    assert rows[2]["final_top1_of_finished_percent_sd"] == ""
    assert [rows[2][key] for key in ("n", "diverged", "running", "seeds")] == ["2", "1", "1", "0 1 2"]
    found = {(r["figure"], r["a"], r["b"]): r for r in csv.DictReader((out / "pairs.csv").read_text().splitlines())}
    assert found["top1", "ranger21", "adamw"]["verdict_on_a"] == "better"
    assert float(found["top1", "ranger21", "adamw"]["mean"]) == pytest.approx(71 - 184 / 3)
    assert found["top1", "ranger21", "nesterov"]["verdict_on_a"] == "cannot tell"


def test_the_same_runs_give_bit_identical_files(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(2):
        make_run("ranger21", seed)
        make_run("adamw", seed)
    for name in ("a", "b"):
        write_report(examine([str(tmp_path / "outputs")]), tmp_path / name)
    a, b = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("a", "b"))
    assert a.keys() == b.keys()
    assert {path for path in a if a[path] != b[path]} == set()


# Which runs are compared


def test_different_recipes_are_separated_and_a_remark_says_why(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0)
    make_run("ranger21", 0)
    make_run("adamw", 1, data__batch_size=128)
    make_run("adamw", 2, model__name="vgg16")
    runs = find_runs([str(tmp_path)]).runs
    comparisons = compare_like_with_like(runs)
    assert [comparison.title for comparison in comparisons] == [
        "resnet50 on photos (data.batch_size=128)",
        "resnet50 on photos (data.batch_size=64)",
        "vgg16 on photos",
    ]
    said = separation(comparisons)
    assert said is not None
    assert "settings: model.name, data.batch_size" in said
    across = compare_like_with_like(runs, ["data.batch_size", "model"])
    assert len(across) == 1
    assert separation(across) is None
    for wanted in ("data.batchsize", "data.root", "optimizer.lr", "data.fingerprint", ""):
        with pytest.raises(UserError, match=f"--across {wanted}: no run .* runs: model.name, data.batch_size\\."):
            compare_like_with_like(runs, ["model", wanted])
    assert [group.label for group in across[0].groups] == [
        "adamw model=resnet50 data.batch_size=128",
        "adamw model=resnet50 data.batch_size=64",
        "adamw model=vgg16 data.batch_size=64",
        "ranger21 model=resnet50 data.batch_size=64",
    ]


def test_different_images_are_separated_but_unknown_ones_are_not(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, mark in enumerate(["a", "a", None]):
        path = make_run("adamw", seed)
        if mark:
            (path / "manifest.json").write_text(json.dumps({"data": {"fingerprint": mark}}))
    assert len(compare_like_with_like(find_runs([str(tmp_path)]).runs)) == 1
    (make_run("adamw", 3) / "manifest.json").write_text(json.dumps({"data": {"fingerprint": "b"}}))
    runs = find_runs([str(tmp_path)]).runs
    assert [len(comparison.runs) for comparison in compare_like_with_like(runs)] == [2, 1, 1]
    assert len(compare_like_with_like(runs, ["data.fingerprint"])) == 1


def test_titles_are_unique_even_if_they_omit_some_differences(make_run: MakeRun, tmp_path: Path) -> None:
    many = {f"data__a{number}": number for number in range(6)}
    make_run("adamw", 0, name="a", **many)
    make_run("adamw", 0, name="b", **many, data__z=1)
    make_run("adamw", 0, name="c", **many, data__z=2)
    make_run("adamw", 0, name="d")
    comparisons = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    assert len({comparison.slug for comparison in comparisons}) == len(comparisons) == 4


def test_runs_without_a_seed_are_never_paired(make_run: MakeRun, tmp_path: Path) -> None:
    for optimizer, top1 in (("adamw", 60.0), ("ranger21", 70.0)):
        for number in range(3):
            make_run(optimizer, number, (50.0, top1 + number), name=f"{optimizer}{number}")
    for path in tmp_path.rglob("config.yaml"):
        path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("seed")))
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    assert [group.label for group in comparison.groups] == ["adamw", "ranger21"]
    (said,) = sentences(comparison.rows)
    assert "n = 3 and 3" in said
    assert "paired" not in said


def test_a_note_lists_the_commits_if_runs_used_different_code(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, commit in enumerate(["a" * 40, "b" * 40]):
        session = {"git": {"commit": commit}, "hardware": {"device": "cpu"}, "packages": {"torch": "2.14.1"}}
        (make_run(seed=seed) / "manifest.json").write_text(json.dumps({"sessions": [session, "odd"]}))
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    assert f"These runs did not all use the same code: {'a' * 9} (adamw seed 0), {'b' * 9} (adamw seed 1)." in notes(
        comparison.rows
    )


def test_files_of_another_comparison_in_the_same_folder_are_named(
    compare: Compare, make_run: MakeRun, tmp_path: Path
) -> None:
    for optimizer in ("adamw", "ranger21"):
        make_run(optimizer, model__name="resnet50")
        make_run(optimizer, model__name="resnet101", name=f"other-{optimizer}")
    out, one = tmp_path / "out", tmp_path / "outputs" / "test" / "other-*"
    assert "another comparison" not in compare(tmp_path / "outputs", "--out", out, "--power", "0.5").stdout
    (out / "README.md").write_text("mine")
    said = " ".join(compare(one, "--out", out).stdout.split())
    sentence = said[said.index(f"{out} also holds files") :]
    assert sentence.startswith(f"{out} also holds files of another comparison: power.md, resnet50")
    assert "resnet101" not in sentence and "README.md" not in sentence and "table.md" not in sentence
    assert sentence.endswith("Delete them, or choose another --out.") and (out / "power.md").is_file()


# Mistakes


def test_mistakes_give_one_clear_message(compare: Compare, make_run: MakeRun, tmp_path: Path) -> None:
    done = compare(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: no run (a directory with metrics.jsonl) in {tmp_path}.\n"
    file = make_run() / "config.yaml"
    done = compare(tmp_path, "--out", file)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: argument --out: '{file}' is not a folder\n")
    done = compare(tmp_path, "--out", tmp_path / "out", "--ablation")
    assert done.returncode == 0
    assert "no ablation.md: no two groups of Ranger21 differ in one ingredient" in " ".join(done.stdout.split())


def test_ctrl_c_stops_the_command_with_a_message(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "table.md")  # writing to a pipe blocks until it has a reader
    process = subprocess.Popen([*COMMAND, tmp_path / "outputs", "--out", out], stderr=subprocess.PIPE)
    while process.poll() is None and not (out / "claims.md").exists():  # claims.md is written before table.md
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b"stopped: when run again, this command starts over\n"
    assert process.returncode == 130


def test_help_shows_examples_and_the_report_does_not_import_torch(compare: Compare) -> None:
    done = compare("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    code = "import sys; import ranger21.report.write, ranger21.report.figures.gallery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
