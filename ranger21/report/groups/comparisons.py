"""Which runs belong together: those of one recipe (model, data, length), differing in how they are optimized."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ranger21.data.identity import NAMES as NAMES_ALONE
from ranger21.data.identity import Agreement, compare
from ranger21.report.groups.grouping import IGNORED, UNSET, Group, beneath, canonical, group_runs, show
from ranger21.report.groups.summary import Row, summarise
from ranger21.report.runs.run import Run
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, one_line

RECIPE = ("model", "data", "trainer")  # dotted prefixes of settings that all runs of a comparison share
DATA = "data.fingerprint"  # what the manifest says of the images, beside the settings
PHRASES = 4  # differences that a title tells before it says how many more there are
NAMES = ("model.name", "data.name")


@dataclass(frozen=True)
class Comparison:
    """Groups of runs that share a recipe. `title` is for people, `slug` for file names."""

    title: str
    slug: str
    recipe: dict[str, Any]
    groups: list[Group]

    @cached_property
    def rows(self) -> list[Row]:
        """Each group's figures."""
        return summarise(self.groups)

    @property
    def runs(self) -> list[Run]:
        """Every run of every group."""
        return [run for group in self.groups for run in group.runs]


def compare_like_with_like(runs: Iterable[Run], across: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each recipe, in order of their titles.

    Args:
        across: dotted prefixes of settings of the recipe that may differ within a comparison. Raises a UserError for
            one that no run has.
    """
    runs = list(runs)
    _refuse_unknown(across, runs)
    fingerprints = _fingerprints(runs, across)
    members: dict[str, list[Run]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for run in runs:
        recipe = _recipe(run, across) | fingerprints.get(str(run.path), {})
        mark = json.dumps({key: canonical(value) for key, value in recipe.items()}, sort_keys=True)
        members.setdefault(mark, []).append(run)
        recipes[mark] = recipe
    titles = {mark: _title(recipe, list(recipes.values())) for mark, recipe in recipes.items()}
    for mark, title in list(titles.items()):  # with more differences than a title tells
        if [_slug(other) for other in titles.values()].count(_slug(title)) > 1:
            titles[mark] = f"{title} {hashlib.sha256(mark.encode()).hexdigest()[:6]}"
    comparisons = [
        Comparison(titles[mark], _slug(titles[mark]), recipes[mark], group_runs(members[mark])) for mark in members
    ]
    return sorted(comparisons, key=lambda comparison: comparison.title)


def separation(comparisons: Sequence[Comparison]) -> str | None:
    """The sentence that says why runs are not compared with each other; None if they all are."""
    if len(comparisons) < 2:
        return None
    differing = _differing([comparison.recipe for comparison in comparisons])
    return (
        f"{len(comparisons)} comparisons, as runs of different recipes do not belong together: they differ in "
        f"{first_few([one_line(key) for key in differing], PHRASES)}. To compare across one of these: --across "
        f"{one_line(differing[0])}."
    )


def _refuse_unknown(across: Sequence[str], runs: Sequence[Run]) -> None:
    recipes = [_recipe(run, ()) | ({DATA: run.images} if run.images else {}) for run in runs]
    for wanted in across:
        if not any(beneath(key, (wanted,)) for recipe in recipes for key in recipe):
            raise UserError(
                f"--across {wanted} is not possible: no run has such a setting of {', '.join(RECIPE)} that changes a "
                f"result; the runs differ in {first_few(_differing(recipes), PHRASES) or 'none at all'}."
            )


def _recipe(run: Run, across: Sequence[str]) -> dict[str, Any]:
    """The settings that a run shares with those that it is compared with."""
    return {
        key: value
        for key, value in run.config.items()
        if beneath(key, RECIPE) and not beneath(key, IGNORED) and not beneath(key, across)
    }


def _fingerprints(runs: Sequence[Run], across: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The images' fingerprint of each run, by its path, where runs with the same settings have different ones.

    A run without one goes with those of its settings.
    """
    if beneath(DATA, across):
        return {}
    alike: dict[str, list[Run]] = {}
    for run in runs:
        data = {key: canonical(value) for key, value in _recipe(run, across).items() if key.startswith("data.")}
        alike.setdefault(json.dumps(data, sort_keys=True), []).append(run)
    found: dict[str, dict[str, Any]] = {}
    for same_settings in alike.values():
        marks = _marks(same_settings)
        if len(set(marks.values())) > 1:
            found |= {path: {DATA: mark} for path, mark in marks.items()}
    return found


def _marks(runs: Sequence[Run]) -> dict[str, str]:
    """By its path what identifies each run's images, of those that tell it.

    Where the names alone are recorded, as they were before sizes were, it is the one recorded set with these names;
    the names themselves where there is none, or several.
    """
    told = {str(run.path): run for run in runs if run.images}
    sized = {run.images: run.data for run in told.values() if run.images and not run.images.startswith(NAMES_ALONE)}
    marks = {}
    for path, run in told.items():
        same = [mark for mark, data in sized.items() if compare(run.data, data).agreement is Agreement.SAME_NAMES]
        marks[path] = same[0] if len(same) == 1 and str(run.images).startswith(NAMES_ALONE) else str(run.images)
    return marks


def _differing(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings whose values differ, the names of model and data first."""
    keys = {key for recipe in recipes for key in recipe}
    values = {key: {json.dumps(canonical(recipe.get(key, UNSET))) for recipe in recipes} for key in keys}
    return sorted((key for key in keys if len(values[key]) > 1), key=lambda key: (key not in NAMES, key))


def _title(recipe: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> str:
    """`resnet50 without batch norm on imagenet`, and what else sets it apart from the other recipes of its data set."""
    norms = " without batch norm" if recipe.get("model.remove_batch_norm") else ""
    name = f"{show(recipe.get('model.name', 'any model'))}{norms} on {show(recipe.get('data.name', 'any data'))}"
    alike = [other for other in recipes if all(other.get(key) == recipe.get(key) for key in NAMES)]
    told = [key for key in _differing(alike) if key not in (*NAMES, "model.remove_batch_norm")]
    phrases = [f"{one_line(key)}={_short(recipe.get(key, UNSET))}" for key in told[:PHRASES]]
    phrases += [f"{len(told) - PHRASES} more settings"] if len(told) > PHRASES else []
    return f"{name} ({', '.join(phrases)})" if phrases else name


def _short(value: Any) -> str:
    """A value, a fingerprint cut to what tells it apart."""
    text = show(value)
    return text if len(text) <= 24 else f"{text[:20]}…"


def _slug(title: str) -> str:
    """A title as a file name."""
    slug = re.sub(r"[^a-z0-9.=]+", "-", title.lower()).strip("-")
    return slug if len(slug) <= 160 else f"{slug[:150]}-{hashlib.sha256(title.encode()).hexdigest()[:6]}"
