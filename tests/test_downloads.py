"""Every form in which people download ImageNet becomes the same folders, also after kills and from read-only places."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.archives import contents, make_few, need_readers, prepare_by_command, prepared_tree
from support.downloads import DOWNLOADS, NAMELESS
from support.prepare_killer import KILLER
from support.project import ROOT

from ranger21.downloads.naming import Naming
from ranger21.downloads.prepare import prepare
from ranger21.downloads.wnids import imagenet_wnids, wnids_of
from ranger21.system.errors import UserError

need_readers("scipy", "pyarrow")


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, and every form of them as a folder of its own."""
    folder = make_few(images, tmp_path_factory.mktemp("few"), 3)
    for form, (make, _) in DOWNLOADS.items():
        make(folder, folder / "forms" / form)
    return folder


def states(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.parametrize("form", DOWNLOADS)
def test_every_form_gives_the_same_tree(form, few, tmp_path, capsys):
    source, target = few / "forms" / form, tmp_path / "out"
    before = states(source)
    prepare(source, target, 1)
    assert contents(target) == prepared_tree(few)
    assert DOWNLOADS[form][1] in (out := capsys.readouterr().out), out
    assert out.index(DOWNLOADS[form][1]) < out.index(" needs ") < out.index("writing")
    next((target / "val").rglob("*.JPEG")).unlink()
    prepare(source, target, 1)
    assert contents(target) == prepared_tree(few)
    prepare(source, target, 1)
    assert "Nothing to do" in capsys.readouterr().out
    assert states(source) == before


NAMELESS_SAID = {
    "parquet_converted": "the column label, with 3 class names in the files",
    "arrow_nameless": "the names of",
}


@pytest.mark.parametrize("form", NAMELESS_SAID)
def test_images_without_names_are_sorted_by_their_labels(form, few, tmp_path, capsys):
    NAMELESS[form](few, tmp_path / "source")
    for target in ("one", "two"):
        prepare(tmp_path / "source", tmp_path / target, 1)
    assert f"labels from {NAMELESS_SAID[form]}" in capsys.readouterr().out
    written = contents(tmp_path / "one")
    assert written == contents(tmp_path / "two")

    def by_class(tree: dict[str, bytes]) -> list[tuple[str, bytes]]:
        return sorted((name.rpartition("/")[0], data) for name, data in tree.items())

    assert by_class(written) == by_class(prepared_tree(few))


def test_the_name_or_the_label_of_an_image_tells_its_class():
    names = Naming(Path("file"), ("n99000000", "n99000001"), (), "train_00003")
    assert names.place("n99000001_7_n99000001.JPEG", 1, 0) == "n99000001/n99000001_7.JPEG"
    assert names.place("ILSVRC2012_val_00000007_n99000001.JPEG", -1, 0) == "n99000001/ILSVRC2012_val_00000007.JPEG"
    assert names.place("n99000001_7.JPEG", None, 0) == "n99000001/n99000001_7.JPEG"
    assert names.place("any.png", 1, 0) == "n99000001/any.png"
    assert names.place(None, 0, 42) == "n99000000/train_00003_0000042.JPEG"
    for path, label in (("n99000001_7_n99000000.JPEG", None), ("n99000001_7.JPEG", 0), ("any.png", 2), (None, None)):
        with pytest.raises(UserError):
            names.place(path, label, 0)


def test_the_names_of_classes_tell_their_wnids():
    wnids = imagenet_wnids()
    table = Path(find_spec("timm").submodule_search_locations[0]) / "data" / "_info" / "imagenet_synset_to_lemma.txt"
    lemmas = dict(line.split("\t") for line in table.read_text().splitlines())
    names = [lemmas[wnid] for wnid in wnids]
    assert len(wnids) == 1000 and wnids[0] == "n01440764" and names[0] == "tench, Tinca tinca"
    assert wnids_of(wnids[7:3:-1]) == wnids[7:3:-1]
    assert wnids_of(names) == wnids, "although two classes are called crane"
    assert wnids_of([name.upper() for name in names[:100]]) == wnids[:100]
    assert wnids_of([*names[:5], "crane"]) is None, "which of the two?"
    assert wnids_of([names[0], names[0]]) is None and wnids_of([wnids[0]] * 2) is None
    assert wnids_of(["cat", "dog"]) is None


@pytest.mark.parametrize("form", ["kaggle_zip"])
def test_the_command_says_what_it_recognized(form, few, tmp_path):
    done = prepare_by_command(few / "forms" / form, tmp_path / "out", "--processes", "2")
    assert done.returncode == 0 and DOWNLOADS[form][1] in done.stdout, done.stdout
    assert contents(tmp_path / "out") == prepared_tree(few)


# One form for each way of reading.
@pytest.mark.parametrize(
    "form", ["flat_devkit", "class_archives", "kaggle_zip", "webdataset", "hub_archives", "arrow_saved"]
)
def test_every_reader_continues_after_a_kill_before_any_change(form, few, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLER, str(few / "forms" / form), str(tmp_path), "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    targets = list(tmp_path.iterdir())
    assert len(targets) > 10
    for target in targets:
        assert contents(target) == prepared_tree(few), target
