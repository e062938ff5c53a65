"""scripts/compare.py and the reader of metrics, on damaged run directories and unusual names."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_runner import CommandRunner
from support.run_directories import MakeRun

from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.finding import find_runs
from ranger21.report.runs.metrics import read_metrics
from ranger21.report.tables.table import notes, sentences
from ranger21.report.write import examine


def test_a_finished_run_with_truncated_metrics_counts_as_unfinished(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        path = make_run("ranger21", seed, (50.0, 90.0))
        make_run("adamw", seed, (50.0, 80.0))
        (path / "result.json").write_text(json.dumps({"status": "finished", "final": {"step": 20}}))
        _cut(path / "metrics.jsonl", 0.6)
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    assert [(row.group.label, row.n) for row in comparison.rows] == [("adamw", 3), ("ranger21", 0)]
    assert sum("metrics.jsonl ends at 10: counted as unfinished" in note for note in notes(comparison.rows)) == 3
    assert sentences(comparison.rows) == []


@pytest.mark.parametrize("seed", ["abc", "[1]", "true", "1.5"])
def test_a_run_whose_seed_is_no_whole_number_is_left_out(make_run: MakeRun, tmp_path: Path, seed: str) -> None:
    path = make_run("adamw", 0)
    make_run("adamw", 1)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("seed: 0", f"seed: {seed}"))
    found = find_runs([str(tmp_path)])
    assert [run.seed for run in found.runs] == [1]
    assert "is not a whole number" in found.left_out[0]


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


HUGE = """{"step": 1H, "loss": 2H, "n": [NaN], "seed": 3H, "status": "finished", "final": {"step": 1H},
    "trainer": {"epochs": 1H}, "data": {"classes": 1H, "val_images": 1H}}""".replace("H", "0" * 400).replace("\n", "")
NAMES = ("config.yaml", "metrics.jsonl", "result.json", "manifest.json")
DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: _cut(path, 0.7),
    "zeros": lambda path: path.write_bytes(bytes(300)),
    "not text": lambda path: path.write_bytes(bytes(range(256)) * 3),
    "another type": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "NaN": lambda path: path.write_text('{"step": NaN, "status": NaN, "data": NaN, "sessions": 3}\n' * 2),
    "huge numbers": lambda path: path.write_text(HUGE),
    "odd values": lambda path: path.write_text('{"step": 10, "epoch": "x", "val/acc1": [1], "status": 3, "data": 1}\n'),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_does_not_hide_the_others(make_run: MakeRun, tmp_path: Path, name: str, damage: str) -> None:
    for seed in range(3):
        path = make_run("adamw", seed)
        (path / "manifest.json").write_text(json.dumps({"data": {"fingerprint": "a", "classes": 10}, "sessions": [{}]}))
    DAMAGE[damage](path / name)
    report = examine([str(tmp_path / "outputs")])
    rows = [run for comparison in report.comparisons for run in comparison.runs]
    assert len(rows) + sum(" is left out: " in remark for remark in report.remarks) == 3
    assert {0, 1} <= {run.seed for run in rows}
    if name == "config.yaml" and damage in ("missing", "empty"):
        assert str(path) in report.remarks[0]
    for run in rows:
        assert run.last("val/acc1") in (None, 50.0, 60.0)


def test_runs_with_every_kind_of_damage_are_reported_together(
    commands: CommandRunner, make_run: MakeRun, tmp_path: Path
) -> None:
    for seed, damage in enumerate(DAMAGE.values()):
        path = make_run("adamw", seed)
        (path / "manifest.json").write_text("{}")
        damage(path / NAMES[seed % 3 + 1])
    make_run("adamw", 20, (), status="running")
    path = make_run("adamw", 22)
    for name in NAMES:
        (path / name).write_text(HUGE)
    (make_run("adamw", 21, (1.0,) * 2, tail="\n".join(['{"step": 1e400}', "{", "\x00"])) / "result.json").unlink()
    done = commands.complete("compare.py", tmp_path / "outputs", "--out", tmp_path / "out")
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_metrics_truncated_at_any_byte_are_a_prefix_of_the_whole(make_run: MakeRun) -> None:
    path = make_run(top1=(50.0, 60.0, 70.0)) / "metrics.jsonl"
    content = path.read_bytes()
    whole = read_metrics(path)
    for end in random.Random(0).sample(range(len(content)), 40):
        path.write_bytes(content[:end])
        part = read_metrics(path)
        assert part.broken == 0
        assert part.steps.tolist() == whole.steps[: len(part.steps)].tolist()
        values = part.series("val/acc1", "step")[1]
        assert values.tolist() == whole.series("val/acc1", "step")[1][: len(values)].tolist()


def test_when_the_step_goes_back_the_later_lines_win(make_run: MakeRun) -> None:
    """Compare with the simplest method: a dictionary by step, from which a smaller step removes all larger ones."""
    path = make_run() / "metrics.jsonl"
    draw = random.Random(1)
    for _ in range(30):
        step, lines, rows = 0, [], dict[int, dict[str, float]]()
        newest = -1
        for _ in range(60):
            step = max(1, step + draw.choice([1, 1, 1, 0, -draw.randrange(9)]))
            row = {"step": step, draw.choice("ab"): draw.random()}
            lines.append(json.dumps(row))
            if step < newest:
                rows = {old: kept for old, kept in rows.items() if old <= step}
            rows.setdefault(step, {}).update(row)
            newest = step
        path.write_text("\n".join(lines) + "\n")
        found = read_metrics(path)
        assert found.steps.tolist() == sorted(rows)
        for key in "ab":
            steps, values = found.series(key, "step")
            wanted = {s: row[key] for s, row in rows.items() if key in row}
            assert dict(zip(steps.tolist(), values.tolist(), strict=True)) == wanted


def test_names_with_invalid_utf8_or_dollar_signs_are_reported(
    commands: CommandRunner, make_run: MakeRun, tmp_path: Path
) -> None:
    """YAML writes a byte that is not UTF-8 as \\udcff."""
    odd = b"\xff".decode("utf-8", "surrogateescape")
    for seed in range(3):
        make_run("adamw", seed, name=f"a{seed}{odd}", optimizer__note=odd)
        make_run("adamw", seed, name=f"b{seed}{odd}", optimizer__note="$x_$")
    (make_run("adamw", 3, name=odd) / "config.yaml").unlink()
    done = commands.complete("compare.py", tmp_path / "outputs", "--out", tmp_path / f"out{odd}", "--ablation")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("table.md", "table.csv", "pairs.csv", "index.html"):
        note = "note=\\\\udcff" if name == "table.md" else "note=\\udcff"  # Markdown unescapes one backslash
        assert note in (tmp_path / f"out{odd}" / name).read_text(encoding="utf-8"), name
    assert "test/\\\\udcff is left out" in (tmp_path / f"out{odd}" / "table.md").read_text(encoding="utf-8")
