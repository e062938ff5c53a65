"""The identity of a run: configuration, data, code and id. Anything of a different run is refused before any change."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.project import ROOT
from support.training import TINY, last_checkpoint, result

from ranger21.config.compose import compose_config, with_overrides
from ranger21.data.sample import ensure_sample
from ranger21.records import code, naming
from ranger21.records.directory import RunDirectory, read_config, to_dict
from ranger21.records.manifest import FORMAT, add_session, read_manifest
from ranger21.records.naming import run_directory
from ranger21.records.sessions import session
from ranger21.run import experiment
from ranger21.system.errors import UserError

SHORT = [*TINY, "trainer.steps=2"]


def start(directory: Path, *overrides: str) -> int:
    return experiment.run(compose_config([*SHORT, *overrides]), directory)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """The package's log, which does not reach the root logger."""
    logger = logging.getLogger("ranger21")
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(experiment, "log_to_console", lambda main: logger.setLevel(logging.INFO))
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A finished run on data A, and data A and B: they have the same names, but B's images have other sizes."""
    place = tmp_path_factory.mktemp("two")
    a = ensure_sample(place / "a", train_per_class=8, val_per_class=3)
    b = shutil.copytree(a, place / "b")
    for path in b.glob("*/*/*.JPEG"):
        path.write_bytes(path.read_bytes() + b"\0")
    for index in b.glob(".*.index.npz"):
        index.unlink()
    assert start(place / "run", f"data.root={a}") == 0
    return place / "run", a, b


# Data


def test_a_finished_run_is_refused_for_different_data(
    two: tuple[Path, Path, Path], log: pytest.LogCaptureFixture
) -> None:
    run, a, b = two
    before = (run / "manifest.json").read_bytes()
    with pytest.raises(UserError) as caught:
        start(run, f"data.root={b}")
    assert str(caught.value) == (
        f"The images are not those that {run} was started with (the files have the same names, but other sizes in "
        f"bytes): data.root={a} with 80 for training then, data.root={b} with 80 for training now. Restore them, or "
        "choose another run_dir= or outputs=."
    )
    assert start(run, f"data.root={a}") == 0
    assert log.messages == [f"{run} is already finished (step 2): nothing to do."]
    assert (run / "manifest.json").read_bytes() == before


def test_a_finished_run_does_not_need_its_data(two: tuple[Path, Path, Path], log: pytest.LogCaptureFixture) -> None:
    run, a, _ = two
    aside = a.rename(a.with_name("aside"))
    assert start(run, f"data.root={a}") == 0
    aside.rename(a)
    assert [message.partition(": ")[0] for message in log.messages] == [
        f"Cannot check whether the images are those of {run}", f"{run} is already finished (step 2)"
    ]  # fmt: skip


def test_a_finished_run_is_refused_for_unreadable_data_at_a_different_place(two: tuple[Path, Path, Path]) -> None:
    """Such a run used to count as finished, also with a data.pack that does not belong to data.root."""
    run, a, b = two
    with pytest.raises(UserError) as caught:
        start(run, f"data.root={a}-that-is-not-there")
    assert str(caught.value).startswith(
        f"Cannot check whether the images are those that {run} was started with: data.root={a} then, "
        f"data.root={a}-that-is-not-there now. There is no folder"
    )
    with pytest.raises(UserError, match=rf"data.root={a} then, data.pack={b} now. data.pack={b} is not a pack"):
        start(run, f"data.root={a}", f"data.pack={b}")


def test_a_stopped_run_does_not_continue_with_different_data(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, b = two
    stopped = shutil.copytree(run, tmp_path / "stopped")
    (stopped / "result.json").unlink()
    with pytest.raises(UserError, match=r"^The images are not those .* data.root=.*/a with .* data.root=.*/b with"):
        start(stopped, f"data.root={b}")
    old = json.loads((stopped / "manifest.json").read_text())  # as in versions that did not record sizes
    old["data"] = {k: v for k, v in old["data"].items() if k not in ("names", "root")} | {
        "fingerprint": old["data"]["names"]
    }
    (stopped / "manifest.json").write_text(json.dumps(old))
    assert start(stopped, f"data.root={b}") == 0
    assert result(stopped)["status"] == "finished"


# Refused runs leave no files


@pytest.mark.parametrize(
    "override",
    [
        "trainer.accumulate=3", "data.batch_size=512", "model.init_from=/nowhere.pt", "data.classes=99",
        "batch_schedule=linear batch_schedule.over=5%",
    ],
)  # fmt: skip
def test_a_refused_run_leaves_no_directory(images: Path, tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError):
        start(tmp_path / "outputs" / "run", f"data.root={images}", *override.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_just_started_is_refused(tmp_path: Path) -> None:
    config = compose_config([*SHORT, "data.root=/data"])
    place = RunDirectory(tmp_path / "run")
    assert place.look(config) is None and not place.path.exists()
    place.path.mkdir()
    (place.path / "manifest.json").write_text('{"data": {}, "sessions": []}')
    with pytest.raises(UserError, match=r"Another process has just started .*run: run the same command again\.$"):
        place.claim(config)


# Checkpoints


def test_a_checkpoint_with_a_different_run_id_is_refused(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, a, _ = two
    other = tmp_path / "other"
    assert start(other, f"data.root={a}") == 0  # with the same configuration; test_resuming.py has a different one
    shutil.copyfile(run / "checkpoints" / "last.pt", other / "checkpoints" / "last.pt")
    (other / "result.json").unlink()
    ids = [json.loads((place / "manifest.json").read_text())["id"] for place in (run, other)]
    assert ids[0] == last_checkpoint(run)["wandb_id"] != ids[1]
    with pytest.raises(UserError, match=rf"last.pt is a checkpoint of another run \({ids[0]}, where .* is {ids[1]}\)"):
        start(other, f"data.root={a}")


# Formats


@pytest.mark.parametrize("name", ["manifest.json", "result.json"])
def test_a_newer_format_is_refused(two: tuple[Path, Path, Path], tmp_path: Path, name: str) -> None:
    run, a, _ = two
    newer = shutil.copytree(run, tmp_path / "newer")
    content = json.loads((newer / name).read_text())
    assert content["format"] == FORMAT
    (newer / name).write_text(json.dumps(content | {"format": FORMAT + 1}))
    with pytest.raises(UserError) as caught:
        start(newer, f"data.root={a}")
    assert f"{newer / name} cannot be used: the format is {FORMAT + 1}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"data": 1, "sessions": []}'])
def test_a_damaged_manifest_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest.json is damaged \(.+\): restore it, or choose another run_dir=\.$"):
        read_manifest(tmp_path / "manifest.json")


# Code


def test_the_code_of_a_run_is_every_file_that_train_py_can_import() -> None:
    """Only trackers that show a run, and the terminal, do not count."""
    from support.source_code import imports, parse

    modules = {p.relative_to(ROOT).as_posix(): p for p in (ROOT / "ranger21").rglob("*.py")}
    todo, reached = [ROOT / "train.py"], {"train.py"}
    while todo:
        for name, _ in imports(parse(todo.pop())):
            stem = name.replace(".", "/")
            for file in (f"{stem}.py", f"{stem}/__init__.py"):
                if file in modules and file not in reached:
                    reached.add(file)
                    todo.append(modules[file])
    without = {file for file in reached if not code.can_change_a_result(file)}
    shown = {"ranger21/tracking/console.py", *(file for file in reached if "/tracking/loggers/" in file)}
    assert without == shown | {"ranger21/system/terminal.py"}
    assert code.hashes().keys() >= {
        "train.py",
        "configs/config.yaml",
        "ranger21/engine/loop.py",
        "ranger21/optim/ingredients/cautious.py",
    }
    assert not [file for file in code.hashes() if file.startswith(code.WITHOUT_EFFECT)]


def test_files_are_hashed_without_git(tmp_path: Path) -> None:
    for folder in ("ranger21", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copyfile(ROOT / "train.py", tmp_path / "train.py")
    before = code.hashes(tmp_path)
    assert before == code.hashes()
    for name in ("ranger21/engine/loop.py", "configs/optimizer/adamw.yaml", "ranger21/report/tables/table.py"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "# edited\n")
    (tmp_path / "ranger21" / "engine" / "undo.py").unlink()
    one, other = (code.Code(files, None, {}) for files in (before, code.hashes(tmp_path)))
    assert not one.same(other)
    changed = "configs/optimizer/adamw.yaml, ranger21/engine/loop.py, ranger21/engine/undo.py"
    assert code.change(one, other) == changed and code.change(one, one) is None


def test_resuming_with_changed_code_names_the_changed_files(
    two: tuple[Path, Path, Path], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    run, a, _ = two
    again = shutil.copytree(run, tmp_path / "again")
    (again / "result.json").unlink()
    manifest = json.loads((again / "manifest.json").read_text())
    (mark,) = manifest["code"]
    manifest["code"][mark]["ranger21/engine/loop.py"] = "0" * 16  # as if the file had been different then
    (again / "manifest.json").write_text(json.dumps(manifest))
    start(again, f"data.root={a}")
    (message,) = [message for message in log.messages if message.startswith("The code")]
    assert message.startswith("The code has changed since this run's last start (2")
    assert message.endswith("): ranger21/engine/loop.py.")


def test_the_hashes_of_the_same_code_are_recorded_once(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    manifest = {"data": {}, "sessions": []}
    for step in range(3):
        add_session(manifest, session(1, "cpu", step))
    assert len(manifest["code"]) == 1 and not log.messages
    assert {s["code"] for s in manifest["sessions"]} == {code.digest(code.own_hashes())}


def test_older_records_are_compared_by_commit_and_diff() -> None:
    def of(commit: str, *files: str, text: str = "") -> code.Code:
        diff = "".join(f"diff --git a/{file} b/{file}\n--- a/{file}\n+{text}\n" for file in files)
        found = code.recorded_code({}, {"git": {"commit": commit, "diff": diff}})
        assert found is not None
        return found

    clean, edited = of("a" * 40, "docs/data.md"), of("a" * 40, "ranger21/engine/loop.py", "README.md")
    assert clean.same(of("a" * 40)) and not clean.same(of("b" * 40)) and not clean.same(edited)
    assert edited.same(of("a" * 40, "ranger21/engine/loop.py")) and not edited.same(
        of("a" * 40, "ranger21/engine/loop.py", text="x")
    )
    assert edited.name == "aaaaaaaaa with uncommitted changes in ranger21/engine/loop.py"
    new = code.Code({"train.py": "1"}, "a" * 40, {})
    assert clean.same(new) and not edited.same(new) and code.change(of("0" * 40), new) is not None
    assert code.recorded_code({}, {"git": None}) is None and code.change(None, new) is None


# Names


def test_a_run_named_by_an_older_version_is_found(tmp_path: Path) -> None:
    """The older name did not contain trainer.accumulate, so runs with 1 and 2 had the same directory."""
    overrides = [*SHORT, "data.root=/data", f"outputs={tmp_path}"]
    one, two, four = (compose_config([*overrides, f"trainer.accumulate={n}"]) for n in (1, 2, 4))
    old, new = naming.run_directory(one), naming.run_directory(two)
    assert len({old, new, naming.run_directory(four)}) == 3
    place = RunDirectory(old)
    place.claim(two)
    place.begin({}, session(1, "cpu", 0), "id")
    assert naming.run_directory(two) == old != naming.run_directory(four)
    with pytest.raises(UserError, match=r"trainer.accumulate: 2 there, 1 now"):
        RunDirectory(naming.run_directory(one)).look(one)
    newer = RunDirectory(new)
    newer.claim(two)
    newer.begin({}, session(1, "cpu", 0), "id2")
    with pytest.raises(UserError, match=rf"^{old} \(of an older version\) and {new} both hold this run"):
        naming.run_directory(two)


@pytest.mark.parametrize("typed", ["true", "false"])
def test_the_removed_setting_optimizer_compile_is_ignored(
    typed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions had it in commands, config.yaml and checkpoints."""
    plain = compose_config(["optimizer=ranger"])
    config = compose_config(["optimizer=ranger", f"optimizer.compile={typed}"])
    assert config == plain and "optimizer.compile no longer exists" in caplog.text
    values = to_dict(plain)
    values["optimizer"]["compile"] = typed == "true"
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert read_config(tmp_path / "config.yaml") == with_overrides(values, []) == plain
    assert run_directory(config) == run_directory(plain)
