"""Predictions of a model per image: write them as CSV, and compare them with ReaL's labels."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.wording import defused, first_few

GUESSES = 5
REAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True)
class Answer:
    """The most probable classes of one image.

    Attributes:
        image: Index of the image in the dataset.
        label: Its true class, as a column of the logits.
        guesses: The most probable columns of the logits, in descending order.
        probabilities: Their probabilities.
    """

    image: int
    label: int
    guesses: list[int]
    probabilities: list[float]


class Answers:
    """Collect answers from the logits of one rank's batches.

    Args:
        images: Indices of the images of each batch.
    """

    def __init__(self, images: Sequence[Sequence[int]]) -> None:
        self._images = iter([batch for batch in images if batch])
        self._found: list[Answer] = []

    def __call__(self, logits: Tensor, labels: Tensor) -> None:
        probabilities, guesses = logits.softmax(dim=1).topk(min(GUESSES, logits.shape[1]), dim=1)
        rows = zip(next(self._images), labels.tolist(), guesses.tolist(), probabilities.tolist(), strict=True)
        self._found += [Answer(*row) for row in rows]

    def of_all_ranks(self, world: World) -> list[Answer]:
        """Return the answers of all ranks, sorted by image. Every rank must call this method."""
        rows = world.gather([json.dumps(list(vars(answer).values())) for answer in self._found])
        return sorted((Answer(*json.loads(row)) for row in rows), key=lambda answer: answer.image)


def write_answers(answers: Sequence[Answer], paths: Sequence[str], names: Sequence[str], target: Path) -> None:
    """Write a CSV file with the path, class, guesses and probabilities of each image.

    Args:
        answers: The answers, one row each.
        paths: Path of each image, by index.
        names: Class name of each column of the logits.
        target: The file to write.

    Raises:
        UserError: If the file cannot be written.
    """
    count = min(GUESSES, len(names))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    head = [f"{what}{n}" for what in ("top", "probability") for n in range(1, count + 1)]
    writer.writerow(["path", "class", *head])
    for answer in answers:
        guesses = [defused(names[column]) for column in answer.guesses]
        shares = [f"{value:.6f}" for value in answer.probabilities]
        writer.writerow([defused(paths[answer.image]), defused(names[answer.label]), *guesses, *shares])
    write_atomically(target, table.getvalue().encode("utf-8", "surrogateescape"))


def read_real_labels(path: Path) -> list[list[int]]:
    """Return ReaL's labels: the correct classes (0 to 999) of each ILSVRC2012 validation image, in order.

    Raises:
        UserError: If the file cannot be read or has a different format.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--real-labels={path} cannot be read ({error}).") from error
    good = isinstance(labels, list) and all(isinstance(some, list) for some in labels)
    if not good or not all(type(label) is int and 0 <= label < 1000 for some in labels for label in some):
        raise UserError(
            f"--real-labels={path} does not have the format of ReaL's real.json: a list that holds, for each image, a "
            "list of numbers from 0 to 999."
        )
    return labels


def numbers_of_images(paths: Sequence[str], labels: int) -> list[int]:
    """Return the position of each image in ReaL's list, from the number in its file name.

    Args:
        paths: Paths of the images.
        labels: Length of ReaL's list.

    Raises:
        UserError: If a name is not of the form ILSVRC2012_val_00000001, or its number is beyond the list.
    """
    found = [REAL_NAME.search(path.rpartition("/")[2]) for path in paths]
    places = [int(match.group(1)) - 1 if match else -1 for match in found]
    strange = [path for path, place in zip(paths, places, strict=True) if not 0 <= place < labels]
    if strange:
        raise UserError(
            f"--real-labels has labels for {labels} images, named ILSVRC2012_val_00000001 and so on, but not for "
            f"{first_few(strange)}."
        )
    return places


def real_accuracy(
    answers: Sequence[Answer], labels: Sequence[Sequence[int]], places: Sequence[int], indices: Sequence[int | None]
) -> dict[str, float]:
    """Return top-1 and top-5 accuracy (per cent) over the images with at least one ReaL label; any of them counts.

    Args:
        answers: The answers of the model.
        labels: ReaL's labels.
        places: Position of each image in `labels`.
        indices: ImageNet-1k class index of each column of the logits; None for other classes.

    Raises:
        UserError: If no image has a label.
    """
    top = {1: 0, GUESSES: 0}
    images = 0
    for answer in answers:
        right = set(labels[places[answer.image]])
        if not right:
            continue
        images += 1
        for count in top:
            top[count] += any(indices[column] in right for column in answer.guesses[:count])
    if not images:
        raise UserError("--real-labels has no labels for these images.")
    return {"real/acc1": 100 * top[1] / images, "real/acc5": 100 * top[GUESSES] / images, "real/images": images}
