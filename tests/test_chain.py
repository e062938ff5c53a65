"""Chains: every ingredient and argument has an effect, Ranger21 is a chain, impossible chains are refused."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from support.optimizers import ADAMW, CHAINS, CHANGES, RANGER21, distance, random_params, same, walk
from torch import Tensor
from torch.nn import Parameter

from ranger21 import Ranger21
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients import ALL, INGREDIENTS
from ranger21.optim.ingredients.base import Place
from ranger21.optim.recipe import describe, read

# For each argument of each ingredient: a value other than the default, and the ingredients that give it an effect.
ARGUMENTS = [
    ("agc", "clipping", 1e-3, []),
    ("agc", "eps", 0.1, []),
    ("normalize", "eps", 0.1, ["first_moment"]),
    ("first_moment", "beta1", 0.8, []),
    ("pnm", "beta1", 0.8, []),
    ("pnm", "beta0", 0.5, []),
    ("second_moment", "beta2", 0.99, []),
    ("second_moment", "eps", 1e-3, []),
    ("second_moment", "running_max", True, []),
    ("second_moment", "softplus", 50.0, []),
    ("trust_ratio", "coefficient", 0.5, ["first_moment"]),
    ("trust_ratio", "eps", 0.1, ["first_moment"]),
    ("trust_ratio", "of_step", True, ["first_moment"]),
    ("trust_ratio", "clamp", "ten", ["first_moment"]),
    ("trust_ratio", "clamp", "paratrooper", ["first_moment", "second_moment"]),
    ("decay", "stable", "layer", ["second_moment"]),
    ("decay", "stable", "global", ["second_moment"]),
    ("decay", "norm_loss", True, []),
    ("lookahead", "k", 3, []),
    ("lookahead", "beta", 0.8, []),
    ("nesterov_moment", "beta1", 0.8, []),
    ("cautious", "least", 0.7, ["first_moment"]),
    ("orthogonalize", "steps", 3, ["first_moment"]),
    ("orthogonalize", "scale", "rms", ["first_moment"]),
]
PRESENCE = [
    ("agc", []),
    ("centralize", []),
    ("normalize", []),
    ("first_moment", []),
    ("pnm", []),
    ("second_moment", ["first_moment"]),
    ("rectify", ["first_moment", "second_moment"]),
    ("l2", []),
    ("trust_ratio", []),
    ("decay", []),
    ("lookahead", []),
    ("nesterov_moment", []),
    ("cautious", ["first_moment"]),
    ("orthogonalize", ["first_moment"]),
]


def end(parts: list[Any], lr: float = 1e-2, **kwargs: Any) -> list[Tensor]:
    """Return the parameters after eleven steps from a fixed start."""
    params = random_params()
    return walk(Chain(params, lr, for_all(parts), **{"weight_decay": 0.1} | kwargs), params, range(11))


def for_all(parts: Any) -> Any:
    """Return parts that suit every parameter: only matrices get `orthogonalize`."""
    parts = list(parts) if isinstance(parts, list) else parts
    names = [part if isinstance(part, str) else part["name"] for part in parts] if isinstance(parts, list) else []
    if "orthogonalize" not in names:
        return parts
    rest = [part for part, name in zip(parts, names, strict=True) if name != "orthogonalize"]
    return {"matrices": parts, "vectors": rest}


# Every part and every argument


def test_the_lists_above_cover_every_ingredient_and_argument() -> None:
    assert {name for name, _ in PRESENCE} == set(INGREDIENTS)
    arguments = {(part.name, field.name) for part in ALL for field in dataclasses.fields(part)}
    assert {(name, argument) for name, argument, *_ in ARGUMENTS} == arguments


def placed(name: str, before: list[str], item: Any) -> list[Any]:
    return [item, *before] if INGREDIENTS[name].place == Place.GRADIENT else [*before, item]


@pytest.mark.parametrize(("name", "before"), PRESENCE)
def test_every_ingredient_changes_the_result(name: str, before: list[str]) -> None:
    assert distance(end(placed(name, before, name)), end(before)) > 1e-6


@pytest.mark.parametrize(("name", "argument", "value", "before"), ARGUMENTS)
def test_every_argument_changes_the_result(name: str, argument: str, value: object, before: list[str]) -> None:
    changed = end(placed(name, before, {"name": name, argument: value}))
    assert distance(changed, end(placed(name, before, name))) > 1e-6


def test_learning_rate_and_weight_decay_change_the_result() -> None:
    base = end(ADAMW)
    assert distance(end(ADAMW, lr=2e-2), base) > 1e-3
    assert distance(end(ADAMW, weight_decay=0.2), base) > 1e-3
    assert same(end(ADAMW, weight_decay=0.0), end(ADAMW[:2])), "with weight decay 0, decay does nothing"
    assert same(end(["l2"], weight_decay=0.0), end([]))


@pytest.mark.parametrize("parts", CHAINS.values(), ids=CHAINS)
def test_a_learning_rate_of_0_moves_nothing(parts: list[Any]) -> None:
    assert distance(end(parts, lr=0.0), random_params()) < 1e-15


def test_the_position_of_l2_and_trust_ratio_changes_the_result() -> None:
    """Depending on their position, these ingredients act on the gradient or on the update."""
    moments = ["first_moment", "second_moment"]
    for name in ("l2", "trust_ratio"):
        ends = [end([*moments[:i], name, *moments[i:]]) for i in range(3)]
        assert all(distance(a, b) > 1e-6 for a, b in itertools.combinations(ends, 2)), name


def rung(has: set[str]) -> list[Any]:
    """Return the chain of AdamW with some of Ranger21's ingredients."""
    return [
        *(name for name in ("agc", "centralize") if name in has),
        "pnm" if "pnm" in has else "first_moment",
        {"name": "second_moment", "running_max": "pnm" in has},
        {"name": "decay", "stable": "layer" if "stable" in has else None, "norm_loss": "norm_loss" in has},
        *(name for name in ("lookahead",) if name in has),
    ]


def test_all_steps_of_the_ablation_ladder_differ() -> None:
    """AdamW, AdamW with each ingredient, Ranger21 without each, and Ranger21 with either scope of stable decay."""
    every = {"agc", "centralize", "pnm", "stable", "norm_loss", "lookahead"}
    rungs = {"adamw": rung(set()), "ranger21": rung(every)}
    rungs |= {f"adamw + {name}": rung({name}) for name in every}
    rungs |= {f"ranger21 - {name}": rung(every - {name}) for name in every}
    rungs["global"] = [
        {"name": "decay", "stable": "global", "norm_loss": True} if "stable" in part else part
        for part in rungs["ranger21"]
    ]
    assert len(rungs) == 15
    assert read(rungs["ranger21"]) == read(RANGER21)
    assert read(rungs["adamw"]) == read(ADAMW)
    ends = {name: end(parts) for name, parts in rungs.items()}
    for a, b in itertools.combinations(ends, 2):
        assert distance(ends[a], ends[b]) > 1e-7, (a, b)


# Ranger21 as a chain


def as_chain(
    betas: tuple[float, float] = (0.9, 0.999),
    pnm_beta: float = 0.9,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    agc_clipping: float | None = 1e-2,
    agc_eps: float = 1e-3,
    centralize: bool = True,
    pnm: bool = True,
    stable_decay: str | None = "layer",
    norm_loss: bool = True,
    lookahead_k: int = 5,
    lookahead_beta: float = 0.5,
) -> dict[str, Any]:
    """Return the chain that equals Ranger21 with these arguments."""
    first = (
        {"name": "pnm", "beta1": betas[0], "beta0": pnm_beta} if pnm else {"name": "first_moment", "beta1": betas[0]}
    )
    parts = [
        agc_clipping and {"name": "agc", "clipping": agc_clipping, "eps": agc_eps},
        centralize and {"name": "centralize"},
        first,
        {"name": "second_moment", "beta2": betas[1], "eps": eps, "running_max": pnm},
        {"name": "decay", "stable": stable_decay, "norm_loss": norm_loss},
        lookahead_k and {"name": "lookahead", "k": lookahead_k, "beta": lookahead_beta},
    ]
    return {"parts": [part for part in parts if part], "weight_decay": weight_decay}


@pytest.mark.parametrize("changes", [{}, *({name: value} for name, value in CHANGES)], ids=str)
def test_ranger21_equals_its_chain_bit_for_bit(changes: dict[str, Any]) -> None:
    ours, theirs = random_params(), random_params()
    a = walk(Ranger21(ours, lr=1e-2, **changes), ours, range(11))
    b = walk(Chain(theirs, lr=1e-2, **as_chain(**changes)), theirs, range(11))
    assert same(a, b)
    assert distance(a, random_params()) > 1e-3


# Descriptions


LISTS = {name: parts for name, parts in CHAINS.items() if isinstance(parts, list)}


@pytest.mark.parametrize("parts", LISTS.values(), ids=LISTS)
def test_short_and_long_descriptions_of_a_chain_are_equivalent(parts: list[Any]) -> None:
    long = describe(parts)
    assert all(set(item) == {"name", *(f.name for f in dataclasses.fields(INGREDIENTS[item["name"]]))} for item in long)
    assert same(end(long), end(parts))
    assert same(end(read(parts)), end(parts)), "ingredient objects are accepted too"
    assert same(end(iter(parts)), end(parts)), "any iterable is accepted"
    assert Chain([Parameter(torch.ones(1))], 0.1, parts).param_groups[0]["parts"] == long


@pytest.mark.parametrize("kind", [iter, read])
def test_param_groups_store_a_chain_as_plain_data(kind: Any) -> None:
    """A group keeps no iterator, which could be read only once, and no objects, which a checkpoint may not hold."""
    optimizer = Chain([{"params": [Parameter(torch.ones(1))], "parts": kind(RANGER21)}], 0.1, [])
    assert read(optimizer.param_groups[0]["parts"]) == read(RANGER21)
    assert all(isinstance(item, str | dict) for item in optimizer.param_groups[0]["parts"])


# Refusals: the parts, and words of the error message.
CLASHES = [
    (["first_moment", "pnm"], ("first_moment", "pnm", "clash")),
    (["pnm", "first_moment"], ("pnm", "first_moment", "clash")),
    (["first_moment", "first_moment"], ("first_moment and first_moment clash",)),
    (["second_moment", "second_moment"], ("second_moment and second_moment clash",)),
    (["second_moment", "rectify", "rectify"], ("rectify and rectify clash",)),
    (["l2", "first_moment", "decay"], ("l2", "decay", "clash")),
    (["decay", "decay"], ("decay and decay clash",)),
    (["trust_ratio", "trust_ratio"], ("trust_ratio and trust_ratio clash",)),
    (["lookahead", "lookahead"], ("lookahead and lookahead clash",)),
    (["first_moment", "agc"], ("agc", "first_moment", "before")),
    (["first_moment", "second_moment", "centralize"], ("centralize", "second_moment", "before")),
    (["pnm", "normalize"], ("normalize", "pnm", "before")),
    (["rectify"], ("rectify", "second_moment", "directly after")),
    (["first_moment", "rectify"], ("rectify", "second_moment", "directly after")),
    (["rectify", "second_moment"], ("rectify", "second_moment", "directly after")),
    (["second_moment", "rectify", "first_moment"], ("rectify", "second_moment", "directly after")),
    (["second_moment", "trust_ratio", "rectify"], ("rectify", "second_moment", "directly after")),
    ([{"name": "second_moment", "running_max": True}, "rectify"], ("rectify", "running_max", "clash")),
    (["decay", "agc"], ("agc", "after decay", "before")),
    (["decay", "first_moment"], ("first_moment", "after decay", "before")),
    (["decay", "trust_ratio"], ("trust_ratio", "after decay", "before")),
    (["lookahead", "l2"], ("l2", "after lookahead", "before")),
    (["lookahead", "decay"], ("decay", "after lookahead", "before")),
    ([{"name": "decay", "stable": "layer"}], ("decay", "stable", "second_moment")),
    (["first_moment", {"name": "decay", "stable": "global"}], ("decay", "stable", "second_moment")),
    ([{"name": "trust_ratio", "clamp": "paratrooper"}], ("trust_ratio", "paratrooper", "moments")),
    (["second_moment", {"name": "trust_ratio", "clamp": "paratrooper"}], ("trust_ratio", "paratrooper", "moments")),
    (
        [{"name": "trust_ratio", "clamp": "paratrooper"}, "first_moment", "second_moment"],
        ("trust_ratio", "paratrooper", "moments", "before"),
    ),
    (["cautious", "first_moment"], ("cautious", "first_moment", "after")),
    (["second_moment", "orthogonalize", "pnm"], ("orthogonalize", "pnm", "after")),
    (["first_moment", "cautious", "cautious"], ("cautious and cautious clash",)),
    (["first_moment", "nesterov_moment"], ("first_moment and nesterov_moment clash",)),
]
NONSENSE = [
    (["sgd"], ("sgd", "agc", "lookahead")),
    ([5], ("5", "agc", "lookahead")),
    ([{"clipping": 1.0}], ("clipping", "agc", "lookahead")),
    ([None], ("None", "agc", "lookahead")),
    ([{"name": "agc", "tau": 1.0}], ("agc", "tau", "clipping", "eps")),
    ([{"name": "rectify", "eps": 1.0}], ("rectify", "eps", "no arguments")),
    ([{"name": "agc", "lr": 1.0}], ("agc", "lr")),
    ({"matrices": ["agc"]}, ("matrices", "vectors")),
    ({"matrices": ["agc"], "vectors": [], "scalars": []}, ("scalars",)),
    ({"matrices": ["agc"], "vectors": ["sgd"]}, ("sgd", "agc", "lookahead")),
    (["orthogonalize"], ("orthogonalize", "(2,)", "vectors")),
    ("agc", ("agc", "list of ingredients")),
]


@pytest.mark.parametrize(("parts", "words"), [*CLASHES, *NONSENSE], ids=str)
def test_impossible_chains_are_refused(parts: list[Any], words: tuple[str, ...]) -> None:
    """The constructor and add_param_group refuse them, and the latter leaves the optimizer unchanged."""
    optimizer = Chain([Parameter(torch.ones(2))], 0.1, ADAMW)
    attempts = [
        lambda: Chain([Parameter(torch.ones(2))], 0.1, parts),
        lambda: Chain([{"params": [Parameter(torch.ones(2))], "parts": parts}], 0.1, ADAMW),
        lambda: optimizer.add_param_group({"params": [Parameter(torch.ones(2))], "parts": parts}),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError) as error:
            attempt()
        assert all(word in str(error.value) for word in words), str(error.value)
    assert len(optimizer.param_groups) == 1


BAD = {
    **dict.fromkeys(
        [("agc", "clipping"), ("agc", "eps"), ("normalize", "eps")], (0, -1.0, math.nan, math.inf, "1", None)
    ),
    **dict.fromkeys(
        [("first_moment", "beta1"), ("pnm", "beta1"), ("second_moment", "beta2"), ("lookahead", "beta")],
        (-0.1, 1, 1.5, math.nan, "0.9", None),
    ),
    **dict.fromkeys([("pnm", "beta0"), ("second_moment", "eps"), ("trust_ratio", "eps")], (-1.0, math.nan, "1", None)),
    **dict.fromkeys(
        [("second_moment", "running_max"), ("trust_ratio", "of_step"), ("decay", "norm_loss")], (0, 1, "yes", None)
    ),
    ("second_moment", "softplus"): (0, -1.0, math.inf, "50", True),
    ("trust_ratio", "coefficient"): (0, -1.0, math.nan, "1", None),
    ("trust_ratio", "clamp"): ("eleven", 10, True),
    ("decay", "stable"): ("layers", True, False),
    ("nesterov_moment", "beta1"): (-0.1, 1, "0.9"),
    ("cautious", "least"): (0, -1.0, "1", None),
    ("orthogonalize", "steps"): (0, 2.5, "5", True, None),
    ("orthogonalize", "scale"): ("large", None, 1.0),
    ("lookahead", "k"): (0, -1, 2.5, math.nan, "5", True, None),
}


def test_bad_values_are_listed_for_every_argument() -> None:
    assert set(BAD) == {(part.name, field.name) for part in ALL for field in dataclasses.fields(part)}


@pytest.mark.parametrize(("name", "argument"), BAD)
def test_values_out_of_range_are_refused_by_name(name: str, argument: str) -> None:
    for value in BAD[name, argument]:
        with pytest.raises(ValueError) as error:
            Chain([Parameter(torch.ones(2, 2))], 0.1, ["second_moment", {"name": name, argument: value}])
        assert str(error.value).startswith(f"{name}: {argument} = {value!r} must be ")


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_bad_learning_rates_and_weight_decays_are_refused_by_name(name: str) -> None:
    for value in (-0.1, math.nan, math.inf, "1", None):
        with pytest.raises(ValueError) as error:
            Chain([Parameter(torch.ones(2))], **{"lr": 0.1, "parts": ADAMW} | {name: value})
        assert str(error.value).startswith(f"Chain: {name} = {value!r} must be ")
