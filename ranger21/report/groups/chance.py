"""Chance accuracy, which is what a failed run counts as."""

from __future__ import annotations

from ranger21.data.datasets import DATASETS
from ranger21.report.runs.run import RecordedRun, finite


def chance(run: RecordedRun) -> float | None:
    """Return the top-1 accuracy of random guessing, in per cent; None if the number of classes is unknown."""
    whole = run.config.get("data.classes") is None
    dataset = DATASETS.get(str(run.config.get("data.name")))
    classes = data_count(run, "classes") or (dataset.known_classes if dataset and whole else None)
    return 100 / classes if classes and classes > 1 else None


def data_count(run: RecordedRun, name: str) -> int | None:
    """Return a count from the manifest's data entry, such as `classes`; None if it is missing or not positive."""
    value = run.data.get(name)
    return value if finite(value) and isinstance(value, int) and value > 0 else None
