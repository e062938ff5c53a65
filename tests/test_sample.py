"""The sample dataset that the project draws itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.project import ROOT

from ranger21.data.sample import CLASSES, MARKER, draw, ensure_sample
from ranger21.system.errors import UserError

COUNTS = {"train_per_class": 3, "val_per_class": 1}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_sample(tmp_path_factory.mktemp("data") / "sample", **COUNTS)


def test_layout_and_counts(sample: Path) -> None:
    assert {path.name for path in sample.iterdir()} == {"train", "val", MARKER}
    for split, count in (("train", 3), ("val", 1)):
        assert {path.name for path in (sample / split).iterdir()} == set(CLASSES)
        for wnid in CLASSES:
            files = list((sample / split / wnid).iterdir())
            assert len(files) == count
            assert all(path.suffix == ".JPEG" for path in files)


def test_the_sample_is_the_same_everywhere(sample: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    assert ensure_sample(root, **COUNTS) == root
    assert contents(root) == contents(sample)


def test_all_images_are_different(sample: Path) -> None:
    files = [data for name, data in contents(sample).items() if name != MARKER]
    assert len(set(files)) == len(files) == 40


def test_a_larger_sample_contains_the_smaller(sample: Path, tmp_path: Path) -> None:
    small = contents(ensure_sample(tmp_path / "small", train_per_class=1, val_per_class=1))
    del small[MARKER]
    assert small.items() <= contents(sample).items()


@pytest.mark.parametrize("split", ["train", "val"])
def test_each_split_contains_grey_and_cmyk_images(sample: Path, split: str) -> None:
    modes = Counter(Image.open(path).mode for path in (sample / split).glob("*/*"))
    assert set(modes) == {"RGB", "L", "CMYK"}
    assert modes["RGB"] > modes["L"] + modes["CMYK"]


def test_images_have_many_sizes_and_can_be_decoded(sample: Path) -> None:
    sizes: Counter[tuple[int, int]] = Counter()
    for path in sample.glob("*/*/*"):
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert not image.getexif()
            sizes[image.size] += 1
            pixels = image.convert("RGB")
        low, high = zip(*pixels.getextrema(), strict=True)
        assert max(high) - min(low) > 50, f"{path} is blank"
    assert len(sizes) >= 8
    assert sizes[500, 375] > 5
    assert sizes[375, 500] > 2
    assert min(map(min, sizes)) < 200


def test_cmyk_images_have_the_right_colours(sample: Path) -> None:
    """Some writers store CMYK inverted, as Adobe does; these images must not come out inverted."""
    wnid = list(CLASSES)[3]
    with Image.open(sample / "train" / wnid / f"{wnid}_0.JPEG") as image:
        assert image.mode == "CMYK"
        decoded = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    drawn = draw(wnid, "train", 0).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(decoded, tuple)
    assert isinstance(drawn, tuple)
    assert max(abs(a - b) for a, b in zip(decoded, drawn, strict=True)) < 8


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    root = ensure_sample(tmp_path / "sample", train_per_class=1, val_per_class=1)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    ensure_sample(root, train_per_class=1, val_per_class=1)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


def lose_the_marker(root: Path) -> None:
    (root / MARKER).unlink()


def lose_an_image(root: Path) -> None:
    next((root / "val").glob("*/*")).unlink()


def lose_a_class(root: Path) -> None:
    for path in (root / "train" / "n99000004").iterdir():
        path.unlink()
    (root / "train" / "n99000004").rmdir()


def garble_the_marker(root: Path) -> None:
    (root / MARKER).write_text("[1")


def age_the_marker(root: Path) -> None:
    text = (root / MARKER).read_text()
    (root / MARKER).write_text(text.replace('"version": ', '"version": 9'))


@pytest.mark.parametrize("harm", [lose_the_marker, lose_an_image, lose_a_class, garble_the_marker, age_the_marker])
def test_a_damaged_sample_is_redrawn(harm: Callable[[Path], None], tmp_path: Path) -> None:
    root = ensure_sample(tmp_path / "sample", train_per_class=1, val_per_class=1)
    before = contents(root)
    harm(root)
    assert contents(root) != before
    ensure_sample(root, train_per_class=1, val_per_class=1)
    assert contents(root) == before
    assert os.listdir(tmp_path) == ["sample"]


def test_a_sample_with_different_counts_is_redrawn(tmp_path: Path) -> None:
    root = ensure_sample(tmp_path / "sample", train_per_class=1, val_per_class=1)
    ensure_sample(root, train_per_class=2, val_per_class=0)
    assert len(list(root.glob("train/*/*"))) == 20
    assert len(list(root.glob("val/*/*"))) == 0


def test_leftovers_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".sample-abcd" / "fresh" / "train").mkdir(parents=True)
    ensure_sample(tmp_path / "sample", train_per_class=1, val_per_class=1)
    assert (tmp_path / "sample" / MARKER).exists()


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Files of a running process and of other programs are kept."""
    root = tmp_path / "sample"
    code = "import pathlib, ranger21.system.processes as p\n"
    code += f"with p.temporary_folder(pathlib.Path({str(root)!r}), {{'fresh'}}) as w:\n"
    code += " (w / 'fresh').mkdir()\n print(w, flush=True)\n input()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    living, killed = (subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2))
    places = [Path(process.stdout.readline().strip()) for process in (living, killed)]
    killed.kill()
    killed.wait()
    others = [tmp_path / ".sample-backup-2", tmp_path / ".sample-abcdefgh", tmp_path / ".sample-a"]
    for other in others:
        (other / ("fresh" if other.name.endswith("2") else "mine")).mkdir(parents=True)
    ensure_sample(root, train_per_class=1, val_per_class=1)
    assert [place.exists() for place in places] == [True, False] and all(other.exists() for other in others)
    living.communicate("\n", timeout=30)
    assert not places[0].exists()


def test_other_users_may_read_the_sample(tmp_path: Path) -> None:
    """The sample is drawn in a temporary directory, which is closed to other users, but a team may share it."""
    (tmp_path / "plain").mkdir()
    root = ensure_sample(tmp_path / "sample", train_per_class=1, val_per_class=1)
    assert root.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("stale", [False, True], ids=["none", "stale"])
def test_several_processes_can_draw_the_sample_at_once(tmp_path: Path, sample: Path, stale: bool) -> None:
    """The processes run a script without an `if __name__ == "__main__"` guard, as a user may write it."""
    root = tmp_path / "sample"
    if stale:
        (root / "train" / "n99000000").mkdir(parents=True)
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, sys\n"
        "from ranger21.data.sample import ensure_sample\n"
        f"ensure_sample(pathlib.Path(sys.argv[1]), **{COUNTS})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(root)]
    runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    assert contents(root) == contents(sample)
    assert sorted(os.listdir(tmp_path)) == ["sample", "script.py"]


def test_an_unwritable_root_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "sample"
    with pytest.raises(UserError, match=r"^Cannot write the sample dataset to .*\. Choose a place") as caught:
        ensure_sample(root, train_per_class=1, val_per_class=1)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("name", ["train/n01440764/n01440764_18.JPEG", "notes.txt"])
def test_foreign_files_are_never_removed(name: str, tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("precious")
    with pytest.raises(UserError, match="Choose another directory"):
        ensure_sample(root, train_per_class=1, val_per_class=1)
    assert (root / name).read_text() == "precious"


def test_drawing_does_not_import_torch() -> None:
    """Drawing must be possible without torch, and importing torch would make it slower."""
    code = "import sys, ranger21.data.sample; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
