"""Classes are matched by name: renamed and numbered folders, unknown wnids, subsets, older checkpoints."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.colours import LEVELS, NUMBERS, WNIDS, Colours, draw, val_colours
from support.project import ROOT

from ranger21.models.classes import match, require_same_classes
from ranger21.models.evaluated import Request
from ranger21.models.scoring import score
from ranger21.system.errors import UserError

RIGHT = 100 * 23 / 24


def evaluate(source: object, *overrides: str, **options: Any) -> tuple[dict[str, Any], str]:
    """Return the metrics, and all messages as one string."""
    scored = score(Request(str(source), overrides, **options))
    assert scored is not None
    return scored[0], " ".join(scored[1])


def folders(place: Path, names: dict[str, int]) -> Path:
    """Write folders of val/: each name gets the images of a label."""
    for name, label in names.items():
        draw(place / "val", name, val_colours(label))
    return place


def test_a_run_is_evaluated_on_its_own_data(colours: Colours) -> None:
    result, said = evaluate(colours.run)
    assert (result["val/acc1"], result["images"], result["classes"]) == (pytest.approx(RIGHT), 24, 12)
    assert f"12 of 12 classes of {colours.root}/val are among the 12 of {colours.run}, by name." in said


def test_folders_renamed_by_another_scheme_are_refused(colours: Colours, tmp_path: Path) -> None:
    """The folders' alphabetical order differs. Before names were stored, this silently gave a top-1 of 0 %."""
    other = folders(tmp_path, {f"colour{11 - label:02d}": label for label in range(12)})
    sentence = r"None of the 12 classes of .*val is among the 12 of .*: colour00, colour01, colour02 and 9 more\. The"
    with pytest.raises(UserError, match=sentence):
        evaluate(colours.run, f"data.root={other}")


def test_unknown_wnids_are_refused_by_name(colours: Colours, tmp_path: Path) -> None:
    names = {name: label for label, name in enumerate(WNIDS[:6])} | {f"n0000000{n}": 6 + n for n in range(6)}
    other = folders(tmp_path, names)
    with pytest.raises(
        UserError, match=r"^6 of the 12 classes .* are not among .*: n00000000, n00000001, n00000002 and 3"
    ):
        evaluate(colours.run, f"data.root={other}")
    only = folders(tmp_path / "only", {f"n0000000{n}": 6 + n for n in range(6)})
    with pytest.raises(UserError, match=r"^None of the 6 classes"):
        evaluate(colours.run, f"data.root={only}")


def test_numbered_folders_are_indices_into_the_models_classes(colours: Colours, tmp_path: Path) -> None:
    """ImageNet-V2's folders sort as strings (0, 1, 10, 11, 2), which once gave a top-1 of 17 %."""
    other = tmp_path / "v2"
    for label in range(12):
        draw(other, str(label), val_colours(label))
    result, said = evaluate(colours.run, f"data.root={other}")
    assert result["val/acc1"] == pytest.approx(RIGHT)
    assert "number n stands for class n of its 12, counted from 0" in said
    draw(other, "12", [LEVELS[0]])
    with pytest.raises(UserError, match=r"are numbers, and 12 is beyond the 12 classes"):
        evaluate(colours.run, f"data.root={other}")


def test_numbers_match_as_names_if_the_models_classes_are_numbers() -> None:
    assert match(["1", "0", "10"], ["0", "1"], "the model", "the data").places == [1, 0]
    with pytest.raises(UserError, match="1 of the 2 classes of the data is not among the 3 of the model: 2"):
        match(["1", "0", "10"], ["0", "2"], "the model", "the data")
    with pytest.raises(UserError, match="Several folders of the data have the same number: 01, 1"):
        match(["a", "b"], ["01", "1"], "the model", "the data")


def test_data_may_lack_classes_and_a_train_folder(colours: Colours, tmp_path: Path) -> None:
    """The data has 2 of 12 classes. `among="present"` corrects the image that looks like a third class."""
    other = folders(tmp_path, {WNIDS[0]: 0, WNIDS[11]: 11})
    result, said = evaluate(colours.run, f"data.root={other}")
    assert (result["val/acc1"], result["model_classes"], result["classes"]) == (pytest.approx(75), 12, 2)
    assert "2 of 2 classes of" in said and "among the 12" in said
    present, _ = evaluate(colours.run, f"data.root={other}", among="present")
    assert present["val/acc1"] == pytest.approx(100) and result["val/loss"] > present["val/loss"]
    with pytest.raises(UserError, match=r"There is no folder .*/nothing\. data.root must contain val/"):
        evaluate(colours.run, f"data.root={tmp_path}/nothing")
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"There is no folder .*/val\. data.root must contain val/"):
        evaluate(colours.run, f"data.root={tmp_path}")


def test_a_model_trained_on_a_subset_finds_its_classes_in_the_whole_dataset(colours: Colours, tmp_path: Path) -> None:
    """The names stored in the checkpoint decide, not the hash that data.classes=12 would apply to the new names."""
    state = colours.state()
    state["config"]["data"]["classes"] = 12
    run = colours.save(state, tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(colours.root / "val", more / "val")
    for number in range(20):
        draw(more / "val", f"n9999{number:04d}", [LEVELS[0]])
    result, _ = evaluate(run, f"data.root={more}")
    assert (result["val/acc1"], result["images"]) == (pytest.approx(RIGHT), 24)


def test_a_model_trained_on_a_subset_says_which_classes_it_leaves_out(colours: Colours, tmp_path: Path) -> None:
    """Data without any known class is refused with a message; it used to raise a traceback."""
    state = colours.state()
    state["config"]["data"]["classes"] = list(WNIDS)
    run = colours.save(state, tmp_path / "run")
    partly = folders(tmp_path / "partly", {WNIDS[2]: 2, WNIDS[5]: 5, "n99990000": 0})
    result, said = evaluate(run, f"data.root={partly}")
    assert (result["val/acc1"], result["images"]) == (100, 4)
    assert f"{run} was trained on a subset of classes (data.classes). Left out: 1 of the 3 in {partly}/val" in said
    foreign = folders(tmp_path / "foreign", {f"n9999{n:04d}": n for n in range(12)})
    with pytest.raises(UserError, match=r"^None of the 12 classes of .* is among the 12 of"):
        evaluate(run, f"data.root={foreign}")
    with pytest.raises(UserError, match=r"^data.classes names .* and 9 more, which the data does not have. Choose"):
        evaluate(run, f"data.root={foreign}", by_position=True)
    result, _ = evaluate(run, f"data.root={foreign}", "data.classes=null", by_position=True)
    assert result["val/acc1"] == pytest.approx(RIGHT)


def test_a_relative_data_root_means_the_runs_own_data_in_any_working_directory(
    colours: Colours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path used to be resolved in the current directory, which may hold other data with the same classes."""
    state = colours.state()
    state["config"]["data"]["root"] = "data"
    run = colours.save(state, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"]["root"] = str(colours.root)
    (run / "manifest.json").write_text(json.dumps(manifest))
    folders(tmp_path / "data", {name: 11 - label for label, name in enumerate(WNIDS)})
    monkeypatch.chdir(tmp_path)
    result, said = evaluate(run)
    assert result["val/acc1"] == pytest.approx(RIGHT) and f"{colours.root}/val" in said
    assert evaluate(run, "data.root=data")[0]["val/acc1"] < 10


def test_a_pack_of_other_images_than_data_root_is_refused(colours: Colours) -> None:
    pack = ROOT / "tests" / "formats" / "1" / "pack-jpeg"
    with pytest.raises(
        UserError, match=rf"^data.pack={pack} was made of different images from those in {colours.root} now"
    ):
        evaluate(colours.run, f"data.pack={pack}", f"data.root={colours.root}")


def nameless(colours: Colours, run: Path) -> Path:
    """Write a checkpoint without class names, as earlier versions did."""
    state = colours.state()
    del state["format"], state["data"]["names"]
    return colours.save(state, run)


def test_an_older_checkpoint_takes_its_class_names_from_the_runs_data(colours: Colours, tmp_path: Path) -> None:
    run = nameless(colours, tmp_path / "run")
    assert evaluate(run)[0]["val/acc1"] == pytest.approx(RIGHT)
    four = folders(tmp_path / "four", {WNIDS[label]: label for label in (11, 3, 5, 0)})
    assert evaluate(run, f"data.root={four}")[0]["val/acc1"] == pytest.approx(100 * 7 / 8)
    bare = tmp_path / "bare.pt"
    shutil.copy(run / "checkpoints" / "last.pt", bare)
    with pytest.raises(UserError, match=r"bare\.pt does not name its classes, .* use --by-position"):
        evaluate(bare)


def test_classes_are_matched_by_position_only_on_request(colours: Colours, tmp_path: Path) -> None:
    run = nameless(colours, tmp_path / "run")
    renamed = folders(tmp_path / "renamed", {f"colour{label:02d}": label for label in range(12)})
    result, said = evaluate(run, f"data.root={renamed}", by_position=True)
    assert result["val/acc1"] == pytest.approx(RIGHT) and "by position, regardless of their names" in said
    four = folders(tmp_path / "four", {WNIDS[label]: label for label in (11, 3, 5, 0)})
    with pytest.raises(UserError, match=r"^--by-position cannot be used: .* has 12 classes, but .* has 4\.$"):
        evaluate(run, f"data.root={four}", by_position=True)


def test_a_checkpoint_of_a_newer_format_is_refused(colours: Colours, tmp_path: Path) -> None:
    run = colours.save(colours.state() | {"format": 99}, tmp_path / "run")
    with pytest.raises(
        UserError, match=r"the format is 99, and this version of the project reads up to 2: use a newer version\.$"
    ):
        evaluate(run)


def test_predictions_do_not_depend_on_ranks_or_loader_processes(colours: Colours, tmp_path: Path) -> None:
    """evaluate.py writes one line per image, in the order of the data."""
    targets = [tmp_path / f"{n}, odd.csv" for n in range(3)]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [
        *start,
        str(ROOT / "scripts" / "evaluate.py"),
        str(colours.run),
        "--json",
        "--predictions",
        str(targets[0]),
    ]
    sizes, env = ["data.eval_batch_size=5", "data.workers=1"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["val/acc1"] == pytest.approx(RIGHT)
    for workers, target in enumerate(targets[1:]):
        evaluate(colours.run, f"data.workers={workers}", predictions=target)
    assert len({target.read_bytes() for target in targets}) == 1
    with open(targets[0], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(f"{name}/image_{n:08d}.png" for name in WNIDS for n in (1, 2))
    assert [row["class"] for row in rows] == sorted([*WNIDS, *WNIDS])
    wrong = [row for row in rows if row["top1"] != row["class"]]
    assert [(row["path"], row["top1"]) for row in wrong] == [(f"{WNIDS[0]}/image_00000002.png", WNIDS[1])]
    assert all(0.99 < float(row["probability1"]) <= 1 for row in rows)
    assert all(len({row[f"top{n}"] for n in range(1, 6)}) == 5 for row in rows)
    assert sorted(tmp_path.iterdir()) == targets


def test_reals_labels_are_matched_by_image_name(colours: Colours, tmp_path: Path) -> None:
    """Six images, not in ReaL's order: one has a second correct label, one has none, and one is misclassified."""
    names = [8, 3, 5, 1, 49_999, 7]
    for place, (number, label) in enumerate(zip(names, [0, 0, 1, 2, 3, 4], strict=True)):
        colour = LEVELS[1] if place == 1 else LEVELS[6] if place == 3 else LEVELS[label]
        stem = f"ILSVRC2012_val_{number:08d}"
        (tmp_path / "val" / WNIDS[label]).mkdir(parents=True, exist_ok=True)
        draw(tmp_path / "drawn", stem, [colour])
        source = tmp_path / "drawn" / stem / "image_00000001.png"
        shutil.move(source, tmp_path / "val" / WNIDS[label] / f"{stem}.png")
    labels: list[list[int]] = [[] for _ in range(50_000)]
    right = {
        8: [NUMBERS[0]],
        3: [NUMBERS[0], NUMBERS[1]],
        5: [],
        1: [NUMBERS[2]],
        49_999: [NUMBERS[3]],
        7: [NUMBERS[4]],
    }
    for number, some in right.items():
        labels[number - 1] = some
    (tmp_path / "real.json").write_text(json.dumps(labels))
    result, _ = evaluate(colours.run, f"data.root={tmp_path}", real_labels=tmp_path / "real.json")
    assert result["val/acc1"] == pytest.approx(100 * 4 / 6)
    assert (result["real/acc1"], result["real/images"]) == (pytest.approx(100 * 4 / 5), 5)
    with pytest.raises(UserError, match=r"has labels for 50000 images, .* but not for n01440764/image_00000001.png"):
        evaluate(colours.run, real_labels=tmp_path / "real.json")
    (tmp_path / "real.json").write_text("[[1], [2000]]")
    with pytest.raises(UserError, match=r"real.json does not have the format of ReaL's real.json"):
        evaluate(colours.run, real_labels=tmp_path / "real.json")


def test_a_run_does_not_resume_with_other_classes(tmp_path: Path) -> None:
    require_same_classes(None, ["a"], tmp_path)
    require_same_classes(["a", "b"], ["a", "b"], tmp_path)
    with pytest.raises(UserError, match=r"was started with different classes: it had a; now there are c\."):
        require_same_classes(["a", "b"], ["b", "c"], tmp_path)
    with pytest.raises(UserError, match=r"different classes: the same names in a different order\."):
        require_same_classes(["a", "b"], ["b", "a"], tmp_path)


def test_a_landscape_matches_classes_by_name(colours: Colours, tmp_path: Path) -> None:
    """Labels are mapped to the checkpoint's order of classes; unknown folders are refused."""
    from ranger21.engine.precision import Precision
    from ranger21.landscape.settings import Settings
    from ranger21.landscape.subject import Checkpoint, load_checkpoint, load_images
    from ranger21.system.distributed import World

    world = World(0, 1, 0, 1, torch.device("cpu"))
    precision = Precision("fp32", world.device)

    said = []

    def loss(run: Path, root: Path, **more: Any) -> float:
        settings = Settings((str(run),), (f"data.root={root}",), images=24, split="val", bn_images=4, **more)
        checkpoint = Checkpoint.read(str(run), settings.overrides)
        images = load_images(checkpoint.config.data, settings, world, precision)
        subject = load_checkpoint(checkpoint, images, settings, world, precision)
        said.append(subject.classes)
        return subject.own_loss["stored"]

    expected = loss(colours.run, colours.root)
    assert said == [f"12 of 12 classes of {colours.root} are among the 12 of {colours.run}, by name."]
    state, order = colours.state(), torch.arange(11, -1, -1)
    state["model"] |= {name: state["model"][name][order] for name in ("fc.weight", "fc.bias")}
    state["data"]["names"] = WNIDS[::-1]
    assert loss(colours.save(state, tmp_path / "reversed"), colours.root) == pytest.approx(expected, rel=1e-5)
    for split in ("train", "val"):
        for label in range(12):
            draw(tmp_path / "renamed" / split, f"colour{label:02d}", val_colours(label))
    with pytest.raises(UserError, match=r"^None of the 12 classes of .*/renamed is among the 12 of"):
        loss(colours.run, tmp_path / "renamed")
    assert loss(colours.run, tmp_path / "renamed", by_position=True) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match=r"w.safetensors is an exported file: give a checkpoint that train.py wrote"):
        Checkpoint.read(str(tmp_path / "w.safetensors"), ())
