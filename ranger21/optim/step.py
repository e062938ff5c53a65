"""One step of some parameters through a recipe: what its ingredients read, and what they change."""

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ranger21.optim.tensors import Number, Tensors, copy_, is_plain, mul, spread_as, unit_norms

if TYPE_CHECKING:
    from ranger21.optim.recipe import Recipe


class Division(Protocol):
    """What a second moment leaves behind: the divisor of the update, to be carried out as late as possible."""

    @property
    def eps(self) -> float: ...  # of the ingredient

    @property
    def gain(self) -> Number: ...  # by which the quotient is multiplied

    @property
    def correction(self) -> Number: ...  # 1 - beta2^t

    @property
    def values(self) -> Tensors: ...  # as they are stored: v_hat is values / correction

    def divisors(self, out: Tensors | None) -> Tensors: ...


class Step:
    """One step of parameters that are of one group, device, dtype and count of steps.

    Attributes:
        t: the number of this step, counted for each parameter: 1, 2, …; with `capturable` a float64 tensor of no axes.
        lr, weight_decay: the group's.
        params: the weights; those before the step, until the update is subtracted.
        state: of every name, a tensor for each parameter.
        gradient: what passes on its way to the moments. An ingredient puts its own result here. After the moments it is
            there only if an ingredient `uses_gradient`, and its memory is used again otherwise.
        update: what passes after them, with a minus sign and the learning rate still to come.
        gain: a number that the update is yet to be multiplied by.
        division: what the update is yet to be divided by; None: nothing.
        correction1: 1 - beta1^t, the weight of all gradients in the first moment.
        second: the second moment, whether or not the update is divided by it; None: the recipe has none.
        factors: what the weights are multiplied by before the update is subtracted; None: nothing.
        whole: means over all parameters of the optimizer, by name, for ingredients that want them.
    """

    def __init__(
        self,
        recipe: "Recipe",
        params: Tensors,
        grads: Tensors,
        state: dict[str, Tensors],
        t: int | Tensor,
        lr: Number,
        weight_decay: float,
        spares: list[Tensors],
    ) -> None:
        self.recipe, self.params, self.gradient, self.state = recipe, params, grads, state
        self.t, self.lr, self.weight_decay = t, lr, weight_decay
        self.gain: Number = 1.0
        self.division: Division | None = None
        self.correction1: Number = 1.0
        self.second: Division | None = None
        self.factors: Tensors | Number | None = None
        self.whole: dict[str, Tensor] = {}
        self._update = grads
        self._spares, self._lent = spares, list[Tensors]()

    @cached_property
    def norms(self) -> Tensors:
        """The norms of the weights' units before the step."""
        return unit_norms(self.params)

    @property
    def update(self) -> Tensors:
        """The update with all that was left to be done to it: reading it carries out the division and the gain."""
        if self.division is not None:
            self._update = list(torch._foreach_div(self._update, self.division.divisors(self.spare())))
            self.gain, self.division = self.gain * self.division.gain, None
        if isinstance(self.gain, Tensor) or self.gain != 1.0:
            self._update, self.gain = list(torch._foreach_mul(self._update, self.gain)), 1.0
        return self._update

    @update.setter
    def update(self, tensors: Tensors) -> None:
        self._update = tensors

    def spare(self) -> Tensors | None:
        """Return memory like the parameters' that may be written to; None: take new memory."""
        if not self._spares:
            return None
        self._lent.append(self._spares.pop())
        return self._lent[-1]

    def is_spare(self, tensors: Tensors) -> bool:
        """Whether the tensors may be written to, being what `spare` returned."""
        return any(tensors is lent for lent in self._lent)

    def observe(self) -> None:
        """Take the gradients in."""
        for ingredient in self.recipe.on_gradient:
            ingredient.on_gradient(self)

    def adds(self) -> dict[str, tuple[Tensor, int]]:
        """Return sums over the parameters, and the numbers of their elements, for means over all of the optimizer."""
        return {name: pair for one in self.recipe.ingredients for name, pair in one.adds(self).items()}

    def move(self) -> None:
        """Step the weights."""
        if not self.recipe.keeps_gradient:
            self._spares, self._lent = self._spares + self._lent, []
        self._update = self.gradient
        if not self.recipe.keeps_gradient:
            del self.gradient  # whoever reads it without `uses_gradient` raises, and does not read memory used again
        for ingredient in self.recipe.on_update:
            ingredient.on_update(self)
        for ingredient in self.recipe.on_weights:
            ingredient.on_weights(self)
        if isinstance(self.factors, list) and not is_plain(self.params[0]):
            copy_(self.params, spread_as(mul(self.params, self.factors), self.params))
        elif self.factors is not None:
            torch._foreach_mul_(self.params, self.factors)
        self._subtract()
        for ingredient in self.recipe.after:
            ingredient.after(self)

    def _subtract(self) -> None:
        """theta <- theta - lr update, the division and the gain in one pass where they are numbers on the host."""
        size = self.lr * (self.gain * (self.division.gain if self.division else 1.0))
        if isinstance(size, Tensor):
            torch._foreach_sub_(self.params, torch._foreach_mul(self.update, self.lr))
        elif self.division is None:
            torch._foreach_add_(self.params, self._update, alpha=-size)
        else:
            torch._foreach_addcdiv_(self.params, self._update, self.division.divisors(self.spare()), -size)
