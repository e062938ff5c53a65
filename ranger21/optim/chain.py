"""An optimizer composed of parts: it checks, allocates and gathers; the arithmetic is in `core` and `components`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranger21.optim import components as c
from ranger21.optim import parts as p
from ranger21.optim.buckets import COMPILED_FROM, ELEMENTS, Bucket, Group, Memory, buffers
from ranger21.optim.parts import Part


class Chain(Optimizer):
    """An optimizer that is a list of parts, in order; `ranger21.optim.parts` tells which there are.

    A parameter without a gradient is left wholly alone: its own count of steps, which drives bias correction, the
    turn of the two moments and lookahead, does not advance. `p.grad` is never written to.

    Args:
        params: tensors, or parameter groups as in every torch optimizer. All else can be set for a group.
        lr: learning rate eta, at least 0.
        parts: of each part its name, or a mapping with its name and arguments: `["agc", {"name": "first_moment",
            "beta1": 0.95}, "second_moment", {"name": "decay", "stable": "global"}, "lookahead"]`.
        weight_decay: lambda, at least 0, for the parts `decay` and `l2`. 0 switches them off.
        compile: compile the step with torch.compile, for the tensors that are large enough to gain by it. Takes
            seconds, once; needs a C++ compiler on the CPU. Up to rounding it is the step as it is.

    State, for each parameter: `step` (int) and tensors of the parameter's shape, dtype and memory format: `exp_avg`
    (first_moment); `exp_avg_odd` and `exp_avg_even` (pnm); `exp_avg_sq` (second_moment) and `max_exp_avg_sq` (its
    running_max); `slow` (lookahead).

    Raises:
        ValueError: an argument out of its range, a part that does not exist, two parts that clash, naming them.
        RuntimeError: a sparse or complex gradient, at `step`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        parts: Iterable[Any],
        *,
        weight_decay: float = 0.0,
        compile: bool = False,
    ) -> None:
        described = p.describe(p.read_parts(parts))
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "compile": compile, "parts": described})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as in every torch optimizer; its arguments are checked like the constructor's."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if "parts" in group:
                group["parts"] = p.describe(p.read_parts(group["parts"]))
            self.check(group)
        except ValueError:
            self.param_groups.pop()
            raise

    def check(self, group: Group) -> None:
        """Raises a ValueError that names the first argument of `group` which is out of its range."""
        for name in ("lr", "weight_decay"):
            self.require(group, name, p.is_number(group[name]) and group[name] >= 0, "a number of at least 0")
        self.require(group, "compile", isinstance(group["compile"], bool), "True or False")
        self.parts(group)

    def require(self, group: Group, name: str, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {name} = {group[name]!r} must be {what}.")

    def parts(self, group: Group) -> tuple[Part, ...]:
        """The chain of a group."""
        return p.read_parts(group["parts"])

    def chains(self) -> Iterator[tuple[Group, tuple[Part, ...], list[Tensor]]]:
        """Each group with its chain and the parameters that have a gradient."""
        for group in self.param_groups:
            yield group, self.parts(group), [param for param in group["params"] if param.grad is not None]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. `closure`, if given, is called with gradients enabled, and what it returns is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        chains = list(self.chains())
        for _, _, params in chains:
            for param in params:
                self.check_gradient(param)
        memory = self.__dict__.setdefault("_memory", Memory())  # neither copied nor saved with the optimizer
        buckets = (bucket for chain in chains for bucket in self.buckets(*chain, memory))
        if any(group["weight_decay"] and needs_global_mean(parts) for group, parts, _ in chains):
            self.step_together(list(buckets))
        else:
            for bucket in buckets:
                bucket.observe()
                bucket.move(None)
        return loss

    def step_together(self, buckets: list[Bucket]) -> None:
        """A step in which some parameters need the mean of v_hat over all."""
        for bucket in buckets:
            bucket.observe()
        if not buckets:
            return
        device = buckets[0].params[0].device
        totals = [torch.as_tensor(bucket.total_second()).to(device) for bucket in buckets]
        mean = sum(totals, torch.zeros((), device=device)) / max(1, sum(bucket.elements for bucket in buckets))
        for bucket in buckets:
            bucket.move(mean.to(bucket.params[0].device) if needs_global_mean(bucket.parts) else None)

    def buckets(self, group: Group, parts: tuple[Part, ...], params: list[Tensor], memory: Memory) -> Iterator[Bucket]:
        """The parameters put together, as many as fit; their state made, where it is not, and their steps counted."""
        alike: dict[tuple[Any, ...], list[Tensor]] = {}
        for param in params:
            state = self.prepared(param, parts)
            alike.setdefault((param.device, param.dtype, state["step"], param.ndim >= 2), []).append(param)
        for same in alike.values():
            for some in portions(same, alone=group["compile"]):
                yield Bucket(some, parts, group, [self.state[param] for param in some], memory)

    def prepared(self, param: Tensor, parts: tuple[Part, ...]) -> dict[str, Any]:
        """The state of a parameter, one step further."""
        state: dict[str, Any] = self.state[param]
        for name in buffers(parts):
            if name not in state:
                state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
        if "slow" not in state and any(isinstance(part, p.Lookahead) for part in parts):
            state["slow"] = param.detach().clone(memory_format=torch.preserve_format)
        state["step"] = state.get("step", 0) + 1
        return state

    def check_gradient(self, param: Tensor) -> None:
        """Raises a RuntimeError if the gradient is one that the parts are not defined for."""
        name = type(self).__name__
        if param.grad is not None and param.grad.layout != torch.strided:
            raise RuntimeError(f"{name} does not support sparse gradients; use a dense layer (sparse=False).")
        if torch.is_complex(param):
            raise RuntimeError(f"{name} does not support complex parameters; optimize torch.view_as_real of them.")


def needs_global_mean(parts: tuple[Part, ...]) -> bool:
    return any(getattr(part, "stable", None) == "global" for part in parts)


def portions(params: list[Tensor], alone: bool) -> Iterator[list[Tensor]]:
    """Lists of at most `ELEMENTS` elements, or of one parameter; with `alone`, those worth compiling by themselves."""
    some: list[Tensor] = []
    size = 0
    for param in params:
        if alone and c.has_wide_units(param) and param.numel() >= COMPILED_FROM:
            yield [param]
            continue
        if some and size + param.numel() > ELEMENTS:
            yield some
            some, size = [], 0
        some.append(param)
        size += param.numel()
    if some:
        yield some
