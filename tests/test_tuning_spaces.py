"""Search spaces and their points: the same points for every optimizer, assigned by name and never by position."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranger21.config import result_values
from ranger21.config.compose import Composer, compose_config, composing
from ranger21.system.errors import UserError
from ranger21.tuning.points import DIMENSIONS, unit_points
from ranger21.tuning.record import Budget, Edge, Trial, Tuned, read_tuned, write_tuned
from ranger21.tuning.space import COLUMNS, SPACES, Choice, LogRange, Space, read_space

OPTIMIZERS = ("adamw", "lion", "muon", "nesterov", "ranger21", "ranger21_official")
POINTS = st.tuples(*[st.floats(0, 1, exclude_max=True)] * DIMENSIONS)


def test_a_shorter_sequence_of_points_is_the_start_of_a_longer_one() -> None:
    longest = unit_points(64)
    assert all(unit_points(count) == longest[:count] for count in (1, 2, 3, 16, 33))
    assert [round(part, 6) for part in longest[0][:4]] == [0.808073, 0.245805, 0.152355, 0.174379]
    for column in zip(*unit_points(16), strict=True):  # one point in each sixteenth of every dimension
        assert sorted(int(part * 16) for part in column) == list(range(16))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_train_accepts_every_choice_and_both_ends_of_a_space(optimizer: str) -> None:
    space, default = read_space(optimizer), compose_config([f"optimizer={optimizer}"])
    assert {path.stem for path in SPACES.glob("*.yaml")} == {*OPTIMIZERS, "chain"}  # test_meta_grammar tests chain's
    assert set(COLUMNS) < set(space.dimensions)
    assert 5 <= len(space.dimensions) <= 6
    seen, composer = [], Composer()
    with composing():
        schedules = len(space.dimensions["schedule"].content())
        for number in range(schedules):
            for other in (0, 0.5, 0.999999):  # each of three choices, and both ends of a range
                part = (number + 0.999999 * (number == schedules - 1)) / schedules
                columns = [part, part, other, part, *[other] * (DIMENSIONS - 4)]
                words = space.overrides(space.values(tuple(columns)))
                config = composer.compose([f"optimizer={optimizer}", *words])
                assert config.optimizer.name == optimizer
                seen.append(result_values(config))
    lr, decay = space.dimensions["optimizer.lr"], space.dimensions["optimizer.weight_decay"]
    assert isinstance(lr, LogRange) and isinstance(decay, LogRange)
    assert lr.high / lr.low == pytest.approx(1000) == decay.high / decay.low
    assert (lr.low * lr.high) ** 0.5 == pytest.approx(default.optimizer.lr, rel=0.1)  # centred on the default
    assert default.schedule.name in {values["schedule.name"] for values in seen}
    assert {"cosine"} < {values["schedule.name"] for values in seen}
    for schedule in {values["schedule.name"] for values in seen}:
        of_it = [values for values in seen if values["schedule.name"] == schedule]
        lengths = {str(values.get("schedule.warmup", 0)) + str(values["schedule.linear_warmup"]) for values in of_it}
        assert len(lengths) == 3, (schedule, lengths)


@given(part=st.floats(0, 1, exclude_max=True), low=st.floats(1e-8, 1), ratio=st.floats(1.1, 1e6))
def test_log_range_is_log_uniform_and_within_bounds(part: float, low: float, ratio: float) -> None:
    value = LogRange(low, low * ratio).at(part)
    assert value == pytest.approx(low * ratio**part, rel=1e-3)
    assert float(f"{value:.4g}") == value  # as it is typed on a command line


@given(point=POINTS, names=st.permutations(["schedule", "optimizer.lr", "warmup", "optimizer.betas", "optimizer.a"]))
def test_the_name_of_a_dimension_decides_its_column(point: tuple[float, ...], names: list[str]) -> None:
    choices = {str(n): (f"optimizer.x={n}",) for n in range(4)}
    dimensions = {name: LogRange(1e-3, 1.0) if name == "optimizer.lr" else Choice(choices) for name in names}
    values = Space("x", dimensions).values(point)
    assert values["optimizer.lr"] == LogRange(1e-3, 1.0).at(point[0])
    assert values["warmup"] == str(int(4 * point[2]))
    assert values["optimizer.a"] == str(int(4 * point[4]))  # the others by the order of their names
    assert Space("x", dimensions).hash == Space("y", dict(sorted(dimensions.items()))).hash
    fewer = {name: one for name, one in dimensions.items() if name != "optimizer.betas"}
    assert Space("x", fewer).values(point).items() <= values.items()


def test_every_optimizer_gets_the_same_points_of_its_own_ranges() -> None:
    spaces = [read_space(optimizer) for optimizer in OPTIMIZERS]
    for point in unit_points(8):
        parts = set()
        for space in spaces:
            rate = space.dimensions["optimizer.lr"]
            assert isinstance(rate, LogRange)
            parts.add(round(math.log10(float(space.values(point)["optimizer.lr"]) / rate.low), 2))
        assert len(parts) == 1
        assert len({space.values(point)["warmup"] for space in spaces}) == 1


def test_a_widened_space_contains_the_old_one_and_has_a_different_hash() -> None:
    space = read_space("adamw")
    for side, ends in (("low", (1e-5, 0.1)), ("high", (1e-4, 1.0))):
        wide = space.widened("optimizer.lr", side)
        assert wide.dimensions["optimizer.lr"] == LogRange(*ends)
        assert wide.hash != space.hash
        assert {**wide.dimensions, "optimizer.lr": None} == {**space.dimensions, "optimizer.lr": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("optimizer.lr: {low: 1, high: 1}", "optimizer.lr: low=1 must be below high=1."),
        ("optimizer.lr: {low: 0, high: 1}", "must be numbers above 0, because the range is log"),
        ("optimizer.lr: {low: 1e-3, high: .inf}", "must be numbers above 0"),
        ("optimizer.lr: {low: 1e-3, high: 1, log: true}", "optimizer.lr is not a valid dimension"),
        ("optimizer.lr: 1e-3", "optimizer.lr is not a valid dimension"),
        ("optimizer.lr: [1e-3]", "needs at least two values, all different"),
        ("optimizer.lr: [1, 1]", "needs at least two values, all different"),
        ("seed: [0, 1]", "seed is not a key that a space may set"),
        ("warmup: [0, 5%]", "warmup is not a key that a space may set, and no choice uses {warmup}."),
        ("data.batch_size: {low: 1, high: 64}", "'data.batch_size=1' is not allowed, because a search space"),
        ("a: {x: [seed=1], y: [seed=2]}", "'seed=1' is not allowed, because a search space"),
        ("a: {x: [schedule], y: []}", "'schedule' is not allowed"),
        ("a: {x: ['schedule.linear_warmup={b}'], y: []}", "a uses {b}, but b has no list of values."),
        ("\n".join(f"optimizer.a{n}: [1, 2]" for n in range(5)), "at most 4 besides optimizer"),
        ("optimizer.lr: [1, 2]\noptimizer.lr: [1, 3]", "duplicate key"),
        ("optimizer.lr: &a [1, 2]\noptimizer.eps: *a", "alias"),
    ],
)
def test_invalid_spaces_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "adamw.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_space("adamw", tmp_path)
    assert words in str(error.value) and "adamw.yaml" in str(error.value)


def test_error_names_the_optimizers_with_a_space() -> None:
    with pytest.raises(
        UserError, match="optimizer=lamb has no search space\\. Optimizers with one: adamw, chain, lion, muon,"
    ):
        read_space("lamb")


@pytest.mark.parametrize("override", ["space=adamw", "+space=adamw", "space.x=1"])
def test_a_run_cannot_choose_a_space(override: str) -> None:
    with pytest.raises((UserError, Exception), match="space"):
        compose_config([override])


def test_the_record_is_read_back_and_errors_in_it_are_reported(tmp_path: Path) -> None:
    trials = [
        Trial(0, 0, 0, {"optimizer.lr": 1e-3}, ("optimizer.lr=0.001",), "x/a", "finished", 80.0),
        Trial(0, 0, 1, {"optimizer.lr": 1.0}, ("optimizer.lr=1.0",), "x/b", "diverged", None),
    ]
    space = {"hash": "0" * 16, "dimensions": {"optimizer.lr": {"low": 1e-3, "high": 1.0}}}
    edges = (Edge("optimizer.lr", "low"),)
    entries = [
        Tuned("x", name, Budget(len(own), 1, 1, 0), ("a=1",), (space,), own, winner, edges)
        for name, own, winner in (("a", tuple(trials), trials[0]), ("b", (trials[1],), None))
    ]
    path = tmp_path / "tuned.json"
    write_tuned(path, entries[::-1])
    assert read_tuned(path) == entries
    assert min(trials, key=lambda trial: trial.rank) == trials[0]
    text = path.read_text()
    for old, new, words in (
        ('"version": 1', '"version": 2', "has version 2, but this code reads version 1"),
        ('"finished"', '"fine"', "has the state 'fine'"),
        ('"diverged"', '"finished"', "has the state 'finished' and the objective None"),
        ('"x/a"', '"/x/a"', "is not in OUTPUTS/tuning"),
        ('"low"\n', '"left"\n', "is damaged"),
        ('"seed": 0', '"seed": null', "is damaged"),
        ('"optimizer": "b"', '"optimizer": "a"', "an experiment has the same optimizer twice"),
        ('"objective": 80.0', '"objective": 800.0', "the objective 800.0"),
        ('"rounds": 1', '"rounds": 2', "different numbers of spaces and rounds"),
        ('"winner": null', f'"winner": {json.dumps(asdict(trials[0]))}', "a winner that is not the best of its trials"),
        ('"optimizer.lr=0.001"', '"run_dir=elsewhere"', "sets something other than optimizer"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=words):
            read_tuned(path)
