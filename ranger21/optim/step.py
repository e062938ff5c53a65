"""One optimization step: the data that the ingredients of a recipe read and change."""

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ranger21.optim.tensors import Number, Tensors, copy_, is_plain, mul, spread_as, unit_norms

if TYPE_CHECKING:
    from ranger21.optim.recipe import Recipe


class Division(Protocol):
    """A pending division of the update by the root of the second moment, done as late as possible."""

    @property
    def eps(self) -> float: ...  # the ingredient's argument `eps`

    @property
    def gain(self) -> Number: ...  # factor of the quotient

    @property
    def correction(self) -> Number: ...  # 1 - beta2^t

    @property
    def values(self) -> Tensors: ...  # v as stored: v_hat is values / correction

    def divisors(self, out: Tensors | None) -> Tensors: ...


class Step:
    """One step of parameters that share a group, device, dtype and step count.

    Attributes:
        t: Number of this step, counted per parameter from 1; with `capturable`, a float64 tensor with no axes.
        lr, weight_decay: Settings of the parameter group.
        params: The weights. They hold the values before the step until the update is subtracted.
        state: One tensor per parameter for each state name.
        gradient: The gradient as modified so far, on its way into the moments. Once the moments are updated it exists
            only if some ingredient sets `uses_gradient`; otherwise its memory is reused.
        update: The update as modified so far. The weights will change by -lr times the update.
        gain: Pending factor of the update.
        division: Pending division of the update, or None.
        correction1: 1 - beta1^t, the bias correction of the first moment.
        second: The second moment, even if the update is not divided by it; None if the recipe has none.
        factors: Factors of the weights, applied before the update is subtracted; None for no change.
        whole: Means over all parameters of the optimizer, by name, for the ingredients that need them.
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
        """Norms of the units of the weights before the step."""
        return unit_norms(self.params)

    @property
    def update(self) -> Tensors:
        """The update with the pending division and gain applied; reading this property applies them."""
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
        """Return scratch tensors shaped like the parameters, or None if new memory must be allocated."""
        if not self._spares:
            return None
        self._lent.append(self._spares.pop())
        return self._lent[-1]

    def is_spare(self, tensors: Tensors) -> bool:
        """Return whether the tensors came from `spare`, so that they may be overwritten."""
        return any(tensors is lent for lent in self._lent)

    def observe(self) -> None:
        """Apply the ingredients that act on gradients, and update the moments."""
        for ingredient in self.recipe.on_gradient:
            ingredient.on_gradient(self)

    def adds(self) -> dict[str, tuple[Tensor, int]]:
        """Return (sum, number of elements) over this step's parameters for each mean over the whole optimizer."""
        return {name: pair for one in self.recipe.ingredients for name, pair in one.adds(self).items()}

    def move(self) -> None:
        """Compute the update and apply it to the weights."""
        if not self.recipe.keeps_gradient:
            self._spares, self._lent = self._spares + self._lent, []
        self._update = self.gradient
        if not self.recipe.keeps_gradient:
            del self.gradient  # an ingredient that reads it without `uses_gradient` fails instead of reading garbage
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
        """Apply theta <- theta - lr * update, in one pass with the division and gain if those are host numbers."""
        size = self.lr * (self.gain * (self.division.gain if self.division else 1.0))
        if isinstance(size, Tensor):
            torch._foreach_sub_(self.params, torch._foreach_mul(self.update, self.lr))
        elif self.division is None:
            torch._foreach_add_(self.params, self._update, alpha=-size)
        else:
            torch._foreach_addcdiv_(self.params, self._update, self.division.divisors(self.spare()), -size)
