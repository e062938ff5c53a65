"""Whether two sets of images are the same: by name, class and size; older records without sizes by name only."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from ranger21.data.identity import DataMatch, compare, identify
from ranger21.data.index import Index
from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError


def index(names: list[str], sizes: list[int] | None = None) -> Index:
    """Return the index of a split with these files (CLASS/NAME), in order."""
    classes = sorted({name.partition("/")[0] for name in names})
    counts = np.array([sum(name.startswith(f"{c}/") for name in names) for c in classes])
    paths = np.frombuffer(b"".join(name.encode() + b"\0" for name in names), np.uint8)
    return Index(tuple(classes), counts, paths, None if sizes is None else np.array(sizes, np.int64))


NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
VAL = index(["a/v.jpg", "b/v.jpg"], [7, 8])
NOW = identify({"train": index(NAMES, [1, 2, 3]), "val": VAL})


def test_every_name_class_and_size_changes_the_fingerprint() -> None:
    others = [
        index([*NAMES[:2], "c/1.jpg"], [1, 2, 3]), index(["a/1.jpg", "b/1.jpg", "b/2.jpg"], [1, 2, 3]),
        index(["a/1.jpg", "a/3.jpg", "b/1.jpg"], [1, 2, 3]), index(NAMES[1:], [2, 3]), index(NAMES, [1, 2, 4]),
        index(NAMES, [2, 1, 3]), index(["aa/1.jpg", *NAMES[1:]], [1, 2, 3]),
    ]  # fmt: skip
    all_of_them = [NOW, *(identify({"train": train, "val": VAL}) for train in others)]
    all_of_them.append(identify({"train": VAL, "val": index(NAMES, [1, 2, 3])}))
    assert len({identity.fingerprint for identity in all_of_them}) == 9
    assert len({identity.names for identity in all_of_them}) == 7  # two differ only in sizes
    assert identify({"train": index(NAMES, [1, 2, 3]), "val": VAL}) == NOW


def test_the_digest_of_the_names_equals_the_fingerprint_before_sizes_were_added() -> None:
    """The digest is that of version 1, so that old and new records can be compared."""
    lines = "".join(f"train/{name}\n" for name in NAMES) + "val/a/v.jpg\nval/b/v.jpg\n"
    assert NOW.names == f"names:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert NOW.fingerprint.startswith("images-2:")
    unknown = identify({"train": index(NAMES), "val": VAL})
    assert unknown.fingerprint == unknown.names == NOW.names


KEPT = "squash 36, JPEG of quality 95, 4:4:4"
OTHER_SIZES = identify({"train": index(NAMES, [1, 2, 4]), "val": VAL})
OTHER_NAMES = identify({"train": index(NAMES[1:], [2, 3]), "val": VAL})


@pytest.mark.parametrize(
    ("recorded", "now", "match", "words"),
    [
        (NOW.facts(), NOW.facts(), DataMatch.SAME, ""),
        (NOW.facts(), OTHER_SIZES.facts(), DataMatch.DIFFERENT, "the same names, but other sizes in bytes"),
        (NOW.facts(), OTHER_NAMES.facts(), DataMatch.DIFFERENT, "names or classes of the files are not the same"),
        ({"fingerprint": NOW.names}, NOW.facts(), DataMatch.SAME_NAMES, "sizes were not recorded then"),
        ({"fingerprint": NOW.names}, OTHER_SIZES.facts(), DataMatch.SAME_NAMES, "compared by name only"),
        ({"fingerprint": NOW.names}, OTHER_NAMES.facts(), DataMatch.DIFFERENT, "names or classes"),
        ({"fingerprint": NOW.names}, {"fingerprint": NOW.names}, DataMatch.SAME, ""),
        (NOW.facts(), {"fingerprint": NOW.names, "names": NOW.names}, DataMatch.SAME_NAMES, "not kept in today's pack"),
        (NOW.facts(), NOW.kept_as(KEPT).facts(), DataMatch.DIFFERENT, f"stored as they are then and as {KEPT} now"),
        (NOW.kept_as(KEPT).facts(), NOW.kept_as(KEPT).facts(), DataMatch.SAME, ""),
        (
            {"fingerprint": NOW.kept_as(KEPT).names},
            NOW.kept_as(KEPT).facts(),
            DataMatch.SAME_NAMES,
            "not recorded then",
        ),
        ({"fingerprint": "pixels:1"}, {"fingerprint": "pixels:1", "names": "pixels:1"}, DataMatch.SAME, ""),
        (
            {"fingerprint": "pixels:1"},
            {"fingerprint": "pixels:2", "names": "pixels:2"},
            DataMatch.DIFFERENT,
            "other pixels",
        ),
        ({"fingerprint": "pixels:1"}, NOW.facts(), DataMatch.DIFFERENT, "another kind of dataset"),
        ({}, NOW.facts(), DataMatch.DIFFERENT, "no fingerprint is recorded"),
    ],
)
def test_comparing_gives_the_agreement_and_the_reason(
    recorded: dict[str, str], now: dict[str, str], match: DataMatch, words: str
) -> None:
    compared = compare(recorded, now)
    assert compared.match is match and words in compared.why and bool(words) == bool(compared.why)


def test_a_run_without_recorded_sizes_resumes_and_one_with_other_sizes_does_not(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    """If the manifest has only names, a warning says so. If it has sizes, a resized copy of the images is refused."""
    monkeypatch.setattr(logging.getLogger("ranger21"), "propagate", True)
    place, counts = RunDirectory(tmp_path), {"classes": 2, "train_images": 3, "val_images": 2}
    place.manifest.write_text(json.dumps({"data": counts | {"fingerprint": NOW.names}, "sessions": []}))
    place.require_data(counts | OTHER_SIZES.facts())
    assert "sizes were not recorded then" in caplog.text
    place.manifest.write_text(json.dumps({"data": counts | NOW.facts(), "sessions": []}))
    with pytest.raises(UserError, match=r"are not those that .*the same names, but other sizes in bytes"):
        place.require_data(counts | OTHER_SIZES.facts())
