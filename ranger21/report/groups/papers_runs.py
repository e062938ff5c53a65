"""Find the runs that test the paper's claims: its two optimizers, at the paper's scale or a smaller one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.records.directory import to_dict
from ranger21.report.groups.comparisons import DATA, RECIPE, GroupComparison
from ranger21.report.groups.failures import failed
from ranger21.report.groups.grouping import BROUGHT, IGNORED, Group, beneath, canonical
from ranger21.report.runs.run import DIVERGED, FINISHED, RecordedRun, flatten

OPTIMIZATION = ("optimizer", *BROUGHT)
NAMES = {"optimizer.name", "schedule.name", "model.name", "data.name"}
MODELS = ("resnet50", "nf_resnet50", "resnet50_nobn")
IMAGENET = {"classes": ImageFolderConfig.known_classes, "train_images": ImageFolderConfig.TRAIN}
NORM_FREE = ("nf_", "nfnet", "dm_nfnet", "eca_nfnet")


@dataclass(frozen=True)
class Evidence:
    """The runs of a comparison that test the claims, whatever their status.

    Attributes:
        at_papers_scale: whether the recipe is the paper's, on all of ImageNet.
    """

    comparison: GroupComparison
    at_papers_scale: bool
    ranger21: list[RecordedRun]
    adamw: list[RecordedRun]

    @property
    def has_batch_norm(self) -> bool:
        """Whether the model has batch norm, judged by its name and settings."""
        recipe = self.comparison.recipe
        return not (recipe.get("model.remove_batch_norm") or str(recipe.get("model.name", "")).startswith(NORM_FREE))

    def lost(self, *contestants: Sequence[RecordedRun], counted: bool = False) -> str:
        """Return a clause on how many runs diverged, and whether they are `counted` in the figure as chance."""
        ended = [run for runs in contestants for run in runs if run.status in (FINISHED, DIVERGED)]
        diverged = sum(run.status == DIVERGED for run in ended)
        what = "count as chance" if counted else "are left out"
        return f"; diverged runs ({diverged} of {len(ended)}) {what}" if diverged else ""

    def failed(self, *contestants: Sequence[RecordedRun]) -> bool:
        """Whether any run failed. If so, comparing only the others would flatter the optimizer whose run failed."""
        return any(failed(run) for runs in contestants for run in runs)

    def flattered(self, runs: Sequence[RecordedRun]) -> bool:
        """Whether more than a fifth of an optimizer's runs failed, so that the mean of the others says little."""
        return 4 * sum(map(failed, runs)) > sum(run.status == FINISHED for run in runs)


def evidence(comparison: GroupComparison) -> Evidence:
    """Find the runs of the paper's two optimizers, with exactly the settings in configs/optimizer."""
    contestants = [_contestant(comparison.groups, name) for name in ("ranger21", "adamw")]
    large = _at_papers_scale(comparison, [run for runs in contestants for run in runs])
    return Evidence(comparison, large, *contestants)


def _contestant(groups: Sequence[Group], optimizer: str) -> list[RecordedRun]:
    """Return the runs of all groups that have an optimizer's default settings."""
    wanted = composed(f"optimizer={optimizer}", OPTIMIZATION)
    return [run for group in groups if _agree(group.settings, wanted, OPTIMIZATION) for run in group.runs]


def _at_papers_scale(comparison: GroupComparison, runs: Sequence[RecordedRun]) -> bool:
    """Whether the recipe is that of experiment=paper with one of its models, on as many images as ImageNet has."""
    if not any(_agree(comparison.recipe, composed(f"model={model}", RECIPE), RECIPE) for model in MODELS):
        return False
    return bool(runs) and all(run.data.get(key) == count for run in runs for key, count in IMAGENET.items())


def _agree(settings: dict[str, Any], wanted: dict[str, Any], prefixes: Sequence[str]) -> bool:
    """Whether the settings under the prefixes are those wanted. Settings that an older run lacks are not compared."""
    mine = {key: value for key, value in settings.items() if beneath(key, prefixes) and key != DATA}
    return wanted.keys() & NAMES <= mine.keys() <= wanted.keys() and all(
        canonical(value) == canonical(wanted[key]) for key, value in mine.items()
    )


@functools.cache
def composed(choice: str, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings under the prefixes that experiment=paper has with this choice."""
    whole = flatten(to_dict(compose_config([choice])))
    return {key: value for key, value in whole.items() if beneath(key, prefixes) and not beneath(key, IGNORED)}
