"""Means over all parameters of an optimizer, computed across its steps."""

import functools
from collections.abc import Iterable

import torch

from ranger21.optim.buckets import Group
from ranger21.optim.fused.step import FusedStep
from ranger21.optim.recipe import Recipe
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, is_plain, whole


def wanted_means(chains: Iterable[tuple[Group, Recipe, Tensors]]) -> set[str]:
    """Return the names of the means over all parameters that the ingredients need."""
    return {one.wants(group["weight_decay"]) for group, recipe, _ in chains for one in recipe.ingredients} - {""}


def observe_all(steps: list[Step | FusedStep], wanted: set[str]) -> list[Step | FusedStep]:
    """Update the moments of all steps, then give the steps the wanted means over all parameters."""
    for step in steps:
        step.observe()
    for name in wanted:
        share_mean(name, steps)
    return steps


def share_mean(name: str, steps: list[Step | FusedStep]) -> None:
    """Set `step.whole[name]` to the mean over the parameters of all steps that add to it."""
    pairs = [(step, step.adds()) for step in steps]
    found = [(step, *adds[name]) for step, adds in pairs if name in adds]
    if not found:
        return
    device = steps[0].params[0].device
    totals = [whole(total).to(device) for _, total, _ in found]
    mean = functools.reduce(torch.add, totals) / max(1, sum(count for *_, count in found))
    for step, total, _ in found:
        mine = mean.to(step.params[0].device)
        step.whole[name] = mine if is_plain(total) else torch.zeros_like(total) + mine
