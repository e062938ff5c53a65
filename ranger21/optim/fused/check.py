"""The fused step checks itself: a process relies on it when small tensors of every kind go where foreach takes them."""

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
RATE, DECAY = 1e-2, 0.1  # of the check: a user's, which may be 0 at first, might hide a fault
HALF_RATE, HALF_DECAY = 0.1, 0.01  # in half precision, where small changes drown
STEPS, MERGES_AT, MISSES = 3, 2, (1, 1)  # the third step merges; the second has no gradient for the second tensor
SCALE = 8.0  # of gradients: a power of two, which rounds nothing
RELATIVE = 1e-4  # of the largest change of a tensor in a step, which the order of a sum may explain
ROUNDING = 8 * torch.finfo(torch.float32).eps  # of the largest element
GLOBAL = ["first_moment", "second_moment", {"name": "decay", "stable": "global"}]


class Trial(NamedTuple):
    """What decides which kernels run, numbers apart, which schedulers change: checked once in a process."""

    structure: tuple[Any, ...]
    device: torch.device
    dtype: torch.dtype
    decays: bool
    maximize: bool
    kahan_sum: bool
    rate_is_tensor: bool
    shares: bool
    scaled: bool


FOUND: dict[Trial, str] = {}  # in this process: the difference in words; empty: none
WARNED: set[Trial] = set()


def passes(group: Group, recipe: Recipe, params: Tensors, shares: bool, scaled: bool) -> bool:
    """Whether the fused step of parameters does on this device what foreach does, with a warning if it does not.

    It is tried the first time that a process asks. Neither random numbers nor anything of the user's is touched.
    Pretended devices, which compute nothing, pass.

    Args:
        shares: whether the optimizer takes a mean over all parameters.
        scaled: whether a gradient scaler leaves its part to the step.

    Raises:
        ValueError: it does not, and `fused` is True.
    """
    for device, dtype in dict.fromkeys((param.device, param.dtype) for param in params):
        trial = Trial(
            *(structure(recipe), device, dtype, bool(group["weight_decay"]), group["maximize"]),
            *(dtype in HALF and group["kahan_sum"] is not False, rate_is_on(device, group["lr"]), shares, scaled),
        )
        if trial not in FOUND:
            if detect_fake_mode(params) is not None:
                return True
            FOUND[trial] = found(recipe, trial)
        if told := FOUND[trial]:
            if group["fused"]:
                raise ValueError(
                    f"fused = True must be None or False here: on {device} it is not what foreach is, {told}."
                )
            if trial not in WARNED:
                WARNED.add(trial)
                log.warning("The fused step is not used on %s, foreach is: %s.", device, told)
            return False
    return True


def structure(recipe: Recipe) -> tuple[Any, ...]:
    """Return what of a recipe chooses between kernels: its ingredients and their switches, without numbers."""

    def switches(one: Ingredient) -> tuple[Any, ...]:
        return tuple(value for value in vars(one).values() if value is None or isinstance(value, bool | str))

    return tuple((one.name, *switches(one)) for one in recipe.ingredients)


class Case(NamedTuple):
    """A tensor of the check: its name in sentences, its axes in memory's order, how they are permuted, its size."""

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()
    size: float = 1.0


CASES = (
    Case("of no axes", ()),
    Case("of one axis", (37,)),
    Case("of no elements", (0, 3)),
    Case("of rows of one element", (2, 1, 1, 1)),
    Case("of a row of 1,100 elements", (1, 1100)),
    Case("that is transposed", (5, 2), (1, 0)),
    Case("in channels_last", (2, 3, 3, 2), (0, 3, 1, 2)),
    Case("that starts at zero", (2, 8), (), 0.0),
    Case("of four axes", (3, 3, 2, 3)),
)


def values(case: Case, dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    """Return numbers between 0.3 and 1.3 in size, of a generator of their own, in the case's memory format."""
    numbers = torch.rand(case.shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu") * 2 - 1
    numbers = numbers + torch.where(numbers < 0, -0.3, 0.3)
    return numbers.to(device, dtype).permute(case.order or tuple(range(len(case.shape))))


class Seen(NamedTuple):
    """What is compared of a parameter: a tensor in float64 on the host, and its rounding, of each element or of all."""

    tensor: Tensor
    rounding: float
    of_each: bool = False


def optimizer_of(recipe: Recipe, params: Tensors, fused: bool, trial: Trial) -> "Chain":
    """Return an optimizer of the recipe that does not check itself; if it shares a mean, with a group that wants it."""
    from ranger21.optim.chain import Chain

    class Tried(Chain):
        def is_fused(self, group: Group, *_: Any) -> bool:
            return bool(group["fused"])

    rate, decay = (HALF_RATE, HALF_DECAY) if trial.dtype in HALF else (RATE, DECAY)
    groups: list[Group] = [{"params": params}]
    if trial.shares:
        groups = [{"params": params[:-1]}, {"params": params[-1:], "parts": GLOBAL, "weight_decay": decay}]
    return Tried(
        groups,
        torch.tensor(rate, dtype=torch.float32, device=trial.device) if trial.rate_is_tensor else rate,
        recipe.ingredients,
        weight_decay=decay if trial.decays else 0.0,
        maximize=trial.maximize,
        fused=fused,
        kahan_sum=trial.kahan_sum,
    )


class Way:
    """Tensors of every kind, and an optimizer that steps them one way."""

    def __init__(self, recipe: Recipe, fused: bool, trial: Trial) -> None:
        self.params = [values(case, trial.dtype, trial.device, i).mul_(case.size) for i, case in enumerate(CASES)]
        self.optimizer = optimizer_of(recipe, self.params, fused, trial)
        self.scaler = fused and trial.scaled

    def step(self, number: int, k: int) -> None:
        """Step with gradients of all sizes, some of them zero and one missing; the third time a merge is due."""
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
        """Take a step, without the hooks that users may have put on every optimizer's."""
        if self.scaler:
            for name, value in (("grad_scale", SCALE), ("found_inf", found_inf)):
                setattr(self.optimizer, name, torch.tensor(value, device=self.params[0].device))
        self.optimizer._take_step()

    def seen(self) -> list[dict[str, Seen]]:
        """Return copies of what is compared, by name, of each parameter."""
        return [self._seen(param) for param in self.params]

    def _seen(self, param: Tensor) -> dict[str, Seen]:
        kept = self.optimizer.state.get(param, {})
        whole, eps, half = param.double(), torch.finfo(param.dtype).eps, param.dtype in HALF
        found = {"the weights": Seen(whole, 1.01 * eps if half else ROUNDING, half)}  # half: one unit in the last place
        for name, one in kept.items():
            rounding = {KAHAN: 4 * eps**2, "step": 0.0}.get(name, ROUNDING)
            found[name] = Seen(
                torch.as_tensor(one, device=param.device).double() + (whole if name == KAHAN else 0), rounding
            )
        return {name: seen._replace(tensor=seen.tensor.cpu().clone()) for name, seen in found.items()}

    def follow(self, other: "Way") -> None:
        """Become what the other way has come to, so that each step is compared by itself."""
        for mine, theirs in zip(self.params, other.params, strict=True):
            mine.copy_(theirs)
            kept = self.optimizer.state[mine]
            for name, one in other.optimizer.state[theirs].items():
                kept[name].copy_(torch.as_tensor(one, device=mine.device))


def found(recipe: Recipe, trial: Trial) -> str:
    """Return the difference in words; what compiling or launching a kernel raises is one, too."""
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(trial.device.type, enabled=False):
            return next(differences(recipe, trial), "")
    except Exception as error:  # Triton raises what it likes: no compiler, no driver, a chip that it does not know
        return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")


def differences(recipe: Recipe, trial: Trial) -> Iterator[str]:
    """Yield the differences between the fused step and foreach beyond rounding, in words, the worst of each step."""
    fused, foreach = (Way(recipe, way, trial) for way in (True, False))
    k = next((getattr(one, "k", 0) for one in recipe.ingredients if one.name == "lookahead"), 0)
    for number in range(STEPS):
        before = foreach.seen()
        for way in (fused, foreach):
            way.step(number, k)
        seen = fused.seen()
        yield from worst(seen, foreach.seen(), before, trial.dtype, f"after step {number + 1}")
        if trial.scaled and number == STEPS - 1:
            fused.take(found_inf=1.0)
            left = [{name: one._replace(rounding=0.0) for name, one in tensors.items()} for tensors in seen]
            yield from worst(fused.seen(), left, seen, trial.dtype, "after a step that found_inf = 1 should leave out")
        fused.follow(foreach)


def worst(
    ours: list[dict[str, Seen]],
    theirs: list[dict[str, Seen]],
    before: list[dict[str, Seen]],
    dtype: torch.dtype,
    when: str,
) -> Iterator[str]:
    """Yield in words what differs most beyond rounding, if anything does."""
    most, words = 1.0, ""
    for case, mine, its, then in zip(CASES, ours, theirs, before, strict=True):
        tensor = f"a tensor {case.name} in {str(dtype).removeprefix('torch.')}"
        if odd := mine.keys() ^ its.keys():
            yield f"{when} {min(odd)} of {tensor} is kept by one of the two only"
            return
        for name, seen in its.items():
            times, off, allowed = compare(mine[name].tensor, seen, then.get(name), torch.finfo(dtype))
            if times > most:
                most = times
                words = f"{when} {name} of {tensor} is off by {off:.1e}, of which rounding explains {allowed:.1e}"
    if words:
        yield words.replace("the weights of", "a weight of")


def compare(one: Tensor, other: Seen, before: Seen | None, dtype: torch.finfo) -> tuple[float, float, float]:
    """Return how many times what rounding explains two tensors differ, at most; how far, and what rounding explains."""
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
