"""Ranges and durations as type annotations: a schedule is a function, and each hyperparameter has one range."""

from dataclasses import fields, replace
from typing import Annotated, Any, get_type_hints

import pytest
import torch

from ranger21.config.compose import compose_config
from ranger21.config.optimizers import OPTIMIZERS
from ranger21.config.schedules import settings_of
from ranger21.engine.course import Course
from ranger21.optim import Ranger21
from ranger21.optim.ranges import AGC_CLIPPING, CHAIN, OFFICIAL, RANGER21, Range, below, one_of, or_none
from ranger21.optim.schedules import BASE_RATE, SCHEDULES, Length, arguments, schedule
from ranger21.run.optimizers import build_schedule
from ranger21.system.errors import UserError

COURSE = Course(80, 16, 10)  # 5 steps per epoch, 50 in total


def halving(
    step: int, total_steps: int, *, period: Annotated[float, Length()], floor: Annotated[float, BASE_RATE]
) -> float:
    return max(0.5 ** (step // period), floor)


def test_a_new_schedule_needs_only_an_annotated_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotations define the schedule's durations, its ranges and which argument is a learning rate."""
    monkeypatch.setitem(SCHEDULES, "halving", halving)
    config: Any = settings_of("halving", arguments(halving))("halving", "0", "20%", 0.001)  # type: ignore[call-arg]

    def rates(scale: float = 1.0, **changed: Any) -> list[float]:
        multiplier = build_schedule(replace(config, **changed), COURSE, scale)
        return [multiplier(step, 50) for step in range(1, 51)]

    assert rates()[9:20:10] == [0.5, 0.25] and rates()[-1] == 0.5**5
    assert rates(period="2 epochs") == rates(period="10") == rates()
    assert min(rates(2.0, floor=0.2)) == 0.4
    for key, value in (("period", "0"), ("period", "x"), ("floor", -1.0)):
        with pytest.raises(UserError, match=rf"^schedule\.{key}={value} is invalid"):
            replace(config, **{key: value})


def test_an_argument_without_a_range_is_refused_when_the_schedule_is_defined() -> None:
    """A duration would be taken for a number, and the first run with the schedule would end in a traceback."""

    def forgetful(step: int, total_steps: int, *, every: float) -> float:
        return 0.5 ** (step // every)

    with pytest.raises(TypeError, match=r"^forgetful: annotate every with a Range or a Length\.$"):
        schedule("forgetful")(forgetful)
    assert "forgetful" not in SCHEDULES


def test_a_schedule_refuses_values_outside_its_ranges() -> None:
    checked = schedule("halving")(halving)
    try:
        for key, value in (("period", 0), ("period", None), ("floor", 0.0)):
            with pytest.raises(ValueError, match=rf"^{key} = {value} must be a number above 0\.$"):
                checked(1, 10, **{"period": 1, "floor": 0.1, key: value})
    finally:
        del SCHEDULES["halving"]


@pytest.mark.parametrize(("name", "ranges"), [("ranger21", RANGER21), ("ranger21_official", OFFICIAL)])
def test_configuration_and_optimizer_have_the_same_ranges(name: str, ranges: dict[str, Range]) -> None:
    """Limits of float32 and of step counts exist only in the configuration; flags are checked by their type."""
    hints = get_type_hints(OPTIMIZERS[name], include_extras=True)
    own = {one.name for one in fields(OPTIMIZERS[name])} & ranges.keys()
    assert own == ranges.keys() >= CHAIN.keys()
    for key in own:
        values = [-1, 0, 0.5, 1, 1.0, 5, None, "layer", "x", (0.9, 0.99), [0.9, 1], [0.9]]
        marks = [one for one in getattr(hints[key], "__metadata__", ()) if isinstance(one, Range)]
        assert marks or hints[key] is bool
        for mark in marks:
            assert [mark.has(value) for value in values] == [ranges[key].has(value) for value in values], key


def test_ranger21_and_the_configuration_give_a_bad_argument_the_same_name() -> None:
    for key, value in (("pnm_beta", -1.0), ("agc_clipping", 0.0), ("stable_decay", "x"), ("lookahead_k", -1)):
        with pytest.raises(ValueError, match=f"^Ranger21: {key} = .* must be "):
            Ranger21([torch.nn.Parameter(torch.ones(2))], **{key: value})  # type: ignore[arg-type]
        with pytest.raises(UserError, match=rf"^optimizer\.{key}={value} is invalid: it must be "):
            compose_config([f"optimizer.{key}={value}"])


def test_composed_ranges_describe_themselves() -> None:
    assert or_none(AGC_CLIPPING).words == "a number above 0, or None" and or_none(AGC_CLIPPING).has(None)
    assert below(AGC_CLIPPING, 5).words == "a number above 0 and below 5" and not below(AGC_CLIPPING, 5).has(5)
    assert one_of("a", "b", None).words == "one of 'a', 'b' or None"
