"""Selection of the images of a run: subsets of each split, and the holdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.layout import common_classes
from ranger21.data.subset import choose_holdout, choose_images
from ranger21.tracking.splits import HOLDOUT

if TYPE_CHECKING:
    from ranger21.data.index import Index

Chosen = dict[str, tuple[np.ndarray, list[int]]]  # the indices of the images and the labels of the classes, by split


def choose(config: ImageFolderConfig, indices: dict[str, Index], place: str) -> Chosen | None:
    """Return the selected images and classes of `train`, `val` and `holdout` (if any), or None if all are selected.

    Indices of the holdout refer to `train`. It is selected from all training images of the chosen classes, so it does
    not depend on `data.fraction`.

    Args:
        config: The settings.
        indices: Indices of the images of `train` and `val`.
        place: Location of the images, for messages.
    """
    if config.classes is None and config.fraction == 1 and not config.holdout:
        return None
    train, val = indices["train"], indices["val"]
    names = common_classes(train.classes, val.classes, config.classes, place)
    of_train, of_val = ([index.classes.index(name) for name in names] for index in (train, val))
    chosen: Chosen = {"val": (choose_images(val, of_val, 1.0), of_val)}
    held = None
    if config.holdout:
        by_label = dict(zip(of_train, names, strict=True))
        held = choose_holdout(train.labels, train.all_paths(), by_label, config.holdout)
        chosen[HOLDOUT] = held, of_train
    return {"train": (choose_images(train, of_train, config.fraction, held), of_train)} | chosen


def choose_of_array(labels: np.ndarray, classes: Sequence[str], holdout: int, most: int) -> dict[str, np.ndarray]:
    """Select the holdout and at most `most` other training images of an array."""
    held = choose_holdout(labels, names_of_array(np.arange(len(labels))), dict(enumerate(classes)), holdout)
    rest = np.setdiff1d(np.arange(len(labels)), held, assume_unique=True)
    return {"train": rest[:most], HOLDOUT: held}


def names_of_array(numbers: np.ndarray) -> list[bytes]:
    """Return names for the training images of an array, from their positions."""
    return [b"train/%d" % number for number in numbers.tolist()]
