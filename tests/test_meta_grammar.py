"""The chains that scripts/compose.py searches: exactly those that the ingredients permit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranger21.config.compose import compose_config
from ranger21.meta import grammar
from ranger21.meta.arms import Arms
from ranger21.meta.features import Features
from ranger21.meta.space import NONE, Arm, Space
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients import ALL
from ranger21.optim.ingredients.base import GradientTransform, Place, argument
from ranger21.optim.ranges import ABOVE_0
from ranger21.optim.recipe import MOMENTS, Recipe, describe
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors
from ranger21.system.errors import UserError

SPACE = Space(grammar.slots(), grammar.is_chain, {})
SEEDS = st.integers(0, 2**32 - 1)


def random_arm(seed: int) -> Arm:
    return SPACE.random(np.random.default_rng(seed))


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_sampled_chain_takes_a_step(seed: int) -> None:
    """A matrix and a vector change, and stay finite."""
    params = [torch.ones(3, 4, requires_grad=True), torch.ones(5, requires_grad=True)]
    optimizer = Chain(params, lr=1e-3, parts=grammar.parts(random_arm(seed)), weight_decay=1e-2)
    for param in params:
        param.grad = torch.linspace(-1, 2, param.numel()).view_as(param)
    optimizer.step()
    assert all(param.isfinite().all() and not (param == 1).all() for param in params)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_every_valid_chain_can_be_sampled(data: st.DataObject) -> None:
    """A chain made of any ingredients, without the slots, is valid exactly if it is an arm of the space."""
    chosen = data.draw(st.lists(st.sampled_from(ALL), unique=True, max_size=8))
    ones = [(kind(), data.draw(st.sampled_from(["gradient", "update"]))) for kind in chosen]

    def rank(one: tuple[grammar.Ingredient, str]) -> tuple[int, str]:
        before = one[0].place == Place.ANYWHERE and one[1] == "gradient"
        return int(Place.GRADIENT if before else one[0].place), one[0].name

    ordered = [one for one, _ in sorted(ones, key=rank)]
    on_gradient = any(one.place == Place.ANYWHERE and where == "gradient" for one, where in ones)
    try:
        Recipe(tuple(ordered))
        valid = not on_gradient or any(one.place in MOMENTS for one in ordered)
    except ValueError:
        valid = False
    slots = [one.role or one.name for one in ordered]
    arm: dict[str, str] = dict.fromkeys(SPACE.slots, NONE)
    for one, where in ones:
        name = f"{one.name} of {where}" if one.place == Place.ANYWHERE else one.name
        arm[one.role or one.name] = name
    if len(set(slots)) < len(slots):
        assert not valid  # two ingredients of one role
        return
    assert SPACE.is_valid(arm) == valid
    if valid:
        assert describe(grammar.chain(arm)) == describe(ordered)
        assert all(arm[slot] in {option.label for option in SPACE.slots[slot]} for slot in SPACE.slots)


def test_every_option_of_every_slot_occurs() -> None:
    """All but the clamp that needs both moments before the trust ratio, where that acts on the gradient."""
    rng = np.random.default_rng(0)
    found = {label for _ in range(3000) for label in SPACE.random(rng).values()}
    never = {option.label for options in SPACE.slots.values() for option in options} - found
    assert len(never) == 2 and all("of gradient" in label and "paratrooper" in label for label in never)


@dataclass(frozen=True)
class Halve(GradientTransform):
    """A user's own ingredient, with an argument of which two values are tried."""

    name, place = "halve", Place.GRADIENT
    factor: float = argument(0.5, ABOVE_0, tried=(0.25,))

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [self.factor * x for x in xs]


@pytest.fixture
def with_halve(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(grammar, "ALL", (*ALL, Halve))
    grammar.variants.cache_clear()
    yield
    grammar.variants.cache_clear()


@pytest.mark.usefixtures("with_halve")
def test_a_users_ingredient_is_in_the_search_without_a_further_line() -> None:
    options = grammar.slots()["halve"]
    assert [option.label for option in options] == [NONE, "halve", "halve factor=0.25"]


@pytest.mark.usefixtures("with_halve")
def test_an_ingredient_that_cannot_be_searched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with the name of a schedule, and one whose `tried` is out of range."""
    monkeypatch.setattr(Halve, "name", "cosine")
    with pytest.raises(UserError, match="Two parts of the search space are named 'cosine': rename your ingredient"):
        Features(Arms().space, 4)
    grammar.variants.cache_clear()
    (factor,) = fields(Halve)
    monkeypatch.setattr(factor, "metadata", {**factor.metadata, "tried": (-1.0,)})
    with pytest.raises(UserError, match=r"`tried`, in ranger21/optim/ingredients, is invalid: cosine: factor = -1\.0"):
        grammar.slots()


def test_an_arm_is_a_line_for_train() -> None:
    """The arguments compose to the arm's chain, schedule and rates; without an ingredient that decays, lambda is 0."""
    arms, rng = Arms(), np.random.default_rng(3)
    seen = set()
    for _ in range(12):
        arm = arms.space.random(rng)
        config = compose_config(["experiment=fashion_mnist", "optimizer=chain", *arms.overrides(arm)])
        parts = config.optimizer.parts
        assert (parts["matrices"] if isinstance(parts, dict) else parts) == describe(grammar.chain(arm))
        assert config.optimizer.lr == float(arm["optimizer.lr"]) and config.schedule.name == arm["schedule"]
        decays = grammar.decays(arm)
        assert config.optimizer.weight_decay == (float(arm["optimizer.weight_decay"]) if decays else 0)
        seen.add((isinstance(parts, dict), decays))
    assert len(seen) == 4  # lists and mappings, with and without decay


def test_the_key_of_an_arm_leaves_out_what_has_no_effect() -> None:
    arms = Arms()
    arm = dict(arms.space.random(np.random.default_rng(0)))
    arm["decay"] = NONE
    others = [{**arm, "optimizer.weight_decay": o.label} for o in arms.space.slots["optimizer.weight_decay"]]
    assert len({arms.space.key(other) for other in others}) == 1
    decaying = [{**other, "decay": "decay"} for other in others]
    assert len({arms.space.key(other) for other in decaying}) == len(others)
