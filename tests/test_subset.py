"""Subsets of classes and images depend only on names, and smaller subsets lie within larger ones."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.training import TINY, run_ranks

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import Data, build_data
from ranger21.data.index import Index
from ranger21.data.pack import PackRecipe
from ranger21.data.sources import FolderSource
from ranger21.data.subset import choose_classes, choose_images
from ranger21.packing.make import make_pack
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    return compose_config([*TINY, f"data.root={images}"]).data


@pytest.fixture(scope="module")
def pack(config: ImageFolderConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = build_data(config, 0)
    target = tmp_path_factory.mktemp("pack") / "pack"
    sources = {"train": data.train.source, "val": data.val.source}
    make_pack(sources, config, PackRecipe(36, "squash", "raw", None, None), target, 1)
    return target


def index_of(files: dict[str, int], extra: str = "") -> Index:
    """Return an index of classes with these numbers of images."""
    paths = [f"{name}/{name}_{i}{extra}.JPEG" for name in sorted(files) for i in range(files[name])]
    stored = "".join(path + "\0" for path in paths).encode()
    return Index(tuple(sorted(files)), np.array([files[n] for n in sorted(files)]), np.frombuffer(stored, np.uint8))


def names(index: Index, images: np.ndarray) -> set[bytes]:
    paths = index.all_paths()
    return {paths[i] for i in images}


def stored(data: Data, split: str) -> list[tuple[str, int]]:
    """Return the paths and labels of a split's images, as the source gives them."""
    source = getattr(data, split).source
    found = [(source.index.path(i), source[i][1]) for i in range(len(source))]
    assert [label for _, label in found] == source.index.labels.tolist()
    return found


def test_a_larger_fraction_contains_the_smaller():
    index = index_of({f"n{i}": size for i, size in enumerate((1, 2, 7, 50, 100, 1300))})
    last: set[bytes] = set()
    for fraction in (0.0001, 0.01, 0.1, 0.2, 0.5, 0.99, 1.0):
        images = choose_images(index, list(range(6)), fraction)
        assert images.tolist() == sorted(set(images.tolist()))
        counts = np.bincount(index.labels[images], minlength=6)
        assert counts.tolist() == [max(1, -int(-size * fraction * 10**4 // 10**4)) for size in index.counts]
        assert last < names(index, images) or fraction == 0.0001
        last = names(index, images)
    assert len(last) == len(index)


def test_a_fraction_is_spread_over_the_whole_class():
    index = index_of({"n0": 1000})
    images = choose_images(index, [0], 0.1)
    assert abs(float(np.mean(images)) - 500) < 120 and (images >= 900).any() and (images < 100).any()


def test_the_choice_depends_only_on_the_names_chosen_from():
    files = {f"n{i}": 40 for i in range(20)}
    index = index_of(files)
    wanted = choose_classes(index.classes, 7)
    shuffled = list(index.classes)
    random.Random(1).shuffle(shuffled)
    assert {shuffled[c] for c in choose_classes(tuple(shuffled), 7)} == {index.classes[c] for c in wanted}
    assert {index.classes[c] for c in choose_classes(index.classes, 6)} < {index.classes[c] for c in wanted}
    chosen = names(index, choose_images(index, wanted, 0.2))
    without = {index.classes[c]: 40 for c in wanted}  # the other classes do not exist at all
    alone = index_of(without)
    assert names(alone, choose_images(alone, list(range(7)), 0.2)) == chosen
    longer = index_of(files | {index.classes[wanted[0]]: 80})  # only this class changes
    first = index.classes[wanted[0]].encode() + b"/"
    more = names(longer, choose_images(longer, wanted, 0.2))
    assert {n for n in more if not n.startswith(first)} == {n for n in chosen if not n.startswith(first)}


def test_class_names_may_be_invalid_text():
    classes = ("n1", "\udcff")
    assert choose_classes(classes, 2) == [0, 1] and choose_classes(classes, ["\udcff"]) == [1]


def test_folder_and_pack_give_the_same_subset(config, pack, tmp_path):
    by_name = tmp_path / "classes.txt"
    by_name.write_text("# a comment\n\nn99000007 vertical stripes\nn99000002\nn99000002 again\n")
    for overrides in (["data.classes=4", "data.fraction=0.3"], [f"data.classes={by_name}"], ["data.fraction=0.5"]):
        chosen = compose_config([*TINY, f"data.root={config.root}", *overrides]).data
        folder, packed = build_data(chosen, 0), build_data(replace(chosen, pack=str(pack), root=None), 0)
        assert folder.classes == packed.classes and folder.fingerprint == packed.fingerprint
        for split in ("train", "val"):
            assert stored(folder, split) == stored(packed, split)
        for i in range(0, len(folder.train), 3):
            one, other = (data.train.__getitems__([(0, i)]) for data in (folder, packed))
            assert one.labels.equal(other.labels) and one.images.equal(other.images)
        whole = {path for path, _ in stored(build_data(config, 0), "val")}
        expected = {path for path in whole if path.split("/")[0] in folder.classes}
        assert {path for path, _ in stored(folder, "val")} == expected  # validation images are not reduced
    assert build_data(replace(config, classes=["n99000007", "n99000002"]), 0).classes == ["n99000002", "n99000007"]


def test_labels_of_a_subset_count_from_zero(config):
    data = build_data(replace(config, classes=["n99000003", "n99000008"], fraction=0.5), 0)
    assert [label for _, label in stored(data, "train")] == [0] * 4 + [1] * 4
    assert [label for _, label in stored(data, "val")] == [0] * 3 + [1] * 3
    assert all(path.startswith(data.classes[label]) for path, label in stored(data, "train"))
    assert build_data(config, 0).fingerprint != data.fingerprint


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (11, r"^data.classes=11 is too large: the data has only 10 classes\.$"),
        (["n99000001", "n1"], r"^data.classes names n1, which the data does not have\. Choose other classes, or null"),
        (
            [f"n{i}" for i in range(7)],
            r"^data.classes names n0, n1, n2 and 4 more, which the data does not have",
        ),
    ],
)
def test_error_names_the_missing_classes(classes, words, packed, config, pack):
    chosen = replace(config, classes=classes)
    with pytest.raises(UserError, match=words):
        build_data(replace(chosen, pack=str(pack), root=None) if packed else chosen, 0)


@pytest.mark.parametrize(
    "override",
    [*(f"classes={value}" for value in (0, -1, 1.5, "true", "EMPTY", "/nowhere")), "fraction=0", "fraction=1.01"],
)
def test_impossible_subsets_are_refused(override, tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match=f"^data.{override.split('=')[0]}=.*"):
        compose_config([*TINY, f"data.{override}".replace("EMPTY", str(tmp_path / "empty.txt"))])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("red apple\ngreen pear\n", ["green pear", "red apple"]),
        ("\ufeffred\r\ngreen\r\n", ["green", "red"]),
        ("red apple\t17\ngreen\tor not\n\n# neither\n", ["green", "red apple"]),
        ("n01440764 tench, a fish\nn02102040\n", ["n01440764", "n02102040"]),
        ("0\n11\n", ["0", "11"]),
    ],
)
def test_a_file_of_classes_has_one_name_per_line(text, names, tmp_path):
    (tmp_path / "classes").write_text(text, encoding="utf-8", newline="")
    assert compose_config([f"data.classes={tmp_path / 'classes'}"]).data.classes == names


def test_numbered_folders_are_named_by_a_list_of_numbers():
    assert compose_config(["data.classes=[0,11,7]"]).data.classes == ["0", "11", "7"]


def test_the_run_directory_depends_on_the_classes_not_on_their_file(tmp_path):
    def directory(*overrides: str) -> Path:
        return run_directory(compose_config([*TINY, "data.root=/data", *overrides]))

    for name, content in (("a", "n1\nn2\n"), ("b", "n2 two\n# one\nn1 one\n"), ("c", "n1\nn3\n")):
        (tmp_path / name).write_text(content)
    runs = {name: directory(f"data.classes={tmp_path / name}") for name in "abc"}
    assert runs["a"] == runs["b"]
    others = [runs["a"], runs["c"], directory(), directory("data.classes=2"), directory("data.fraction=0.5")]
    assert len(set(others)) == 5


def test_a_run_on_a_subset_resumes_after_its_file_of_classes_moved(images, tmp_path):
    """The run also ignores changes in classes outside the subset; a file with other classes is refused."""
    root = shutil.copytree(images, tmp_path / "data")
    (tmp_path / "a").write_text("\n".join(f"n9900000{i}" for i in (0, 3, 4, 9)))
    rest = [*TINY, f"data.root={root}", "data.fraction=0.5", "trainer.checkpoint_every_steps=1"]
    assert run_ranks([*rest, f"data.classes={tmp_path / 'a'}"], tmp_path / "run", 1, die_at=3, when="before") == [-9]
    (tmp_path / "a").rename(tmp_path / "b")
    shutil.rmtree(root / "train" / "n99000001"), shutil.rmtree(root / "val" / "n99000001")
    assert run_ranks([*rest, f"data.classes={tmp_path / 'b'}"], tmp_path / "run", 1) == [0]
    facts = json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]
    assert (facts["classes"], facts["train_images"], facts["val_images"]) == (4, 16, 12)
    (tmp_path / "c").write_text("n99000005\nn99000006\n")
    assert run_ranks([*rest, f"data.classes={tmp_path / 'c'}"], tmp_path / "run", 1) == [1]
    assert "data.classes: " in (tmp_path / "run.out").read_text()


def test_classes_missing_in_val_are_refused_unless_not_selected(images, tmp_path):
    """The selection comes first, then the check that both splits have its classes; labels go by name."""
    root = shutil.copytree(images, tmp_path / "data")
    for name in ("n99000000", "n99000005"):
        shutil.rmtree(root / "val" / name)
    (root / "val" / "n99009999").mkdir()  # an additional, empty class
    config = compose_config([*TINY, f"data.root={root}"]).data
    differ = r"2 only in train/ \(n99000000, n99000005\); 1 only in val/ \(n99009999\)\. .* data\.classes=FILE\.$"
    for look in (lambda config: config.require(), lambda config: build_data(config, 0)):
        with pytest.raises(UserError, match=differ):
            look(config)
        with pytest.raises(UserError, match=r"^data.classes selects n99000005, which .*/train has but .*/val lacks\.$"):
            look(replace(config, classes=["n99000001", "n99000005"]))
        with pytest.raises(UserError, match=r"^data.classes=10 selects n99000000, n99000005, which "):
            look(replace(config, classes=10))
    common = [f"n9900000{i}" for i in (1, 3, 4, 9)]
    replace(config, classes=common).require()
    data = build_data(replace(config, classes=common), 0)
    assert data.classes == common
    for split, each in (("train", 8), ("val", 3)):
        found = stored(data, split)
        assert len(found) == 4 * each and all(path.startswith(common[label]) for path, label in found)


def test_a_subset_of_a_pack_has_the_right_pixels(config, pack):
    """Each chosen image is read from its place in the pack."""
    whole = build_data(replace(config, pack=str(pack), root=None), 0)
    some = build_data(replace(config, pack=str(pack), root=None, classes=3, fraction=0.4), 0)
    place = {path: i for i, (path, _) in enumerate(stored(whole, "train"))}
    for i, (path, _) in enumerate(stored(some, "train")):
        assert np.array_equal(some.train.source[i][0].data, whole.train.source[place[path]][0].data)
    assert isinstance(build_data(config, 0).train.source, FolderSource)
