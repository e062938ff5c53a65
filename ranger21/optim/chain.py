"""An optimizer composed of ingredients: the torch optimizer around `Step`, which does the arithmetic.

The words: `parts` is how a user writes a chain down; `Recipe` is what is read from it, the ingredients in order; `Step`
is one step of some parameters through a recipe.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from ranger21.optim import fused
from ranger21.optim.buckets import Group, Memory, buckets
from ranger21.optim.fused.check import passes
from ranger21.optim.fused.step import FusedStep
from ranger21.optim.ingredients.base import is_number, plain
from ranger21.optim.means import means, together
from ranger21.optim.recipe import KINDS, Recipe, describe, read
from ranger21.optim.state import count_on_host, prepare, require_state, restore, step_of
from ranger21.optim.step import Step
from ranger21.optim.switches import hidden, is_rate, require_no_capture, wrong_switch
from ranger21.optim.tensors import Tensors, has_wide_units


class Chain(Optimizer):
    """An optimizer that is a list of ingredients, in order; `ranger21.optim.ingredients` lists which there are.

    A parameter without a gradient is left wholly alone: its own count of steps, which drives bias correction, the
    turn of the two moments and lookahead, does not advance. `p.grad` is never written to.

    Args:
        params: tensors, or parameter groups as in every torch optimizer. All else can be set for a group.
        lr: learning rate eta, at least 0; or a tensor of one element.
        parts: of each ingredient its name, or a mapping with its name and arguments: `["agc", {"name":
            "first_moment", "beta1": 0.95}, "second_moment", {"name": "decay", "stable": "global"}, "lookahead"]`. Or
            one such list for "matrices" and one for "vectors", in a mapping: a matrix has two or more axes, and units
            (all but the first axis) of more than one element.
        weight_decay: lambda, at least 0, for the ingredients `decay` and `l2`. 0 switches them off.
        maximize: go up the gradient.
        foreach: False: one tensor at a time, which takes less memory on an accelerator. None: True, many at a time.
        fused: True: the whole step in three launches of Triton kernels, for chains that are Algorithm 4 or less of it
            (AdamW's too), of float32 and half-precision tensors on a GPU. None: where that is possible.
        capturable: count steps on the device, and one tensor at a time, so that a CUDA graph can capture the step.
        differentiable: False; the step works in place.
        kahan_sum: for weights in bfloat16 and float16, keep what rounding takes from them (`kahan_comp` of the state)
            and add it at the next step. None: True. Their other state is in float32 in any case.

    State, for each parameter: `step` (int; with `capturable` a tensor), and what the ingredients keep, by the names in
    their `keeps`, such as `exp_avg`: tensors of the parameter's shape, dtype and memory format.

    What it must see whole: `docs/optimizers.md` tells for each ingredient whether that is a unit, a tensor or all
    parameters. DTensors (fully_shard, tensor parallelism) are whole. The first FullyShardedDataParallel is refused, and
    where all parameters matter ZeroRedundancyOptimizer. An optimizer for each parameter changes what is "global".

    Raises:
        ValueError: an argument out of its range, an ingredient that does not exist, two that clash, naming them.
        RuntimeError: a sparse or complex gradient, at `step`.
    """

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
        """Add a group, as in every torch optimizer; its arguments are checked like the constructor's."""
        super().add_param_group(param_group)
        try:
            self.settle(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def settle(self, group: Group) -> None:
        """Check a group and its parameters. NumPy's numbers become Python's, and parts their description."""
        group |= {name: plain(value) for name, value in group.items() if name != "params"}
        if "parts" in group:
            group["parts"] = describe(group["parts"])
        if wrong := wrong_switch(group):
            raise ValueError(f"{type(self).__name__}: {wrong}")
        self.check(group)
        for recipe, params in self.recipes(group):
            for one, param in itertools.product(recipe.ingredients, params):
                one.check_param(param)
                if wrong := hidden(one.sees, param):
                    raise ValueError(f"{type(self).__name__}: {one.name} must see {one.sees} whole, and {wrong}.")
            if group["fused"]:
                self.is_fused(group, recipe, params, means([(group, recipe, params)]))

    def check(self, group: Group) -> None:
        """Raise a ValueError that names the first argument of `group` which is out of its range."""
        self.require(group, "lr", is_rate(group["lr"]), "a number of at least 0")
        decay = group["weight_decay"]
        self.require(group, "weight_decay", is_number(decay) and decay >= 0, "a number of at least 0")

    def require(self, group: Group, name: str, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {name} = {group[name]!r} must be {what}.")

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield the recipes of a group, each with the parameters that it is for."""
        if not isinstance(group["parts"], Mapping):
            yield read(group["parts"]), group["params"]
            return
        for kind in KINDS:
            wide = kind == "matrices"
            yield read(group["parts"][kind]), [x for x in group["params"] if has_wide_units(x) == wide]

    def chains(self) -> Iterator[tuple[Group, Recipe, Tensors]]:
        """Yield each recipe with its group and its parameters."""
        for group in self.param_groups:
            group |= {name: plain(value) for name, value in group.items() if name != "params"}  # set since `settle`
            for recipe, params in self.recipes(group):
                yield group, recipe, params

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. `closure`, if given, is called with gradients enabled, and what it returns is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_step()
        return loss

    @_disable_dynamo  # a user's torch.compile runs it uncompiled: exact, and not compiled anew for every count
    def _take_step(self) -> None:
        chains = list(self.chains())
        for recipe, param in ((recipe, param) for _, recipe, params in chains for param in params):
            if param.grad is not None:
                self.check_gradient(param)
                if not recipe.keeps.keys() <= self.state[param].keys():
                    require_state(self.state[param], recipe)
        wanted = means(chains)
        steps: Iterable[Step | FusedStep] = (step for chain in chains for step in self.steps(*chain, wanted))
        if wanted:
            steps = together(list(steps), wanted)
        for step in steps:
            if not wanted:
                step.observe()
            step.move()

    def steps(self, group: Group, recipe: Recipe, params: Tensors, wanted: set[str]) -> Iterator[Step | FusedStep]:
        """Set the counts of those that have a gradient forward, and yield the steps of those that can go together.

        Args:
            wanted: means over all parameters of the optimizer, by name, which the steps add something to.
        """
        if not group["capturable"]:
            require_no_capture("set capturable=True, which counts on the device")
        stepped = [param for param in params if param.grad is not None]
        scaler = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}
        fast = self.is_fused(group, recipe, stepped, wanted, any(one is not None for one in scaler.values()))
        for param in stepped:
            prepare(param, self.state[param], recipe, group, fast)
        if fast:
            kernels = self.__dict__.setdefault("_fused", fused.Fused())  # neither copied nor saved with the optimizer
            known = [param for param in params if self.state.get(param)]
            states = [self.state[param] for param in known]
            yield from kernels.steps(recipe, known, states, group, "v_hat" in wanted, **scaler)
            return
        memory = self.__dict__.setdefault("_memory", Memory())  # as `_fused`
        for some in buckets(stepped, self.state, group["foreach"] is not False and not group["capturable"]):
            yield step_of(some, [self.state[param] for param in some], recipe, group, memory)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether torch's gradient scaler leaves it to the step to divide gradients, and to leave itself out."""
        chains = list(self.chains())
        wanted = means(chains)
        return all(self.is_fused(*chain, wanted, scaled=True) for chain in chains if chain[2])

    def is_fused(self, group: Group, recipe: Recipe, params: Tensors, wanted: set[str], scaled: bool = False) -> bool:
        """Whether the parameters have the fused step: it is wanted, and found to do here what foreach does.

        Raises:
            ValueError: it is asked for and cannot be, telling why.
        """
        try:
            return fused.wanted(group, recipe, params) and passes(group, recipe, params, "v_hat" in wanted, scaled)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error

    def check_gradient(self, param: Tensor) -> None:
        """Raise a RuntimeError if the gradient is one that the ingredients are not defined for."""
        name = type(self).__name__
        if param.grad is not None and param.grad.layout != torch.strided:
            raise RuntimeError(f"{name} does not support sparse gradients; use a dense layer (sparse=False).")
        if torch.is_complex(param):
            raise RuntimeError(f"{name} does not support complex parameters; optimize torch.view_as_real of them.")

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as in every torch optimizer, NumPy's numbers as Python's, counts of fused steps as int."""
        state = super().state_dict()
        numbers = [i for group in state["param_groups"] if not group["capturable"] for i in group["params"]]
        count_on_host(state["state"], [i for i in numbers if i in state["state"]])
        state["param_groups"] = plain(state["param_groups"])
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, as in every torch optimizer. What a group does not tell is as in the constructor.

        Raises:
            ValueError: the state of another optimizer, which this one could not go on from.
        """
        loaded: dict[str, Any] = {}
        hook = self.register_load_state_dict_pre_hook(lambda _, state: loaded.update(state))
        before, own = self.__getstate__(), [group["fused"] for group in self.param_groups]
        try:
            super().load_state_dict(state_dict)
            for group, choice in zip(self.param_groups, own, strict=True):
                group["fused"] = choice  # of this machine, and not of the one that saved
            restore(self, loaded)
        except Exception:
            self.__setstate__(before)
            raise
        finally:
            hook.remove()
