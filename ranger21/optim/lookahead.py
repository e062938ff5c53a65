"""Lookahead around any optimizer. A chain has it as a part of its own."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.lookahead import Lookahead as Ingredient
from ranger21.optim.ingredients.lookahead import merge_


class Lookahead(Optimizer):
    """Every `k` steps of a parameter: l <- beta l + (1 - beta) theta, theta <- l (Zhang et al. 2019).

    l starts at the parameter's value before its first step. (In timm's Lookahead it starts at the first merge, which
    therefore does nothing.) The counts and the slow weights live in the inner optimizer's state, as `lookahead_step`
    and `slow`, so that its `state_dict` is whole at any step. Groups, schedulers and gradient scalers see the inner
    optimizer's groups.

    Args:
        inner: the optimizer that takes the steps.
        k: steps between two merges, counted for each parameter, at least 1.
        beta: weight of the slow weights in a merge, in [0, 1).

    Raises:
        ValueError: `k` or `beta` out of its range; an inner optimizer that has lookahead already.
    """

    def __init__(self, inner: Optimizer, k: int = 5, beta: float = 0.5) -> None:
        part = Ingredient(k, beta)  # checks them
        chains = [inner.recipe(group) for group in inner.param_groups] if isinstance(inner, Chain) else []
        if isinstance(inner, Lookahead) or any("slow" in recipe.keeps for recipe in chains):
            raise ValueError(f"{type(inner).__name__} has lookahead already: there can be one only.")
        self.inner, self.k, self.beta = inner, part.k, part.beta
        super().__init__(inner.param_groups, {})
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner, "k": self.k, "beta": self.beta}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the inner optimizer."""
        if not any(group is param_group for group in self.inner.param_groups):  # theirs, while this is made
            self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's, slow weights and counts included."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The inner optimizer's step, and a merge for the parameters whose turn it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [param for group in self.param_groups for param in group["params"] if param.grad is not None]
        first = {param: param.detach().clone() for param in params if "slow" not in self.state[param]}
        self.inner.step()
        for param in params:
            state = self.state[param]
            if param in first:  # now that the inner optimizer has made its own
                state["slow"], state["lookahead_step"] = first[param], 0
            state["lookahead_step"] += 1
            if state["lookahead_step"] % self.k == 0:
                merge_([param], [state["slow"]], self.beta)
        return loss
