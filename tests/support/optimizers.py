"""Optimizers to test, random parameters and gradients for them, and a mode that counts a step's operations."""

from __future__ import annotations

import copy
import functools
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from ranger21 import Ranger21
from ranger21.optim.chain import Chain
from ranger21.optim.lookahead import Lookahead
from ranger21.optim.official import STATES, Ranger21Official

SHAPES = [(4, 3, 3, 3), (5, 6), (4, 1, 1, 1), (2, 3, 4), (7,), (), (3, 2)]
OFF = {
    "agc_clipping": None,
    "centralize": False,
    "pnm": False,
    "stable_decay": None,
    "norm_loss": False,
    "lookahead_k": 0,
}
CHANGES = [
    *OFF.items(),
    ("betas", (0.8, 0.999)),
    ("betas", (0.9, 0.9)),
    ("pnm_beta", 0.5),
    ("eps", 1e-3),
    ("weight_decay", 0.0),
    ("weight_decay", 1e-2),
    ("agc_clipping", 1e-3),
    ("agc_eps", 0.1),
    ("stable_decay", "global"),
    ("lookahead_k", 3),
    ("lookahead_beta", 0.8),
]
ADAMW = ["first_moment", "second_moment", "decay"]
RANGER = [
    "centralize",
    {"name": "first_moment", "beta1": 0.95},
    {"name": "second_moment", "eps": 1e-5},
    "rectify",
    "decay",
    {"name": "lookahead", "k": 6},
]
LAMB = ["first_moment", {"name": "second_moment", "eps": 1e-6}, "l2", "trust_ratio"]
RANGER21 = [
    "agc",
    "centralize",
    "pnm",
    {"name": "second_moment", "running_max": True},
    {"name": "decay", "stable": "layer", "norm_loss": True},
    "lookahead",
]
PARATROOPER = [
    *("first_moment", "second_moment", "rectify"),
    {"name": "trust_ratio", "of_step": True, "clamp": "paratrooper"},
    *("decay", "lookahead"),
]
CHAINS: dict[str, Any] = {
    "sgd": [],
    "adamw": ADAMW,
    "ranger": RANGER,
    "lamb": LAMB,
    "lars": ["l2", {"name": "trust_ratio", "coefficient": 0.1, "eps": 1e-3}, "first_moment"],
    "paratrooper": PARATROOPER,
    "ranger21": RANGER21,
    "global": [{"name": "decay", "stable": "global"} if "stable" in part else part for part in RANGER21],
    "no first moment": ["agc", "centralize", "second_moment", {"name": "decay", "stable": "global"}, "lookahead"],
    "nesterov, cautious": ["nesterov_moment", "second_moment", "cautious", "decay", "lookahead"],
    "muon": {
        "matrices": ["nesterov_moment", {"name": "orthogonalize", "scale": "rms"}, "decay"],
        "vectors": ADAMW,
    },
    "normalized": ["normalize", "pnm", {"name": "second_moment", "softplus": 50.0}, "lookahead"],
}
SYNCS = (
    *("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "allclose", "masked_select", "_unique2"),
    *("index", "index_put_"),  # with a mask as the index
)


def random_params(shapes: Sequence[tuple[int, ...]] = SHAPES, seed: int = 0, scale: float = 1.0) -> list[Parameter]:
    """Return random parameters in float64; a parameter with the last shape of `SHAPES` is zero."""
    rng = np.random.default_rng(seed)
    return [Parameter(torch.tensor(rng.normal(size=s) * scale * (s != SHAPES[-1]))) for s in shapes]


def random_grads(shapes: Sequence[tuple[int, ...]] = SHAPES, steps: int = 50, seed: int = 1) -> list[list[np.ndarray]]:
    """Return the gradients of each step; their size varies by a factor of 1,000."""
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=s) * 10.0 ** (-(t % 4)) for s in shapes] for t in range(steps)]


def walk(optimizer: Optimizer, params: list[Parameter], steps: Iterable[int], sparse: bool = True) -> list[Tensor]:
    """Take steps; return copies of the parameters.

    With `sparse`, the last parameter but one has no gradient in every third step.
    """
    for step in steps:
        rng = np.random.default_rng(step)
        for i, param in enumerate(params):
            grad = torch.as_tensor(rng.normal(size=param.shape) * 10.0 ** (-(step % 4)), dtype=param.dtype)
            param.grad = None if sparse and i == len(params) - 2 and step % 3 == 0 else grad
        optimizer.step()
    return [param.detach().clone() for param in params]


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference between two elements, or infinity if an element is not finite."""
    largest = max(float((x.detach() - y.detach()).abs().max()) for x, y in zip(a, b, strict=True))
    return largest if math.isfinite(largest) else math.inf


def largest_distance(
    ours: Callable[[list[Parameter]], Optimizer],
    theirs: Callable[[list[Parameter]], Optimizer],
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    steps: int = 50,
) -> float:
    """Return the largest distance between two optimizers over `steps` steps with equal gradients and a falling rate."""
    sides = [(params, make(params)) for make in (ours, theirs) for params in [random_params(shapes)]]
    rates = [[group["lr"] for group in optimizer.param_groups] for _, optimizer in sides]
    largest = 0.0
    for t, grads in enumerate(random_grads(shapes, steps)):
        for (params, optimizer), base in zip(sides, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * (1 - t / (2 * steps))
            take_step(optimizer, params, [grad.copy() for grad in grads])
        largest = max(largest, distance(sides[0][0], sides[1][0]))
    assert distance(sides[0][0], random_params(shapes)) > 0.02, "nothing moved"
    return largest


def resumes_exactly(
    make: Callable[[list[Parameter]], Optimizer],
    start: list[Parameter],
    stop: int,
    end: int,
    walk: Callable[..., list[Tensor]] = walk,
) -> bool:
    """Return whether saving after `stop` steps and resuming in a new optimizer leads to the same parameters."""
    whole = walk(make(params := copy.deepcopy(start)), params, range(end))
    optimizer = make(params := copy.deepcopy(start))
    walk(optimizer, params, range(stop))
    file = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = make(saved["params"])
    resumed.load_state_dict(saved["optimizer"])
    return same(walk(resumed, saved["params"], range(stop, end)), whole)


def chain(parts: Iterable[Any], lr: float = 1e-2, **kwargs: Any) -> Callable[[list[Parameter]], Chain]:
    """Return a function that makes a chain for given parameters."""
    return lambda params: Chain(params, lr, parts, **kwargs)


# Every optimizer that this project implements.
OWN_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "ranger21": Ranger21,
    "ranger21, global": functools.partial(Ranger21, stable_decay="global", weight_decay=0.1),
    **{f"official, {one}": functools.partial(Ranger21Official, state=one) for one in STATES},
    **{
        f"chain, {name}": functools.partial(Chain, lr=1e-2, parts=parts, weight_decay=0.1)
        for name, parts in CHAINS.items()
    },
}
LOOKAHEADS: dict[str, Callable[..., Optimizer]] = {  # Lookahead around torch's optimizers
    "lookahead, sgd": lambda params, **more: Lookahead(torch.optim.SGD(params, lr=0.05, momentum=0.9, **more)),
    "lookahead, adamw": lambda params, **more: Lookahead(torch.optim.AdamW(params, lr=0.02, **more)),
}
# docs/optimizers.md may promise sharding and compilation only for the optimizers listed here:
SHARDED = OWN_OPTIMIZERS | LOOKAHEADS  # tested in test_sharded.py
COMPILED = OWN_OPTIMIZERS | LOOKAHEADS  # tested in test_user_compile.py


class Operations(TorchDispatchMode):
    """Count ATen operations by name; raise on one that would make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names[name] += 1
        if name in SYNCS:
            raise RuntimeError(f"{name} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


def make_params(dtype: torch.dtype = torch.float64) -> list[Parameter]:
    """Return parameters of all `SHAPES`; the last is zero."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) * (shape != SHAPES[-1]) for shape in SHAPES]
    return [Parameter(torch.tensor(array, dtype=dtype)) for array in arrays]


def make_grads(steps: int) -> list[list[np.ndarray]]:
    """Return gradients whose size varies from step to step, so that v differs from its running maximum."""
    rng = np.random.default_rng(1)
    return [[rng.normal(size=shape) * (1.0, 0.01, 0.1)[t % 3] for shape in SHAPES] for t in range(steps)]


def take_step(optimizer: torch.optim.Optimizer, params: list[Parameter], grads: list) -> None:
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.as_tensor(grad, dtype=param.dtype)
    optimizer.step()


def largest_error(params: list[Parameter], expected: list) -> float:
    errors = [np.abs(p.detach().double().numpy() - e).max() for p, e in zip(params, expected, strict=True)]
    return float(np.max(errors))
