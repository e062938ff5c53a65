"""An optimizer composed of ingredients. `Chain` is the torch optimizer; `Step` does the arithmetic.

Terms: `parts` describes a chain as the user writes it; a `Recipe` is the validated list of ingredients made from it; a
`Step` applies a recipe once to a list of parameters.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from ranger21.optim import fused
from ranger21.optim.buckets import Group, Memory, buckets
from ranger21.optim.fused.check import agrees_with_foreach
from ranger21.optim.fused.step import FusedStep
from ranger21.optim.ingredients.base import to_python
from ranger21.optim.means import observe_all, wanted_means
from ranger21.optim.ranges import CHAIN, LEARNING_RATE, Range
from ranger21.optim.recipe import KINDS, Recipe, describe, read
from ranger21.optim.state import count_on_host, prepare, require_state, restore, step_of
from ranger21.optim.step import Step
from ranger21.optim.switches import is_rate, misspelt, require_no_capture, why_not_whole, wrong_switch
from ranger21.optim.tensors import Tensors, has_wide_units


class Chain(Optimizer):
    """An optimizer composed of an ordered list of ingredients, which are listed in `ranger21.optim.ingredients`.

    Parameters without a gradient are skipped: their step count, which drives bias correction, the alternation of
    PNM's two moments and lookahead, does not advance. `p.grad` is never modified.

    Args:
        params: Tensors, or parameter groups as in every torch optimizer. Every other argument can be set per group.
        lr: Learning rate eta, at least 0, as a float or a one-element tensor.
        parts: The ingredients in order, each as its name or as a mapping with its name and arguments: `["agc",
            {"name": "first_moment", "beta1": 0.95}, "second_moment", {"name": "decay", "stable": "global"},
            "lookahead"]`. Or a mapping with one such list for "matrices" and one for "vectors". A matrix is a tensor
            with two or more axes whose units (all axes but the first) have more than one element; every other tensor
            is a vector.
        weight_decay: lambda, at least 0, for the ingredients `decay` and `l2`. 0 disables them.
        maximize: Whether to maximize the objective instead of minimizing it.
        foreach: Whether to process many tensors in one operation. False processes one tensor at a time, which needs
            less memory on an accelerator. None means True.
        fused: Whether to run the step as three Triton kernel launches, for float32 and half-precision tensors on a
            GPU. The chain must be Algorithm 4, possibly without some of its ingredients, as AdamW is. None means True
            where that is possible and `foreach` is None.
        capturable: Whether the step can be captured in a CUDA graph: steps are counted on the device, and tensors are
            processed one at a time.
        differentiable: Must be False, because the step works in place.
        kahan_sum: Whether to store the rounding error of bfloat16 and float16 weights (state `kahan_comp`) and to add
            it at the next step. None means True. The rest of their state is in float32 either way.

    State per parameter: `step` (int; a tensor with `capturable` or in a fused step), and the tensors named by the
    ingredients' `keeps`, such as `exp_avg`. Those have the parameter's shape and memory format, and its dtype except
    in half precision.

    Sharding: `docs/optimizers.md` lists whether an ingredient needs a whole unit, a whole tensor or all parameters.
    DTensors (`fully_shard`, tensor parallelism) meet all three. The older FullyShardedDataParallel is refused for
    these ingredients, and so is ZeroRedundancyOptimizer for those that need all parameters. With one optimizer per
    parameter, an ingredient with the scope "global" covers only that parameter.

    Raises:
        ValueError: If an argument is out of range, an ingredient does not exist, or two ingredients exclude each
            other; the message names them.
        RuntimeError: If `step` meets a sparse gradient or a complex parameter.
    """

    ranges: ClassVar[Mapping[str, Range]] = CHAIN  # the ranges of the arguments in a group

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        parts: Iterable[Any],
        *,
        weight_decay: float = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        kahan_sum: bool | None = None,
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        super().__init__(params, defaults | {"parts": describe(parts)})

    def add_param_group(self, param_group: Group) -> None:
        """Add a parameter group, as in every torch optimizer, and check its arguments like the constructor's."""
        super().add_param_group(param_group)
        try:
            self.validate_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def validate_group(self, group: Group) -> None:
        """Check a group and its parameters; convert its NumPy numbers to Python's and its `parts` to a description."""
        group |= {name: to_python(value) for name, value in group.items() if name != "params"}
        if "parts" in group:
            group["parts"] = describe(group["parts"])
        if wrong := wrong_switch(group) or misspelt(group, self.defaults):
            raise ValueError(f"{type(self).__name__}: {wrong}")
        self.check(group)
        for recipe, params in self.recipes(group):
            for one, param in itertools.product(recipe.ingredients, params):
                one.check_param(param)
                if wrong := why_not_whole(one.sees, param):
                    raise ValueError(f"{type(self).__name__}: {one.name} must see {one.sees} whole, but {wrong}.")
            if group["fused"]:
                self.is_fused(group, recipe, params, wanted_means([(group, recipe, params)]))

    def check(self, group: Group) -> None:
        """Raise a ValueError that names the first argument of `group` that is out of range."""
        self.require(group, "lr", is_rate(group["lr"]), LEARNING_RATE.words)
        for name, range in self.ranges.items():
            self.require(group, name, range.has(group[name]), range.words)

    def require(self, group: Group, name: str, condition: bool, expected: str) -> None:
        """Raise a ValueError that names the argument and the expected values unless `condition` holds."""
        if not condition:
            raise ValueError(f"{type(self).__name__}: {name} = {group[name]!r} must be {expected}.")

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield each recipe of a group with the parameters that it applies to."""
        if not isinstance(group["parts"], Mapping):
            yield read(group["parts"]), group["params"]
            return
        for kind in KINDS:
            wide = kind == "matrices"
            yield read(group["parts"][kind]), [x for x in group["params"] if has_wide_units(x) == wide]

    def chains(self) -> Iterator[tuple[Group, Recipe, Tensors]]:
        """Yield (group, recipe, parameters) for every recipe of every group."""
        for group in self.param_groups:
            group |= {name: to_python(value) for name, value in group.items() if name != "params"}  # set by schedulers
            for recipe, params in self.recipes(group):
                yield group, recipe, params

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one optimization step.

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

    @_disable_dynamo  # torch.compile would recompile for every step count; uncompiled, the step is also exact
    def _take_step(self) -> None:
        chains = list(self.chains())
        for recipe, param in ((recipe, param) for _, recipe, params in chains for param in params):
            if param.grad is not None:
                self.check_gradient(param)
                if not recipe.keeps.keys() <= self.state[param].keys():
                    require_state(self.state[param], recipe)
        wanted = wanted_means(chains)
        steps: Iterable[Step | FusedStep] = (step for chain in chains for step in self.steps(*chain, wanted))
        if wanted:
            steps = observe_all(list(steps), wanted)
        for step in steps:
            if not wanted:
                step.observe()
            step.move()

    def steps(self, group: Group, recipe: Recipe, params: Tensors, wanted: set[str]) -> Iterator[Step | FusedStep]:
        """Advance the step counts of parameters with a gradient, and yield one step per bucket of parameters.

        Args:
            wanted: Names of the means over all parameters of the optimizer that some ingredient needs.
        """
        if not group["capturable"]:
            require_no_capture("set capturable=True to count on the device")
        stepped = [param for param in params if param.grad is not None]
        scaler = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}
        fast = self.is_fused(group, recipe, stepped, wanted, any(one is not None for one in scaler.values()))
        for param in stepped:
            prepare(param, self.state[param], recipe, group, fast)
        if fast:
            kernels = self.__dict__.setdefault("_fused", fused.FusedStepBuilder())  # not part of copies or checkpoints
            known = [param for param in params if self.state.get(param)]
            states = [self.state[param] for param in known]
            yield from kernels.steps(recipe, known, states, group, "v_hat" in wanted, **scaler)
            return
        memory = self.__dict__.setdefault("_memory", Memory())  # not part of copies or checkpoints, like `_fused`
        for some in buckets(stepped, self.state, group["foreach"] is not False and not group["capturable"]):
            yield step_of(some, [self.state[param] for param in some], recipe, group, memory)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether torch's gradient scaler lets the step unscale gradients and skip itself if one is not finite."""
        chains = list(self.chains())
        wanted = wanted_means(chains)
        return all(self.is_fused(*chain, wanted, scaled=True) for chain in chains if chain[2])

    def is_fused(self, group: Group, recipe: Recipe, params: Tensors, wanted: set[str], scaled: bool = False) -> bool:
        """Return whether the parameters get the fused step: it is wanted, and it agrees with foreach on this device.

        Raises:
            ValueError: If `fused` is True and the fused step is impossible; the message says why.
        """
        shares = "v_hat" in wanted
        try:
            return fused.wanted(group, recipe, params) and agrees_with_foreach(group, recipe, params, shares, scaled)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error

    def check_gradient(self, param: Tensor) -> None:
        """Raise a RuntimeError if the gradient is sparse or the parameter complex."""
        name = type(self).__name__
        if param.grad is not None and param.grad.layout != torch.strided:
            raise RuntimeError(f"{name} does not support sparse gradients; use a dense layer (sparse=False).")
        if torch.is_complex(param):
            raise RuntimeError(f"{name} does not support complex parameters; optimize torch.view_as_real(p) instead.")

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as in every torch optimizer, with Python numbers for NumPy's and int counts of steps.

        Groups with `capturable` keep their counts as tensors.
        """
        state = super().state_dict()
        numbers = [i for group in state["param_groups"] if not group["capturable"] for i in group["params"]]
        count_on_host(state["state"], [i for i in numbers if i in state["state"]])
        state["param_groups"] = to_python(state["param_groups"])
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, as in every torch optimizer. Settings that a saved group lacks keep the constructor's values.

        Raises:
            ValueError: If the state is that of a different optimizer or model. This optimizer is then unchanged.
        """
        loaded: dict[str, Any] = {}
        hook = self.register_load_state_dict_pre_hook(lambda _, state: loaded.update(state))
        before, own = self.__getstate__(), [group["fused"] for group in self.param_groups]
        try:
            super().load_state_dict(state_dict)
            for group, choice in zip(self.param_groups, own, strict=True):
                group["fused"] = choice  # depends on this machine, not on the one that saved the state
            restore(self, loaded)
        except Exception:
            self.__setstate__(before)
            raise
        finally:
            hook.remove()
