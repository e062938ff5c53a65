"""The accuracy of guessing, of which a run that failed is no better."""

from __future__ import annotations

from ranger21.data.datasets import DATASETS
from ranger21.report.runs.run import Run, finite


def chance(run: Run) -> float | None:
    """The top-1 of guessing a class, in per cent; None where the count of classes is not known."""
    whole = run.config.get("data.classes") is None
    dataset = DATASETS.get(str(run.config.get("data.name")))
    classes = count(run, "classes") or (dataset.known_classes if dataset and whole else None)
    return 100 / classes if classes and classes > 1 else None


def count(run: Run, name: str) -> int | None:
    """A count of the manifest's about the data."""
    value = run.data.get(name)
    return value if finite(value) and isinstance(value, int) and value > 0 else None
