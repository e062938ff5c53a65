"""Lookahead as a wrapper of any optimizer. A `Chain` uses the ingredient `lookahead` instead."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.lookahead import LookaheadMerge, merge_
from ranger21.optim.switches import require_no_capture

Hook = Callable[..., Any]


class Lookahead(Optimizer):
    """Wrap an optimizer with Lookahead (Zhang et al. 2019; Ranger21 section 2.9, Algorithm 3).

    After every `k` steps of a parameter theta, its slow weights l are merged: l <- beta l + (1 - beta) theta, then
    theta <- l. The slow weights start at the parameter's value before its first step. (In timm's Lookahead they start
    at the first merge, which therefore has no effect.)

    Counts and slow weights are stored in the inner optimizer's state as `lookahead_step` and `slow`, so that its
    `state_dict` is complete at any step. The parameter groups are the inner optimizer's.

    Args:
        inner: The optimizer that takes the steps.
        k: Number of steps between merges, counted per parameter, at least 1.
        beta: Weight of the slow weights in a merge, in [0, 1).

    Raises:
        ValueError: If `k` or `beta` is out of range, or if `inner` already has lookahead or is LBFGS.
    """

    def __init__(self, inner: Optimizer, k: int = 5, beta: float = 0.5) -> None:
        part = LookaheadMerge(k, beta)  # checks the arguments
        has = isinstance(inner, Chain) and any("slow" in recipe.keeps for _, recipe, _ in inner.chains())
        if isinstance(inner, Lookahead) or has:
            raise ValueError(f"{type(inner).__name__} already has lookahead; it cannot be applied twice.")
        if isinstance(inner, torch.optim.LBFGS):
            raise ValueError("Lookahead cannot wrap LBFGS, whose step evaluates a closure several times.")
        self.inner, self.k, self.beta = inner, part.k, part.beta
        super().__init__(inner.param_groups, {})
        self.param_groups, self.state, self.defaults = inner.param_groups, inner.state, inner.defaults

    def __getstate__(self) -> dict[str, Any]:
        return {"inner": self.inner, "k": self.k, "beta": self.beta}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer."""
        if not any(group is param_group for group in self.inner.param_groups):  # true in __init__
            self.inner.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner optimizer's state, slow weights and counts included."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state returned by `state_dict`."""
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
        """Perform one step of the inner optimizer, then merge the parameters that are due.

        Args:
            closure: Optional function that reevaluates the model with gradients enabled and returns the loss.

        Returns:
            The value returned by `closure`, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_step()
        return loss

    @_disable_dynamo  # for the same reason as in Chain
    def _take_step(self) -> None:
        require_no_capture("use a Chain with lookahead and capturable=True to count on the device")
        params = [param for group in self.param_groups for param in group["params"] if param.grad is not None]
        slow = [self._slow(param) for param in params]
        self.inner.step()
        for param, one in zip(params, slow, strict=True):
            state = self.state[param]
            state["slow"], state["lookahead_step"] = one, state.get("lookahead_step", 0) + 1
            if state["lookahead_step"] % self.k == 0:
                merge_([param], [one], self.beta)

    def _slow(self, param: Tensor) -> Tensor:
        """Remove and return a parameter's slow weights, because the inner optimizer must not see them in its state."""
        slow = self.state[param].pop("slow", None) if param in self.state else None
        return param.detach().clone() if slow is None else slow
