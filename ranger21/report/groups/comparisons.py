"""Split runs into comparisons: runs that share a recipe (model, data, training) and differ in how they optimize."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ranger21.data.identity import NAMES as NAMES_ALONE
from ranger21.data.identity import DataMatch, compare
from ranger21.report.groups.grouping import IGNORED, UNSET, Group, beneath, canonical, group_runs, show
from ranger21.report.groups.summary import GroupSummary, summarise
from ranger21.report.runs.run import RecordedRun
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, one_line

RECIPE = ("model", "data", "trainer")  # dotted prefixes of the settings that all runs of a comparison share
DATA = "data.fingerprint"  # the key of the images' fingerprint, from the manifest, within a recipe
PHRASES = 4  # the most differences that a title or a sentence lists
NAMES = ("model.name", "data.name")


@dataclass(frozen=True)
class GroupComparison:
    """Groups of runs that share a recipe.

    Attributes:
        title: the name shown to readers.
        slug: the name of its folder and files.
    """

    title: str
    slug: str
    recipe: dict[str, Any]
    groups: list[Group]

    @cached_property
    def rows(self) -> list[GroupSummary]:
        """The summary of each group, best final top-1 first."""
        return summarise(self.groups)

    @property
    def runs(self) -> list[RecordedRun]:
        """Every run of every group."""
        return [run for group in self.groups for run in group.runs]


def compare_like_with_like(
    runs: Iterable[RecordedRun], across: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> list[GroupComparison]:
    """Return one comparison for each recipe, sorted by title.

    Args:
        across: dotted prefixes of recipe settings that may differ within a comparison.
        names: see `group_runs`.

    Raises:
        UserError: no run has a setting named in `across`.
    """
    runs = list(runs)
    _refuse_unknown(across, runs)
    fingerprints = _fingerprints(runs, across)
    members: dict[str, list[RecordedRun]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for run in runs:
        recipe = _recipe(run, across) | fingerprints.get(str(run.path), {})
        mark = json.dumps({key: canonical(value) for key, value in recipe.items()}, sort_keys=True)
        members.setdefault(mark, []).append(run)
        recipes[mark] = recipe
    titles = {mark: _title(recipe, list(recipes.values())) for mark, recipe in recipes.items()}
    for mark, title in list(titles.items()):  # a title lists only some of the differences, so two can be equal
        if [_slug(other) for other in titles.values()].count(_slug(title)) > 1:
            titles[mark] = f"{title} {hashlib.sha256(mark.encode()).hexdigest()[:6]}"
    comparisons = [
        GroupComparison(titles[mark], _slug(titles[mark]), recipes[mark], group_runs(members[mark], names))
        for mark in members
    ]
    return sorted(comparisons, key=lambda comparison: comparison.title)


def separation(comparisons: Sequence[GroupComparison]) -> str | None:
    """Return a sentence that says why some runs are not compared with each other; None if all are."""
    if len(comparisons) < 2:
        return None
    differing = _differing([comparison.recipe for comparison in comparisons])
    return (
        f"{len(comparisons)} separate comparisons, because these runs differ in model, data or training settings: "
        f"{first_few([one_line(key) for key in differing], PHRASES)}. To compare across such a setting, add --across "
        f"{one_line(differing[0])}."
    )


def _refuse_unknown(across: Sequence[str], runs: Sequence[RecordedRun]) -> None:
    recipes = [_recipe(run, ()) | ({DATA: run.images} if run.images else {}) for run in runs]
    for wanted in across:
        if not any(beneath(key, (wanted,)) for recipe in recipes for key in recipe):
            raise UserError(
                f"--across {wanted}: no run has a setting of this name in {', '.join(RECIPE)} that changes a result. "
                f"Settings that differ between the runs: {first_few(_differing(recipes), PHRASES) or 'none'}."
            )


def _recipe(run: RecordedRun, across: Sequence[str]) -> dict[str, Any]:
    """Return the settings that a run must share with the runs it is compared with."""
    return {
        key: value
        for key, value in run.config.items()
        if beneath(key, RECIPE) and not beneath(key, IGNORED) and not beneath(key, across)
    }


def _fingerprints(runs: Sequence[RecordedRun], across: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the fingerprint of each run's images, by path, where runs with equal settings have different ones.

    Runs without a fingerprint are not in it: they stay with the runs that have the same settings.
    """
    if beneath(DATA, across):
        return {}
    alike: dict[str, list[RecordedRun]] = {}
    for run in runs:
        data = {key: canonical(value) for key, value in _recipe(run, across).items() if key.startswith("data.")}
        alike.setdefault(json.dumps(data, sort_keys=True), []).append(run)
    found: dict[str, dict[str, Any]] = {}
    for same_settings in alike.values():
        marks = _marks(same_settings)
        if len(set(marks.values())) > 1:
            found |= {path: {DATA: mark} for path, mark in marks.items()}
    return found


def _marks(runs: Sequence[RecordedRun]) -> dict[str, str]:
    """Return what identifies each run's images, by path, for the runs that record it.

    Old runs record the names of the images but not their sizes. They are matched to the only set of images with these
    names; if there is none, or several, the names alone identify them.
    """
    told = {str(run.path): run for run in runs if run.images}
    sized = {run.images: run.data for run in told.values() if run.images and not run.images.startswith(NAMES_ALONE)}
    marks = {}
    for path, run in told.items():
        same = [mark for mark, data in sized.items() if compare(run.data, data).match is DataMatch.SAME_NAMES]
        marks[path] = same[0] if len(same) == 1 and str(run.images).startswith(NAMES_ALONE) else str(run.images)
    return marks


def _differing(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings whose values differ, the names of the model and of the dataset first."""
    keys = {key for recipe in recipes for key in recipe}
    values = {key: {json.dumps(canonical(recipe.get(key, UNSET))) for recipe in recipes} for key in keys}
    return sorted((key for key in keys if len(values[key]) > 1), key=lambda key: (key not in NAMES, key))


def _title(recipe: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> str:
    """Return a title such as `resnet50 without batch norm on imagenet`, with what distinguishes similar recipes."""
    norms = " without batch norm" if recipe.get("model.remove_batch_norm") else ""
    name = f"{show(recipe.get('model.name', 'any model'))}{norms} on {show(recipe.get('data.name', 'any data'))}"
    alike = [other for other in recipes if all(other.get(key) == recipe.get(key) for key in NAMES)]
    told = [key for key in _differing(alike) if key not in (*NAMES, "model.remove_batch_norm")]
    phrases = [f"{one_line(key)}={_short(recipe.get(key, UNSET))}" for key in told[:PHRASES]]
    phrases += [f"{len(told) - PHRASES} more settings"] if len(told) > PHRASES else []
    return f"{name} ({', '.join(phrases)})" if phrases else name


def _short(value: Any) -> str:
    """Return a value for a title; long values, such as fingerprints, are truncated."""
    text = show(value)
    return text if len(text) <= 24 else f"{text[:20]}…"


def _slug(title: str) -> str:
    """Turn a title into a file name."""
    slug = re.sub(r"[^a-z0-9.=]+", "-", title.lower()).strip("-")
    return slug if len(slug) <= 160 else f"{slug[:150]}-{hashlib.sha256(title.encode()).hexdigest()[:6]}"
