"""Parameters that go through a chain together: their tensors gathered, and the step run as it is or compiled."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ranger21.optim import components as c
from ranger21.optim import core
from ranger21.optim import parts as p
from ranger21.optim.components import Tensors
from ranger21.optim.core import Numbers
from ranger21.optim.parts import Part

ELEMENTS = 2**20  # of a bucket: few enough for a cache, many enough that Python's share is small
COMPILED_FROM = 2**14  # elements of a tensor that is worth a compiled call of its own

Group = dict[str, Any]


def buffers(parts: Iterable[Part]) -> list[str]:
    """The names of the state tensors that start at zero."""
    names = []
    for part in parts:
        if isinstance(part, p.FirstMoment):
            names += ["exp_avg"]
        if isinstance(part, p.PNM):
            names += ["exp_avg_odd", "exp_avg_even"]
        if isinstance(part, p.SecondMoment):
            names += ["exp_avg_sq", "max_exp_avg_sq"] if part.running_max else ["exp_avg_sq"]
    return names


class Bucket:
    """Parameters of one group, device, dtype and number of steps, all of two or more axes or all of fewer."""

    stream: Tensors | None
    norms: Tensors | None  # of the weights' units
    totals: Tensors | None

    def __init__(
        self,
        params: Tensors,
        parts: tuple[Part, ...],
        group: Group,
        states: list[dict[str, Any]],
        memory: "Memory",
    ) -> None:
        self.params, self.parts, self.weight_decay = params, parts, group["weight_decay"]
        self.step: int = states[0]["step"]
        self.grads: Tensors = [param.grad for param in params]  # type: ignore[misc]
        self.state = {name: [state[name] for state in states] for name in buffers(parts)}
        if "exp_avg_odd" in self.state:
            turns = [self.state.pop("exp_avg_odd"), self.state.pop("exp_avg_even")]
            self.state["current"], self.state["previous"] = turns if self.step % 2 else reversed(turns)
        self.lookahead = next((part for part in parts if isinstance(part, p.Lookahead)), None)
        self.slow = [state["slow"] for state in states] if self.lookahead else []
        self.numbers, self.divides = core.numbers(parts, self.step, group["lr"], self.weight_decay)
        self.now = self.numbers
        self._observe, self._move = core.observe, core.move
        self._params, self._rows = params, False
        self._scratch: tuple[Any, ...] = ()
        if group["compile"] and len(params) == 1 and self._fits_compiler():
            self._compile()
        elif not p.streams(parts):
            self._scratch = (memory.scratch(params),)

    def _fits_compiler(self) -> bool:
        """Whether all tensors are rows of the same layout, more than one."""
        param = self.params[0]
        tensors = [*self.grads, *(x for xs in self.state.values() for x in xs)]
        return is_dense(param) and param.shape[0] > 1 and all(x.stride() == param.stride() for x in tensors)

    def _compile(self) -> None:
        """Views all tensors as rows, a unit each, so that one compiled function serves tensors of every shape."""
        self._observe, self._move = compiled(core.observe), compiled(core.move)
        self._rows = True
        self.now = as_tensors(self.numbers)
        self._params, self.grads = as_rows(self.params), as_rows(self.grads)
        self.state = {name: as_rows(tensors) for name, tensors in self.state.items()}

    def observe(self) -> None:
        """Takes the gradients in."""
        self.stream, known = self._observe(
            self.parts, self._params, self.grads, self.state, self.now, self.weight_decay, *self._scratch
        )
        self.norms = list(torch._foreach_sqrt(known)) if known and self._rows else known
        if "max_exp_avg_sq" in self.state:
            c.running_max_(self.state["max_exp_avg_sq"], self.state["exp_avg_sq"])
        stable = self.weight_decay and any(getattr(part, "stable", None) for part in self.parts)
        self.totals = c.totals(core.second(self.state)) if stable else None

    def move(self, mean: Tensor | None) -> None:
        """Steps the weights; `mean` is v_hat's over all parameters, for global stable decay."""
        factors = core.shrinkage(self.parts, self._params, self.norms, self.totals, mean, self.numbers)
        rest = (self.state, self.now, self.weight_decay, self.divides, factors)
        self._move(self.parts, self._params, self.stream, *rest, *self._scratch)
        if self.lookahead and self.step % self.lookahead.k == 0:
            c.lookahead_(self.params, self.slow, self.lookahead.beta)

    @property
    def elements(self) -> int:
        """Of the second moment."""
        return sum(param.numel() for param in self.params) if "exp_avg_sq" in self.state else 0

    def total_second(self) -> Tensor | float:
        """The sum of v_hat over all elements."""
        if "exp_avg_sq" not in self.state:
            return 0.0
        totals = self.totals or c.totals(core.second(self.state))
        return torch.stack(totals).sum() / self.numbers.correction2


class Memory:
    """Memory for what lives no longer than a bucket's step, taken once in a step: fresh pages are slow to come by."""

    def __init__(self) -> None:
        self._flat: dict[Any, Tensor] = {}

    def scratch(self, params: Tensors) -> core.Scratch:
        """Two lists of tensors like `params`; none for tensors of fewer than two axes, which are small."""
        first, size = params[0], sum(param.numel() for param in params)
        if first.ndim < 2 or not all(is_dense(param) for param in params):
            return None, None
        flat = self._flat.get((first.device, first.dtype))
        if flat is None or flat.numel() < 2 * size:
            flat = self._flat[first.device, first.dtype] = first.new_empty(2 * size)
        return carve(flat, params, 0), carve(flat, params, size)


def carve(flat: Tensor, params: Tensors, start: int) -> Tensors:
    views = []
    for param in params:
        views.append(flat.as_strided(param.shape, param.stride(), start))
        start += param.numel()
    return views


def is_dense(x: Tensor) -> bool:
    """Whether the tensor fills its memory, each unit in one piece."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def as_rows(tensors: Tensors) -> Tensors:
    return [as_row(x) for x in tensors]


def as_row(x: Tensor) -> Tensor:
    wide = x.numel() // x.shape[0]
    row = torch.empty(0, dtype=x.dtype, device=x.device)
    return row.set_(x.untyped_storage(), x.storage_offset(), (x.shape[0], wide), (wide, 1))


@functools.lru_cache(maxsize=8)
def as_tensors(now: Numbers) -> Numbers:
    return Numbers(*(torch.tensor(number, dtype=torch.float64) for number in now))


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)
