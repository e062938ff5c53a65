"""What a model answered, image by image: written as a table, and compared with several right labels an image."""

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
    """The first few guesses for one image: columns of the logits, the most probable first, and their probabilities."""

    image: int
    label: int
    guesses: list[int]
    probabilities: list[float]


class Answers:
    """Collects answers from the logits of one rank's batches. `images`: the numbers of each batch's images."""

    def __init__(self, images: Sequence[Sequence[int]]) -> None:
        self._images = iter([batch for batch in images if batch])
        self._found: list[Answer] = []

    def __call__(self, logits: Tensor, labels: Tensor) -> None:
        probabilities, guesses = logits.softmax(dim=1).topk(min(GUESSES, logits.shape[1]), dim=1)
        rows = zip(next(self._images), labels.tolist(), guesses.tolist(), probabilities.tolist(), strict=True)
        self._found += [Answer(*row) for row in rows]

    def of_all_ranks(self, world: World) -> list[Answer]:
        """Every image's answer, by its number. All ranks call it."""
        rows = world.gather([json.dumps(list(vars(answer).values())) for answer in self._found])
        return sorted((Answer(*json.loads(row)) for row in rows), key=lambda answer: answer.image)


def write_answers(answers: Sequence[Answer], paths: Sequence[str], names: Sequence[str], target: Path) -> None:
    """One line of CSV an image: its path, its class, the guesses and their probabilities.

    `paths`: by the number of the image; `names`: of the columns of the logits. Raises a UserError if the file cannot be
    written.
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
    """ReaL's labels: for each image of ILSVRC2012's validation set, in order, its right classes, from 0 to 999."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--real-labels={path} cannot be read ({error}).") from error
    good = isinstance(labels, list) and all(isinstance(some, list) for some in labels)
    if not good or not all(type(label) is int and 0 <= label < 1000 for some in labels for label in some):
        raise UserError(
            f"--real-labels={path} is not as ReaL's real.json: a list with a list of numbers from 0 to 999 for each "
            "image."
        )
    return labels


def numbers_of_images(paths: Sequence[str], labels: int) -> list[int]:
    """The place of every image in ReaL's list, by the number in its name. Raises a UserError for any other name."""
    found = [REAL_NAME.search(path.rpartition("/")[2]) for path in paths]
    places = [int(match.group(1)) - 1 if match else -1 for match in found]
    strange = [path for path, place in zip(paths, places, strict=True) if not 0 <= place < labels]
    if strange:
        raise UserError(
            f"--real-labels knows {labels} images by their names, ILSVRC2012_val_00000001 and so on, and not "
            f"{first_few(strange)}."
        )
    return places


def real_accuracy(
    answers: Sequence[Answer], labels: Sequence[Sequence[int]], places: Sequence[int], indices: Sequence[int | None]
) -> dict[str, float]:
    """Top-1 and top-5 (per cent) where any of the right labels counts, over the images that have one.

    `indices`: of every column of the logits, its class's number in ImageNet-1k; None: it is none of them.
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
        raise UserError("--real-labels has no label for any of these images.")
    return {"real/acc1": 100 * top[1] / images, "real/acc5": 100 * top[GUESSES] / images, "real/images": images}
