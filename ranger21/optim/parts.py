"""What an optimizer can be composed of: the ingredients' names, arguments and places. Imports no torch.

A chain is a list of parts, in the order in which they act:

1. on the gradient: `agc`, `centralize`, `normalize`, and the moments that take it in, `first_moment` or `pnm` and
   `second_moment`. The update is then the first moment over the root of the second (the gradient itself where there
   is no first, 1 where there is no second); `rectify`, right after the moments, corrects it;
2. on the update: `l2`, `trust_ratio`. Placed among the former they act on the gradient instead;
3. on the weights: `decay`, then the update is subtracted, then `lookahead`.

The learning rate and the weight decay are not the parts': they are those of the parameter group.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, ClassVar

GRADIENT, MOMENT, RECTIFICATION, ANYWHERE, DECAY, LOOKAHEAD = range(6)


@dataclass(frozen=True)
class Part:
    """An ingredient. Its fields are its arguments, with their defaults."""

    name: ClassVar[str]
    place: ClassVar[int]
    role: ClassVar[str] = ""  # of the parts of one role a chain has at most one

    def require(self, field: str, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"{self.name}: {field} = {getattr(self, field)!r} must be {what}.")

    def require_fraction(self, *names: str) -> None:
        for field in names:
            value = getattr(self, field)
            self.require(field, is_number(value) and 0 <= value < 1, "a number in [0, 1)")

    def require_at_least_0(self, *names: str) -> None:
        for field in names:
            value = getattr(self, field)
            self.require(field, is_number(value) and value >= 0, "a number of at least 0")

    def require_above_0(self, *names: str) -> None:
        for field in names:
            value = getattr(self, field)
            self.require(field, is_number(value) and value > 0, "a number above 0")


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class AGC(Part):
    """Adaptive gradient clipping: units longer than `clipping` times their weights (at least `eps` long) are cut."""

    name, place = "agc", GRADIENT
    clipping: float = 1e-2
    eps: float = 1e-3

    def __post_init__(self) -> None:
        self.require_above_0("clipping", "eps")


@dataclass(frozen=True)
class Centralize(Part):
    """Gradient centralization: every unit minus its mean."""

    name, place = "centralize", GRADIENT


@dataclass(frozen=True)
class Normalize(Part):
    """Gradient normalisation: every tensor over its standard deviation + `eps`."""

    name, place = "normalize", GRADIENT
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self.require_above_0("eps")


@dataclass(frozen=True)
class FirstMoment(Part):
    """Adam's running mean of the gradient, corrected for its start at zero."""

    name, place, role = "first_moment", MOMENT, "first moment"
    beta1: float = 0.9

    def __post_init__(self) -> None:
        self.require_fraction("beta1")


@dataclass(frozen=True)
class PNM(Part):
    """Positive-negative momentum: two running means, taken in turn, the older with weight -`beta0`."""

    name, place, role = "pnm", MOMENT, "first moment"
    beta1: float = 0.9
    beta0: float = 0.9

    def __post_init__(self) -> None:
        self.require_fraction("beta1")
        self.require_at_least_0("beta0")

    @property
    def noise(self) -> float:
        """The norm of the two weights (Algorithm 2, line 6): dividing by it keeps the size of the noise (Xie 2021)."""
        return math.hypot(1 + self.beta0, self.beta0)


@dataclass(frozen=True)
class SecondMoment(Part):
    """Adam's running mean of the squared gradient, corrected for its start at zero; or the largest it has been.

    `softplus`: the root + eps goes through softplus(x) = log(1 + exp(b x)) / b with this b (the authors' code).
    """

    name, place, role = "second_moment", MOMENT, "second moment"
    beta2: float = 0.999
    eps: float = 1e-8
    running_max: bool = False
    softplus: float | None = None

    def __post_init__(self) -> None:
        self.require_fraction("beta2")
        self.require_at_least_0("eps")
        self.require("running_max", isinstance(self.running_max, bool), "True or False")
        smooth = self.softplus is None or (is_number(self.softplus) and self.softplus > 0)
        self.require("softplus", smooth, "a number above 0, or None")


@dataclass(frozen=True)
class Rectify(Part):
    """RAdam's rectification of the second moment's variance: the first moment alone until that variance exists.

    As in its authors' code and torch's, the second moment's `eps` is added before the bias correction, not after it.
    """

    name, place, role = "rectify", RECTIFICATION, "rectification"


@dataclass(frozen=True)
class L2(Part):
    """Adds weight_decay theta to what passes: to the gradient (Adam's decay, L2) or to the update (LAMB's)."""

    name, place, role = "l2", ANYWHERE, "decay"


@dataclass(frozen=True)
class TrustRatio(Part):
    """Scales every tensor to the size of its weights: LARS before the moments, LAMB after them.

    The ratio is `coefficient` ||theta|| / (||u|| + eps); with `of_step`, as in RangerLARS, u includes the learning
    rate. `clamp`: null; "ten", [0, 10]; or "paratrooper", max(1, min(1 / (r b), r)) with
    b = sqrt(1 - beta2^t) / (1 - beta1^t), which turns RangerLARS into Ranger as time goes on.
    """

    name, place, role = "trust_ratio", ANYWHERE, "trust ratio"
    coefficient: float = 1.0
    eps: float = 0.0
    of_step: bool = False
    clamp: str | None = None

    def __post_init__(self) -> None:
        self.require_above_0("coefficient")
        self.require_at_least_0("eps")
        self.require("of_step", isinstance(self.of_step, bool), "True or False")
        self.require("clamp", self.clamp in (None, "ten", "paratrooper"), "'ten', 'paratrooper' or None")


@dataclass(frozen=True)
class Decay(Part):
    """Decoupled weight decay: AdamW's, or stable ("layer", "global") over the root of the mean of v_hat.

    `norm_loss`: towards unit norm in place of zero.
    """

    name, place, role = "decay", DECAY, "decay"
    stable: str | None = None
    norm_loss: bool = False

    def __post_init__(self) -> None:
        self.require("stable", self.stable in (None, "layer", "global"), "'layer', 'global' or None")
        self.require("norm_loss", isinstance(self.norm_loss, bool), "True or False")


@dataclass(frozen=True)
class Lookahead(Part):
    """Every `k` steps of a parameter it is put between its slow weights (weight `beta`) and itself."""

    name, place, role = "lookahead", LOOKAHEAD, "lookahead"
    k: int = 5
    beta: float = 0.5

    def __post_init__(self) -> None:
        self.require("k", isinstance(self.k, int) and not isinstance(self.k, bool) and self.k >= 1, "an integer >= 1")
        self.require_fraction("beta")


ALL = (AGC, Centralize, Normalize, FirstMoment, PNM, SecondMoment, Rectify, L2, TrustRatio, Decay, Lookahead)
PARTS: dict[str, type[Part]] = {part.name: part for part in ALL}


def read_parts(described: Iterable[Any]) -> tuple[Part, ...]:
    """The chain from its description: of each part its name, or a mapping with its name and arguments.

    Raises a ValueError that names the part and the argument, or the two parts that clash.
    """
    if isinstance(described, str | Mapping) or not isinstance(described, Iterable):
        raise ValueError(f"{described!r} is not a list of parts, such as [agc,first_moment,second_moment,decay].")
    parts = tuple(_read(item) for item in described)
    check(parts)
    return parts


def describe(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The description that `read_parts` takes: names and numbers only, so that any file can hold it."""
    return [{"name": part.name, **asdict(part)} for part in parts]


def _read(item: Any) -> Part:
    if isinstance(item, Part):
        return item
    arguments = {"name": item} if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else {}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in PARTS:
        raise ValueError(f"There is no part {name or item!r}; a chain is made of {', '.join(PARTS)}.")
    known = [field.name for field in fields(PARTS[name])]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        has = f"has {', '.join(known)}" if known else "takes none"
        raise ValueError(f"{name}: there is no argument {unknown[0]!r}; it {has}.")
    return PARTS[name](**arguments)


def check(parts: tuple[Part, ...]) -> None:
    """Raises a ValueError that names the first two parts which cannot be in one chain, or not in this order."""
    roles: dict[str, Part] = {}
    for part in parts:
        other = roles.get(part.role)
        if other is not None:
            raise ValueError(f"{other.name} and {part.name} clash: a chain has one {part.role} at most.")
        if part.role:
            roles[part.role] = part
    _check_order(parts)
    first, second, ratio = (roles.get(role) for role in ("first moment", "second moment", "trust ratio"))
    if isinstance(second, SecondMoment) and second.running_max and "rectification" in roles:
        raise ValueError("rectify and second_moment's running_max clash: the variance it corrects is the mean's.")
    if second is None and any(isinstance(part, Decay) and part.stable for part in parts):
        raise ValueError("decay's stable divides by the second moment: put second_moment before it, or stable=null.")
    both = first and second and ratio in split(parts)[1]
    if isinstance(ratio, TrustRatio) and ratio.clamp == "paratrooper" and not both:
        raise ValueError("trust_ratio's clamp=paratrooper is made of both moments' corrections: put both before it.")


def _check_order(parts: tuple[Part, ...]) -> None:
    moments = [i for i, part in enumerate(parts) if part.place == MOMENT]
    last = moments[-1] if moments else -1
    for i, part in enumerate(parts):
        if part.place == GRADIENT and moments and i > last:
            raise ValueError(f"{part.name} after {parts[last].name} would act on nothing: put it before.")
        if part.place == RECTIFICATION and (i != last + 1 or not any(p.name == "second_moment" for p in parts)):
            raise ValueError(f"{part.name} corrects second_moment: put it right after the moments.")
        late = [p for p in parts[:i] if p.place >= DECAY and p.place > part.place]
        if late:
            raise ValueError(f"{part.name} cannot come after {late[0].name}: put it before.")


def streams(parts: tuple[Part, ...]) -> bool:
    """Whether the update is the gradient itself, there being no first moment."""
    return not any(part.role == "first moment" for part in parts)


def split(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The parts that act on the gradient, and those that act on the update and the weights."""
    ends = [i for i, part in enumerate(parts) if part.place in (GRADIENT, MOMENT, RECTIFICATION)]
    cut = ends[-1] + 1 if ends else 0
    return parts[:cut], parts[cut:]
