"""Lookahead around any optimizer. For a `Chain` it is an ingredient, `ingredients.lookahead`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.lookahead import Lookahead as Ingredient
from ranger21.optim.ingredients.lookahead import merge_
from ranger21.optim.switches import require_no_capture

Hook = Callable[..., Any]


class Lookahead(Optimizer):
    """Lookahead around another optimizer (Zhang et al. 2019; Ranger21 section 2.9, Algorithm 3).

    Every `k` steps of a parameter: l <- beta l + (1 - beta) theta; theta <- l. l starts at the parameter's value before
    its first step. (In timm's Lookahead it starts at the first merge, which therefore does nothing.)

    The counts and the slow weights live in the inner optimizer's state, as `lookahead_step` and `slow`, so that its
    `state_dict` is whole at any step. Groups, schedulers and gradient scalers see the inner optimizer's groups.

    Args:
        inner: the optimizer that takes the steps.
        k: steps between two merges, counted for each parameter, at least 1.
        beta: weight of the slow weights in a merge, in [0, 1).

    Raises:
        ValueError: `k` or `beta` out of its range; an inner optimizer that has lookahead already, or is LBFGS.
    """

    def __init__(self, inner: Optimizer, k: int = 5, beta: float = 0.5) -> None:
        part = Ingredient(k, beta)  # checks them
        has = isinstance(inner, Chain) and any("slow" in recipe.keeps for _, recipe, _ in inner.chains())
        if isinstance(inner, Lookahead) or has:
            raise ValueError(f"{type(inner).__name__} has lookahead already: there can be one only.")
        if isinstance(inner, torch.optim.LBFGS):
            raise ValueError("LBFGS calls a closure for many gradients in a step: Lookahead cannot be put around it.")
        self.inner, self.k, self.beta = inner, part.k, part.beta
        super().__init__(inner.param_groups, {})
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner, "k": self.k, "beta": self.beta}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer."""
        if not any(group is param_group for group in self.inner.param_groups):  # theirs, while this is made
            self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state, slow weights and counts included."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned."""
        self.inner.load_state_dict(state_dict)
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> Any:
        """Register a hook, as in every torch optimizer. It is called with this optimizer, not the inner one."""
        return self.inner.register_state_dict_pre_hook(self._as_own(hook), prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> Any:
        """Register a hook, as in every torch optimizer. It is called with this optimizer, not the inner one."""
        return self.inner.register_state_dict_post_hook(self._as_own(hook), prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> Any:
        """Register a hook, as in every torch optimizer. It is called with this optimizer, not the inner one."""
        return self.inner.register_load_state_dict_pre_hook(self._as_own(hook), prepend)

    def register_load_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> Any:
        """Register a hook, as in every torch optimizer. It is called with this optimizer, not the inner one."""
        return self.inner.register_load_state_dict_post_hook(self._as_own(hook), prepend)

    def _as_own(self, hook: Hook) -> Hook:
        return lambda _, *state: hook(self, *state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take the inner optimizer's step, and merge the parameters whose turn it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_step()
        return loss

    @_disable_dynamo  # as in Chain
    def _take_step(self) -> None:
        require_no_capture("use a Chain with lookahead and capturable=True, which counts on the device")
        params = [param for group in self.param_groups for param in group["params"] if param.grad is not None]
        slow = [self._slow(param) for param in params]
        self.inner.step()
        for param, one in zip(params, slow, strict=True):
            state = self.state[param]
            state["slow"], state["lookahead_step"] = one, state.get("lookahead_step", 0) + 1
            if state["lookahead_step"] % self.k == 0:
                merge_([param], [one], self.beta)

    def _slow(self, param: Tensor) -> Tensor:
        """Take a parameter's slow weights out of the state, where the inner optimizer must not find them."""
        slow = self.state[param].pop("slow", None) if param in self.state else None
        return param.detach().clone() if slow is None else slow
