"""Which runs are the paper's: its two contestants among all groups, and its scale among all recipes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.records.directory import to_dict
from ranger21.report.groups.comparisons import DATA, RECIPE, Comparison
from ranger21.report.groups.failures import failed
from ranger21.report.groups.grouping import BROUGHT, IGNORED, Group, beneath, canonical
from ranger21.report.runs.run import DIVERGED, FINISHED, Run, flatten

OPTIMIZATION = ("optimizer", *BROUGHT)
NAMES = {"optimizer.name", "schedule.name", "model.name", "data.name"}
MODELS = ("resnet50", "nf_resnet50", "resnet50_nobn")
IMAGENET = {"classes": ImageFolderConfig.known_classes, "train_images": ImageFolderConfig.TRAIN}
NORM_FREE = ("nf_", "nfnet", "dm_nfnet", "eca_nfnet")


@dataclass(frozen=True)
class Evidence:
    """The runs of a comparison that speak to the claims, whatever their status."""

    comparison: Comparison
    at_papers_scale: bool
    ranger21: list[Run]
    adamw: list[Run]

    @property
    def has_batch_norm(self) -> bool:
        """Whether the model has, as far as its name and settings tell."""
        recipe = self.comparison.recipe
        return not (recipe.get("model.remove_batch_norm") or str(recipe.get("model.name", "")).startswith(NORM_FREE))

    def lost(self, *contestants: Sequence[Run], counted: bool = False) -> str:
        """What to add to a figure: how many runs diverged, and whether they are `counted` in it, as chance."""
        ended = [run for runs in contestants for run in runs if run.status in (FINISHED, DIVERGED)]
        diverged = sum(run.status == DIVERGED for run in ended)
        what = "count as chance" if counted else "are left out"
        return f"; {diverged} of {len(ended)} runs diverged and {what}" if diverged else ""

    def failed(self, *contestants: Sequence[Run]) -> bool:
        """Whether a run failed: to compare the rest would flatter the contestant that lost it."""
        return any(failed(run) for runs in contestants for run in runs)

    def flattered(self, runs: Sequence[Run]) -> bool:
        """Whether more than a fifth of a contestant's runs failed: then the mean of the rest says little."""
        return 4 * sum(map(failed, runs)) > sum(run.status == FINISHED for run in runs)


def evidence(comparison: Comparison) -> Evidence:
    """The paper's contestants in a comparison: exactly its settings, which are those of configs/optimizer."""
    contestants = [_contestant(comparison.groups, name) for name in ("ranger21", "adamw")]
    large = _at_papers_scale(comparison, [run for runs in contestants for run in runs])
    return Evidence(comparison, large, *contestants)


def _contestant(groups: Sequence[Group], optimizer: str) -> list[Run]:
    """The runs of the groups with a config's settings; groups of two experiments may both have them."""
    wanted = composed(f"optimizer={optimizer}", OPTIMIZATION)
    return [run for group in groups if _agree(group.settings, wanted, OPTIMIZATION) for run in group.runs]


def _at_papers_scale(comparison: Comparison, runs: Sequence[Run]) -> bool:
    """Whether the recipe is experiment=paper's with one of its models, and the images are as many as ImageNet's."""
    if not any(_agree(comparison.recipe, composed(f"model={model}", RECIPE), RECIPE) for model in MODELS):
        return False
    return bool(runs) and all(run.data.get(key) == count for run in runs for key, count in IMAGENET.items())


def _agree(settings: dict[str, Any], wanted: dict[str, Any], prefixes: Sequence[str]) -> bool:
    """Whether the settings beneath the prefixes are those wanted. What an older run does not have is left open."""
    mine = {key: value for key, value in settings.items() if beneath(key, prefixes) and key != DATA}
    return wanted.keys() & NAMES <= mine.keys() <= wanted.keys() and all(
        canonical(value) == canonical(wanted[key]) for key, value in mine.items()
    )


@functools.cache
def composed(choice: str, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """The settings beneath the prefixes that experiment=paper has with this choice."""
    whole = flatten(to_dict(compose_config([choice])))
    return {key: value for key, value in whole.items() if beneath(key, prefixes) and not beneath(key, IGNORED)}
