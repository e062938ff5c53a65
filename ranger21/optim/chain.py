"""An optimizer composed of ingredients: it checks, keeps the state and gathers; `Step` and the ingredients step."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranger21.optim.buckets import Group, Memory, buckets
from ranger21.optim.ingredients.base import is_number
from ranger21.optim.recipe import Recipe, describe, read
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors


class Chain(Optimizer):
    """An optimizer that is a list of ingredients, in order; `ranger21.optim.ingredients` lists which there are.

    A parameter without a gradient is left wholly alone: its own count of steps, which drives bias correction, the
    turn of the two moments and lookahead, does not advance. `p.grad` is never written to.

    Args:
        params: tensors, or parameter groups as in every torch optimizer. All else can be set for a group.
        lr: learning rate eta, at least 0.
        parts: of each ingredient its name, or a mapping with its name and arguments: `["agc", {"name":
            "first_moment", "beta1": 0.95}, "second_moment", {"name": "decay", "stable": "global"}, "lookahead"]`.
        weight_decay: lambda, at least 0, for the ingredients `decay` and `l2`. 0 switches them off.

    State, for each parameter: `step` (int) and tensors of the parameter's shape, dtype and memory format: `exp_avg`
    (first_moment); `exp_avg_odd` and `exp_avg_even` (pnm); `exp_avg_sq` (second_moment) and `max_exp_avg_sq` (its
    running_max); `slow` (lookahead).

    Raises:
        ValueError: an argument out of its range, an ingredient that does not exist, two that clash, naming them.
        RuntimeError: a sparse or complex gradient, at `step`.
    """

    def __init__(self, params: Iterable[Any], lr: float, parts: Iterable[Any], *, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "parts": describe(read(parts))})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, as in every torch optimizer; its arguments are checked like the constructor's."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if "parts" in group:
                group["parts"] = describe(read(group["parts"]))
            self.check(group)
        except ValueError:
            self.param_groups.pop()
            raise

    def check(self, group: Group) -> None:
        """Raise a ValueError that names the first argument of `group` which is out of its range."""
        for name in ("lr", "weight_decay"):
            self.require(group, name, is_number(group[name]) and group[name] >= 0, "a number of at least 0")
        self.recipe(group)

    def require(self, group: Group, name: str, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {name} = {group[name]!r} must be {what}.")

    def recipe(self, group: Group) -> Recipe:
        """Return the chain of a group."""
        return read(group["parts"])

    def chains(self) -> Iterator[tuple[Group, Recipe, Tensors]]:
        """Yield each group with its chain and the parameters that have a gradient."""
        for group in self.param_groups:
            yield group, self.recipe(group), [param for param in group["params"] if param.grad is not None]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. `closure`, if given, is called with gradients enabled, and what it returns is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_step()
        return loss

    def _take_step(self) -> None:
        chains = list(self.chains())
        for param in (param for _, _, params in chains for param in params):
            self.check_gradient(param)
        steps = (step for chain in chains for step in self.steps(*chain))
        wanted = {one.wants(group["weight_decay"]) for group, recipe, _ in chains for one in recipe.ingredients} - {""}
        if not wanted:
            for step in steps:
                step.observe()
                step.move()
            return
        waiting = list(steps)
        for step in waiting:
            step.observe()
        for name in wanted:
            share_mean(name, waiting)
        for step in waiting:
            step.move()

    def steps(self, group: Group, recipe: Recipe, params: Tensors) -> Iterator[Step]:
        """Yield steps of parameters that can go together; their counts are set forward."""
        memory = self.__dict__.setdefault("_memory", Memory())  # neither copied nor saved with the optimizer
        for param in params:
            self.prepare(param, recipe)
        for some in buckets(params, self.state, True):
            states = [self.state[param] for param in some]
            yield Step(
                recipe,
                some,
                [param.grad for param in some if param.grad is not None],
                {name: [state[name] for state in states] for name in recipe.keeps},
                t=states[0]["step"],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                spares=[] if recipe.keeps_gradient else memory.spares(some),
            )

    def prepare(self, param: Tensor, recipe: Recipe) -> None:
        """Set the count of a parameter's steps forward, and make its state where it is not there."""
        state = self.state[param]
        for name, ingredient in recipe.keeps.items():
            if name not in state:
                state[name] = ingredient.start(name, param)
        state["step"] = state.get("step", 0) + 1

    def check_gradient(self, param: Tensor) -> None:
        """Raise a RuntimeError if the gradient is one that the ingredients are not defined for."""
        name = type(self).__name__
        if param.grad is not None and param.grad.layout != torch.strided:
            raise RuntimeError(f"{name} does not support sparse gradients; use a dense layer (sparse=False).")
        if torch.is_complex(param):
            raise RuntimeError(f"{name} does not support complex parameters; optimize torch.view_as_real of them.")


def share_mean(name: str, steps: list[Step]) -> None:
    """Give every step the mean of something over the parameters of all steps."""
    found = [one.adds(step) for step in steps for one in step.recipe.ingredients]
    parts = [adds[name] for adds in found if name in adds]
    if not parts:
        return
    device = steps[0].params[0].device
    totals = [total.to(device) for total, _ in parts]
    mean = sum(totals, torch.zeros((), device=device)) / max(1, sum(count for _, count in parts))
    for step in steps:
        step.whole[name] = mean.to(step.params[0].device)
