"""Self-check of the fused step: a process uses it only if it agrees with foreach on small tensors of every layout."""

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from ranger21.optim.buckets import Group
from ranger21.optim.fused.step import rate_is_on
from ranger21.optim.ingredients.base import Ingredient
from ranger21.optim.precision import HALF, KAHAN
from ranger21.optim.recipe import Recipe
from ranger21.optim.tensors import Tensors

if TYPE_CHECKING:
    from ranger21.optim.chain import Chain

log = logging.getLogger("ranger21")
RATE, DECAY = 1e-2, 0.1  # used instead of the user's values, which might be 0 at first and hide a fault
HALF_RATE, HALF_DECAY = 0.1, 0.01  # larger values for half precision, where rounding hides small changes
STEPS, MERGES_AT, MISSES = 3, 2, (1, 1)  # the third step merges; the second tensor has no gradient in the second step
SCALE = 8.0  # factor of gradients under a gradient scaler: a power of two, which causes no rounding
RELATIVE = 1e-4  # tolerance for the order of summation, relative to the largest change of a tensor in a step
ROUNDING = 8 * torch.finfo(torch.float32).eps  # tolerance relative to the largest element
GLOBAL = ["first_moment", "second_moment", {"name": "decay", "stable": "global"}]


class Variant(NamedTuple):
    """The settings that select a kernel variant. Each variant is checked once per process.

    Numbers are left out, because schedulers change them.
    """

    structure: tuple[Any, ...]
    device: torch.device
    dtype: torch.dtype
    decays: bool
    maximize: bool
    kahan_sum: bool
    rate_is_tensor: bool
    shares: bool
    scaled: bool


DIFFERENCES: dict[Variant, str] = {}  # the checks made in this process: a description of the difference, or ""
WARNED: set[Variant] = set()


def agrees_with_foreach(group: Group, recipe: Recipe, params: Tensors, shares: bool, scaled: bool) -> bool:
    """Return whether the fused step agrees with foreach on the parameters' devices; log a warning if not.

    The check runs the first time that a process needs a variant. It uses no global random state and does not modify
    the user's tensors. Fake tensors, which hold no values, are not checked.

    Args:
        group: Parameter group.
        recipe: Recipe of the parameters.
        params: The parameters.
        shares: Whether the optimizer takes a mean over all parameters.
        scaled: Whether a gradient scaler leaves unscaling to the step.

    Raises:
        ValueError: If the results differ and `fused` is True.
    """
    for device, dtype in dict.fromkeys((param.device, param.dtype) for param in params):
        variant = Variant(
            *(structure(recipe), device, dtype, bool(group["weight_decay"]), group["maximize"]),
            *(dtype in HALF and group["kahan_sum"] is not False, rate_is_on(device, group["lr"]), shares, scaled),
        )
        if variant not in DIFFERENCES:
            if detect_fake_mode(params) is not None:
                return True
            DIFFERENCES[variant] = find_difference(recipe, variant)
        if difference := DIFFERENCES[variant]:
            if group["fused"]:
                raise ValueError(
                    f"fused = True must be None or False here: on {device}, its result differs from foreach: "
                    f"{difference}."
                )
            if variant not in WARNED:
                WARNED.add(variant)
                log.warning("On %s, foreach is used instead of the fused step, which differs: %s.", device, difference)
            return False
    return True


def structure(recipe: Recipe) -> tuple[Any, ...]:
    """Return the parts of a recipe that select a kernel variant: its ingredients and switches, without numbers."""

    def switches(one: Ingredient) -> tuple[Any, ...]:
        return tuple(value for value in vars(one).values() if value is None or isinstance(value, bool | str))

    return tuple((one.name, *switches(one)) for one in recipe.ingredients)


class Case(NamedTuple):
    """A tensor of the check.

    Attributes:
        name: Description for messages, after "a tensor".
        shape: Sizes of the axes in memory order.
        order: Permutation applied to the axes; empty for none.
        size: Factor of the initial values.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()
    size: float = 1.0


CASES = (
    Case("with no axes", ()),
    Case("with one axis", (37,)),
    Case("with no elements", (0, 3)),
    Case("with one-element rows", (2, 1, 1, 1)),
    Case("with a row of 1,100 elements", (1, 1100)),
    Case("that is transposed", (5, 2), (1, 0)),
    Case("in channels_last", (2, 3, 3, 2), (0, 3, 1, 2)),
    Case("that starts at zero", (2, 8), (), 0.0),
    Case("with four axes", (3, 3, 2, 3)),
)


def values(case: Case, dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    """Return random values with magnitudes between 0.3 and 1.3, in the case's memory format."""
    numbers = torch.rand(case.shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu") * 2 - 1
    numbers = numbers + torch.where(numbers < 0, -0.3, 0.3)
    return numbers.to(device, dtype).permute(case.order or tuple(range(len(case.shape))))


class Snapshot(NamedTuple):
    """A copy of a weight or state tensor for the comparison.

    Attributes:
        tensor: The values, float64 on the CPU.
        rounding: Relative tolerance for rounding.
        of_each: Whether the tolerance is relative to each element; otherwise it is relative to the largest one.
    """

    tensor: Tensor
    rounding: float
    of_each: bool = False


def optimizer_of(recipe: Recipe, params: Tensors, fused: bool, variant: Variant) -> "Chain":
    """Return an optimizer of the recipe that skips this check.

    If the variant shares a mean over all parameters, the last parameter is in a second group that needs that mean.
    """
    from ranger21.optim.chain import Chain

    class UncheckedChain(Chain):
        def is_fused(self, group: Group, *_: Any) -> bool:
            return bool(group["fused"])

    rate, decay = (HALF_RATE, HALF_DECAY) if variant.dtype in HALF else (RATE, DECAY)
    groups: list[Group] = [{"params": params}]
    if variant.shares:
        groups = [{"params": params[:-1]}, {"params": params[-1:], "parts": GLOBAL, "weight_decay": decay}]
    return UncheckedChain(
        groups,
        torch.tensor(rate, dtype=torch.float32, device=variant.device) if variant.rate_is_tensor else rate,
        recipe.ingredients,
        weight_decay=decay if variant.decays else 0.0,
        maximize=variant.maximize,
        fused=fused,
        kahan_sum=variant.kahan_sum,
    )


class Contender:
    """The tensors of all cases, and a fused or unfused optimizer of them."""

    def __init__(self, recipe: Recipe, fused: bool, variant: Variant) -> None:
        self.params = [values(case, variant.dtype, variant.device, i).mul_(case.size) for i, case in enumerate(CASES)]
        self.optimizer = optimizer_of(recipe, self.params, fused, variant)
        self.scaler = fused and variant.scaled

    def step(self, number: int, k: int) -> None:
        """Take step `number` (from 0). Gradients differ in magnitude, some are zero and one is missing.

        Before the last step, the step counts are moved forward so that a lookahead merge (every `k` steps) is due.
        """
        for i, (case, param) in enumerate(zip(CASES, self.params, strict=True)):
            grad = values(case, param.dtype, param.device, 1000 + 100 * number + i) * 10.0 ** ((i + number) % 4 - 3)
            if grad.ndim >= 2 and len(grad) > 2:
                grad[1] = 0
            param.grad = None if (i, number) == MISSES else grad * SCALE if self.scaler else grad
        if number == MERGES_AT and k:
            for kept in self.optimizer.state.values():
                kept["step"] = kept["step"] - int(kept["step"]) + 3 * k - 1
        self.take(0.0)

    def take(self, found_inf: float) -> None:
        """Take a step without the hooks that users may have registered for all optimizers."""
        if self.scaler:
            for name, value in (("grad_scale", SCALE), ("found_inf", found_inf)):
                setattr(self.optimizer, name, torch.tensor(value, device=self.params[0].device))
        self.optimizer._take_step()

    def snapshots(self) -> list[dict[str, Snapshot]]:
        """Return snapshots of the weights and the state of each parameter, by name."""
        return [self._snapshots(param) for param in self.params]

    def _snapshots(self, param: Tensor) -> dict[str, Snapshot]:
        kept = self.optimizer.state.get(param, {})
        whole, eps, half = param.double(), torch.finfo(param.dtype).eps, param.dtype in HALF
        found = {"the weights": Snapshot(whole, 1.01 * eps if half else ROUNDING, half)}  # half: 1 ulp per element
        for name, one in kept.items():
            rounding = {KAHAN: 4 * eps**2, "step": 0.0}.get(name, ROUNDING)
            found[name] = Snapshot(
                torch.as_tensor(one, device=param.device).double() + (whole if name == KAHAN else 0), rounding
            )
        return {name: one._replace(tensor=one.tensor.cpu().clone()) for name, one in found.items()}

    def follow(self, other: "Contender") -> None:
        """Copy the other contender's weights and state, so that each step is compared on its own."""
        for mine, theirs in zip(self.params, other.params, strict=True):
            mine.copy_(theirs)
            kept = self.optimizer.state[mine]
            for name, one in other.optimizer.state[theirs].items():
                kept[name].copy_(torch.as_tensor(one, device=mine.device))


def find_difference(recipe: Recipe, variant: Variant) -> str:
    """Return a description of the first difference, or of an error in compiling or launching a kernel, or ""."""
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(variant.device.type, enabled=False):
            return next(differences(recipe, variant), "")
    except Exception as error:  # Triton has no common base class for errors about compilers, drivers and devices
        return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")


def differences(recipe: Recipe, variant: Variant) -> Iterator[str]:
    """Yield a description of the largest difference between the fused step and foreach in each step, if any."""
    fused, foreach = (Contender(recipe, is_fused, variant) for is_fused in (True, False))
    k = next((getattr(one, "k", 0) for one in recipe.ingredients if one.name == "lookahead"), 0)
    for number in range(STEPS):
        before = foreach.snapshots()
        for contender in (fused, foreach):
            contender.step(number, k)
        seen = fused.snapshots()
        yield from worst(seen, foreach.snapshots(), before, variant.dtype, f"after step {number + 1}")
        if variant.scaled and number == STEPS - 1:
            fused.take(found_inf=1.0)
            left = [{name: one._replace(rounding=0.0) for name, one in tensors.items()} for tensors in seen]
            yield from worst(
                fused.snapshots(),
                left,
                seen,
                variant.dtype,
                "after a step that should have been skipped (found_inf = 1)",
            )
        fused.follow(foreach)


def worst(
    ours: list[dict[str, Snapshot]],
    theirs: list[dict[str, Snapshot]],
    before: list[dict[str, Snapshot]],
    dtype: torch.dtype,
    when: str,
) -> Iterator[str]:
    """Yield a description of the largest difference beyond rounding, if there is one."""
    most, words = 1.0, ""
    for case, mine, its, then in zip(CASES, ours, theirs, before, strict=True):
        tensor = f"a tensor {case.name} in {str(dtype).removeprefix('torch.')}"
        if odd := mine.keys() ^ its.keys():
            yield f"{when} only one of the two keeps {min(odd)} of {tensor}"
            return
        for name, seen in its.items():
            times, off, allowed = compare(mine[name].tensor, seen, then.get(name), torch.finfo(dtype))
            if times > most:
                most = times
                words = f"{when} {name} of {tensor} is off by {off:.1e}; rounding explains {allowed:.1e}"
    if words:
        yield words.replace("the weights of", "a weight of")


def compare(one: Tensor, other: Snapshot, before: Snapshot | None, dtype: torch.finfo) -> tuple[float, float, float]:
    """Return the largest ratio of a difference to the difference that rounding explains, and these two differences."""
    theirs = other.tensor
    same = (one == theirs) | (one.isnan() & theirs.isnan())
    if same.all():
        return 0.0, 0.0, 0.0
    change = (theirs - before.tensor if before else theirs).abs().max()
    size = theirs.abs() if other.of_each else theirs.abs().max().expand_as(theirs)
    explained = (RELATIVE * change + other.rounding * size).nan_to_num(nan=0.0) * (other.rounding > 0)
    allowed = explained + dtype.smallest_normal * dtype.eps
    off = torch.where(same, 0.0, (one - theirs).abs().nan_to_num(nan=math.inf))
    place = (off / allowed).argmax()
    at_worst = [float(x.flatten()[place]) for x in (off / allowed, off, allowed)]
    return at_worst[0], at_worst[1], at_worst[2]
