"""Record files give the same report as directories, are reproducible byte for byte, and withstand hostile content."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.run_directories import MakeRun, logged_lines

from ranger21.grid.record import record, record_of
from ranger21.report.runs import record_file
from ranger21.report.runs.finding import find_runs, read_run
from ranger21.report.runs.record_file import NAME, entries, first_line, write
from ranger21.report.runs.record_runs import read_records
from ranger21.report.runs.run import RecordedRun
from ranger21.report.write import examine, write_report
from ranger21.system.errors import UserError

SESSION = {"started": "2026-11-01T00:00:00", "command": ["python", "train.py", "seed=1"], "hardware": {"cores": 2}}


@pytest.fixture
def paths(make_run: MakeRun) -> list[Path]:
    """Finished and diverged runs, with and without a manifest, with partial lines, and two runs of one seed."""
    places = [make_run(name, seed, (40.0, 60.0 + seed)) for name in ("adamw", "ranger21") for seed in range(3)]
    places.append(make_run("nesterov", 0, (40.0,), status="diverged", tail='{"step": 15, "epoch": 1.5, "train/lo'))
    places.append(make_run("nesterov", 1, (40.0, 50.5), tail='\n{"step": 10, "val/acc1": NaN}\n\0\0\n[]\nx\n'))
    places.append(make_run("adamw", 1, (41.0, 62.0), name="again", optimizer__more={"é": [1e-5, None, True]}))
    for number, place in enumerate(places[:4]):
        manifest = {"format": 2, "data": {"classes": 10, "fingerprint": "a"}, "sessions": [SESSION] * (number + 1)}
        (place / "manifest.json").write_text(json.dumps(manifest))
    return places


def keep(places: Sequence[Path], file: Path) -> bytes:
    """Add these runs to a record file, one by one; return its bytes."""
    for place in places:
        assert record([record_of(place)], file) == 1
    return file.read_bytes()


def facts(run: RecordedRun | str) -> object:
    """Return everything about a run except its place."""
    assert isinstance(run, RecordedRun), run
    metrics = {key: (where.tolist(), values.tolist()) for key, (where, values) in run.metrics.columns.items()}
    return run.path.name, run.config, run.status, run.result, run.manifest, run.notes, metrics


def test_the_report_is_the_same_byte_for_byte(paths: list[Path], tmp_path: Path) -> None:
    keep(paths, tmp_path / "kept" / NAME)
    written = []
    for out, place, runs in (("1", "outputs", paths[0].parent), ("2", "kept", tmp_path / "kept" / NAME / "test")):
        write_report(examine([str(tmp_path / place)]), tmp_path / out)
        files = {path.name: path.read_bytes() for path in (tmp_path / out).rglob("*") if path.is_file()}
        page = files.pop("index.html").decode()
        written.append((files, page.replace(str(runs), "RUNS")))
    assert written[0] == written[1]
    assert {"table.md", "pairs.csv", "claims.md"} <= written[0][0].keys()
    pairs = zip(map(read_run, sorted(paths)), read_records(tmp_path / "kept" / NAME), strict=True)
    assert all(facts(one) == facts(other) for one, other in pairs)


def test_the_order_of_runs_does_not_change_the_file(paths: list[Path], tmp_path: Path) -> None:
    whole = keep(paths, tmp_path / "a" / NAME)
    assert keep(paths[::-1], tmp_path / "b" / NAME) == whole
    record([record_of(place) for place in paths], tmp_path / "c" / NAME)
    assert (tmp_path / "c" / NAME).read_bytes() == whole
    before = (tmp_path / "c" / NAME).stat().st_ino
    keep(paths[2:5], tmp_path / "c" / NAME)
    assert (tmp_path / "c" / NAME).stat().st_ino == before  # the file was not written again
    (paths[0] / "metrics.jsonl").write_text("".join(logged_lines((40.0, 61.0))))
    assert keep(paths[:1], tmp_path / "c" / NAME) != whole
    assert len(find_runs([str(tmp_path / "c")]).runs) == len(paths)
    names = [entry.name for entry in entries(tmp_path / "c" / NAME) if not isinstance(entry, str)]
    assert names == sorted(f"test/{place.name}" for place in paths)
    assert [path.name for path in (tmp_path / "c").iterdir()] == [NAME]


def test_copies_of_a_run_count_once(paths: list[Path], tmp_path: Path) -> None:
    """Of a directory, its copy and a record file, the copy with the most steps is used."""
    for number, place in enumerate(paths):
        session = SESSION | {"started": f"2026-11-01T00:00:{number:02}"}
        (place / "manifest.json").write_text(json.dumps({"data": {}, "sessions": [session]}))
    keep(paths, tmp_path / "kept" / NAME)
    copy = shutil.copytree(paths[0], tmp_path / "outputs" / "copy")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "train/loss": 1.0}\n')
    found = find_runs([str(tmp_path / "outputs"), str(tmp_path / "kept")])
    assert len(found.runs) == len(paths) and len(found.left_out) == len(paths) + 1
    assert f"{paths[0]} is left out: it is the same run as {copy}." in found.left_out
    kept = tmp_path / "kept" / NAME / "test" / paths[1].name
    assert f"{kept} is left out: it is the same run as {paths[1]}." in found.left_out
    (paths[1] / "config.yaml").write_text((paths[1] / "config.yaml").read_text().replace("seed: 1", "seed: 9"))
    assert len(find_runs([str(paths[1]), str(tmp_path / "kept")]).runs) == len(paths) + 1


def test_a_record_file_is_plain_json_lines(paths: list[Path], tmp_path: Path) -> None:
    keep(paths[:1], tmp_path / NAME)
    first, head, *rows, end = map(json.loads, gzip.decompress((tmp_path / NAME).read_bytes()).splitlines())
    assert (first, head["run"], head["config"]["optimizer"]["lr"]) == ({"format": 1}, "test/resnet50-adamw-s0", 1e-3)
    assert rows == [json.loads(line) for line in (paths[0] / "metrics.jsonl").read_text().splitlines()]
    assert end.keys() == {"end", "sha256"}


def test_a_masked_setting_can_still_be_read(make_run: MakeRun, tmp_path: Path) -> None:
    """`***` in the text of config.yaml is a YAML alias, so such runs used to be left out."""
    keep([make_run("adamw", 0, optimizer__token="hunter2hunter2")], tmp_path / NAME)
    (run,) = read_records(tmp_path / NAME)
    assert isinstance(run, RecordedRun) and run.config["optimizer.token"] == "***"


def test_a_kill_during_writing_loses_nothing(paths: list[Path], tmp_path: Path) -> None:
    before = keep(paths[:4], tmp_path / NAME)
    kill = (
        "import gzip, os, sys; from pathlib import Path; from ranger21.grid.record import record, record_of\n"
        "gzip.GzipFile.close = lambda self: os._exit(9)\n"
        "record([record_of(Path(place)) for place in sys.argv[2:]], Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", kill, str(tmp_path / NAME), *map(str, paths)], check=False)
    assert done.returncode == 9 and (tmp_path / NAME).read_bytes() == before
    keep(paths, tmp_path / NAME)
    assert len(find_runs([str(tmp_path / NAME)]).runs) == len(paths)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [NAME]  # no temporary file is left either


def damage(file: Path, unpacked: bytes) -> list[RecordedRun | str]:
    file.write_bytes(gzip.compress(unpacked))
    return read_records(file)


def left_out(file: Path, unpacked: bytes) -> str:
    return " ".join(found for found in damage(file, unpacked) if isinstance(found, str)).replace(str(file), "FILE")


def test_damaged_runs_are_reported_and_left_out(paths: list[Path], tmp_path: Path) -> None:
    file = tmp_path / NAME
    keep(paths[:3], file)
    start, *rest = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    size = len(rest) // 3
    one, two, three = (b"".join(rest[place : place + size]) for place in (0, size, 2 * size))
    cut = b"".join(two.splitlines(keepends=True)[:-2])
    changed = "FILE/test/resnet50-adamw-s1 is left out: its digest does not match (changed or damaged)."
    for wrong in (two.replace(b"40.0", b"41.0"), two.replace(b'seed": 1', b'seed": 7'), two[:-20] + b"\n", cut):
        assert wrong != two and changed in left_out(file, start + one + wrong + three)
    message = left_out(file, start + one + two[1:] + three)
    assert message == f"FILE: {size} lines outside any run left out."
    assert left_out(file, start + one + one) == "FILE: a second run named test/resnet50-adamw-s0 is left out."
    for name in ("../x", "/etc", "a//b", "a\0b", "x" * 2000, ""):
        assert "is not the name of a run." in left_out(file, start + first_line(name, {}) + one)
    assert "it has no config.yaml" in left_out(file, start + whole({"manifest": {"format": 1}}) + one)
    assert "in manifest.json, the format is 99" in left_out(
        file, start + whole({"config": {"seed": 1}, "manifest": {"format": 99}})
    )
    assert "its seed, x, is not a whole number" in left_out(file, start + whole({"config": {"seed": "x"}}))
    assert "its configuration has more than 256 KiB" in left_out(file, start + whole({"config": {"a": "x" * 300_000}}))
    assert "config is not an object" in left_out(file, start + first_line("a", {"config": [1]}))
    assert "deeper than 50 levels" in left_out(file, start + b'{"run": "a", "config": {"a": ' + b"[" * 10**5 + b"\n")
    assert "appears twice" in left_out(file, start + b'{"run": "a", "run": "b"}\n')
    with pytest.raises(UserError, match=r"was changed after writing\. Nothing was added: restore "):
        keep(paths[3:], damaged(file, start + one + two.replace(b"40.0", b"41.0")))


def whole(parts: dict[str, object]) -> bytes:
    head = first_line("whole", parts)
    end = {"end": "whole", "sha256": record_file.digest([head])}
    return head + json.dumps(end).encode() + b"\n"


def damaged(file: Path, unpacked: bytes) -> Path:
    damage(file, unpacked)
    return file


def test_files_that_are_no_record_files_are_refused(paths: list[Path], tmp_path: Path) -> None:
    file = tmp_path / NAME
    good = keep(paths[:2], file)
    for content, words in (
        (b"", "its first line is not that of a record file"), (b"x", "Not a gzipped file"), (good[:60], "it is cut"),
        (gzip.compress(b""), "first line is not"), (gzip.compress(b'{"step": 1}\n'), "first line is not"),
        (gzip.compress(b'{"format": 2}\n'), "the format is 2, and this version of the project reads up to 1"),
    ):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(UserError, match=words):
            find_runs([str(file)])
        with pytest.raises(UserError, match=words):
            keep(paths, file)
        assert file.read_bytes() == content
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="it is a pipe, not a file"):
        find_runs([str(file)])


def test_a_decompression_bomb_is_not_unpacked(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / NAME
    keep(paths[:1], file)
    good = gzip.decompress(file.read_bytes())
    (run, message) = damage(file, good + b"x" * (33 << 20))
    assert isinstance(run, RecordedRun) and "it has a line longer than any run writes" in str(message)
    run, message, strays = damage(file, good + b'{"run": "b"}\n' + b'{"step": 1, "x": ' + b"1" * (2 << 20) + b"}\n")
    assert isinstance(run, RecordedRun)
    assert str(message).endswith("/b is left out: its digest does not match (changed or damaged).")
    assert "1 line outside any run left out" in str(strays)
    monkeypatch.setattr(record_file, "LARGEST_LINES", 1 << 20)
    (run, message) = damage(file, good + b"\n" * (2 << 20))[::2]
    assert isinstance(run, RecordedRun) and "cannot be read to its end (it has more than" in str(message)
    with pytest.raises(UserError, match="keep the records in several files"):
        write(tmp_path / "large", [("a", [b"x" * (2 << 20)])])
    assert not (tmp_path / "large").exists()
    monkeypatch.setattr(record_file, "MOST_RUNS", 3)
    many = b"".join(first_line(str(number), {}) for number in range(9))
    assert str(damage(file, b'{"format": 1}\n' + many)[-1]).endswith("has more than 3 runs: the rest are left out.")


def test_damage_never_changes_a_run_without_a_message(paths: list[Path], tmp_path: Path) -> None:
    """The test changes, deletes or repeats bytes of the compressed file; every run that is still read is unchanged."""
    file, rng = tmp_path / NAME, random.Random(1)
    good = keep(paths, file)
    known = [facts(run) for run in read_records(file)]
    for _ in range(60):
        content, place = bytearray(good), rng.randrange(len(good))
        how = rng.choice(("flip", "cut", "end", "twice"))
        if how == "flip":
            content[place] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del content[place : place + rng.randrange(1, 50)]
        elif how == "end":
            del content[place:]
        else:
            content[place:place] = good[place : place + 40]
        file.write_bytes(content)
        found = read_records(file)
        runs = [run for run in found if isinstance(run, RecordedRun)]
        assert all(facts(run) in known for run in runs)
        assert len(runs) == len(known) or len(runs) < len(found), how  # something was reported


def test_the_records_of_this_project_are_complete() -> None:
    root = Path(__file__).resolve().parents[1] / "results"
    for folder, count in (("fashion_mnist", 160), ("demo", 5)):
        found = find_runs([str(root / folder)])
        assert (len(found.runs), found.left_out) == (count, [])
        assert not [run.notes for run in found.runs if run.notes]
