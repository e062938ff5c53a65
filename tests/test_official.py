"""The authors' released code: golden trajectories of its two versions, and its differences from Algorithm 4."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.optimizers import largest_error, random_params, resumes_exactly, same, take_step, walk
from torch import Tensor
from torch.nn import Parameter

from ranger21.optim.official import STATES, Ranger21Official
from ranger21.optim.schedules import official

FILES = {state: Path(__file__).with_name("golden") / f"official-{state}.npz" for state in STATES}


def follow(golden: np.lib.npyio.NpzFile, state: str, **kwargs: float) -> float:
    """Return the largest distance from the golden trajectory, at that trajectory's learning rates."""
    names = golden["order"]
    params = [Parameter(torch.tensor(golden[f"init.{name}"])) for name in names]
    optimizer = Ranger21Official(params, lr=float(golden["lr"]), state=state, **kwargs)
    largest = 0.0
    for t, lr in enumerate(golden["effective_lr"]):
        optimizer.param_groups[0]["lr"] = float(lr)
        take_step(optimizer, params, [golden[f"grad.{name}"][t] for name in names])
        largest = max(largest, largest_error(params, [golden[f"param.{name}"][t] for name in names]))
    return largest


@pytest.mark.parametrize("state", STATES)
def test_golden_trajectory(state: str) -> None:
    golden = np.load(FILES[state])
    assert golden["effective_lr"].shape == (40,)
    assert follow(golden, state) < 1e-9


@pytest.mark.parametrize("state", STATES)
def test_every_ingredient_affects_the_golden_trajectory(state: str) -> None:
    """Changing any argument, or the version, changes the weights by far more than the tolerance."""
    golden = np.load(FILES[state])
    changes = {
        "betas": (0.8, 0.99),
        "eps": 1e-4,
        "weight_decay": 0.1,
        "agc_clipping": 1.0,
        "agc_eps": 1.0,
        "lookahead_k": 6,
        "lookahead_beta": 0.6,
    }
    for name, value in changes.items():
        assert follow(golden, state, **{name: value}) > 1e-7, name
    assert follow(golden, next(other for other in STATES if other != state)) > 1e-7


@pytest.mark.parametrize("state", STATES)
def test_the_schedule_gives_the_learning_rates_of_the_golden_file(state: str) -> None:
    golden = np.load(FILES[state])
    kwargs, lr = json.loads(str(golden["kwargs"])), float(golden["lr"])
    assert kwargs["num_epochs"] * kwargs["num_batches_per_epoch"] == 40
    rates = [official(step, 40, lr=lr) * lr for step in range(1, 41)]
    assert rates == pytest.approx(golden["effective_lr"].tolist(), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("step", "rate"), [(1, 1.5e-6), (1000, 1.5e-3), (2000, 3e-3), (7199, 3e-3), (10_000, 3e-5)])
def test_a_long_run_warms_up_for_2000_steps_and_ends_at_3e5(step: int, rate: float) -> None:
    assert official(step, 10_000, lr=3e-3) * 3e-3 == pytest.approx(rate, rel=1e-12)
    assert official(20_000, 10_000, lr=3e-3) * 3e-3 == pytest.approx(3e-5, rel=1e-12), "no rate is negative later"


def trajectory(steps: int = 12, **kwargs: object) -> list[Tensor]:
    params = random_params()
    return walk(Ranger21Official(params, **kwargs), params, range(steps), sparse=False)


def test_may_and_july_versions_differ() -> None:
    may, july = (trajectory(state=state) for state in STATES)
    moved = [float((a - b).abs().max()) for a, b in zip(may, july, strict=True)]
    assert max(moved) > 1e-3
    assert same(may, trajectory()), "the default is May's"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("last", [(4, 3, 3, 3), (5, 6), (7,), ()])
def test_weight_decay_acts_only_on_the_last_parameter(last: tuple[int, ...], state: str) -> None:
    """The released code decays after its loop over the parameters, so it decays only the loop's last parameter."""
    ends = []
    for weight_decay in (0.0, 0.1):
        params = random_params([(4, 3, 3, 3), (5, 6), (7,), last])
        optimizer = Ranger21Official(params, state=state, weight_decay=weight_decay, lr=1e-2)
        ends.append(walk(optimizer, params, range(12), sparse=False))
    assert same(ends[0][:-1], ends[1][:-1])
    assert (ends[0][-1] - ends[1][-1]).abs().max() > 1e-6


def test_norm_loss_still_acts_on_the_last_parameter_when_weight_decay_is_0() -> None:
    """The released code pulls it towards unit norm at a rate of 2e-4 lr, whatever the weight decay."""
    rows = [Parameter(torch.full((2, 2), 3.0, dtype=torch.float64)) for _ in range(2)]
    optimizer = Ranger21Official(rows, weight_decay=0.0, lr=0.1)
    take_step(optimizer, rows, [np.zeros((2, 2))] * 2)
    norm = 3.0 * 2**0.5
    assert torch.equal(rows[0].detach(), torch.full((2, 2), 3.0, dtype=torch.float64))
    assert rows[1].detach().numpy() == pytest.approx(np.full((2, 2), 3 * (1 - 0.1 * 2e-4 * (1 - 1 / norm))), abs=1e-12)


def test_a_unit_of_one_element_is_never_trained() -> None:
    gain, other = (Parameter(torch.ones(shape, dtype=torch.float64)) for shape in [(3, 1, 1, 1), (2,)])
    for _ in range(3):
        take_step(optimizer := Ranger21Official([gain, other]), [gain, other], [np.ones((3, 1, 1, 1)), np.ones(2)])
    assert optimizer.state[gain]["step"] == 1
    assert (gain == 1).all()
    assert (other < 1).all()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_state_dict_resumes_bit_for_bit(stop: int, state: str) -> None:
    """The stops are before a lookahead merge, at one, and between two."""
    shapes = [(4, 3, 2, 2), (3, 5), (6,), ()]
    assert resumes_exactly(
        lambda params: Ranger21Official(params, lr=0.02, state=state), random_params(shapes), stop, 14
    )


def test_a_second_group_is_refused() -> None:
    groups = [{"params": [Parameter(torch.ones(2))]} for _ in range(2)]
    with pytest.raises(ValueError, match=r"Ranger21Official.*one parameter group"):
        Ranger21Official(groups)
    optimizer = Ranger21Official([Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=r"Ranger21Official.*one parameter group"):
        optimizer.add_param_group({"params": [Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("state", ["may", "June2021", None, 1])
def test_an_unknown_state_is_refused(state: object) -> None:
    with pytest.raises(ValueError, match=r"Ranger21Official: state = .*may2021, july2021") as error:
        Ranger21Official([Parameter(torch.ones(2))], state=state)
    assert repr(state) in str(error.value)


@pytest.mark.parametrize(
    ("argument", "value", "named"),
    [
        ("lr", -1.0, "lr"),
        ("weight_decay", -1.0, "weight_decay"),
        ("betas", (1.0, 0.9), "betas"),
        ("betas", (0.9, 1.0), "betas"),
        ("eps", -1.0, "eps"),
        ("agc_clipping", 0.0, "clipping"),
        ("agc_eps", 0.0, "eps"),
        ("lookahead_k", -1, "k = -1"),
        ("lookahead_beta", 1.0, "beta"),
    ],
)
def test_error_names_the_bad_argument(argument: str, value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Ranger21Official([Parameter(torch.ones(2))], **{argument: value})


@pytest.mark.parametrize("state", STATES)
def test_weight_decay_skips_a_last_parameter_without_a_gradient(state: str) -> None:
    """The released code would decay it; here, a parameter without a gradient does not change."""
    params, twins = random_params([(3, 2), (4,)]), random_params([(3, 2), (4,)])
    for side, weight_decay in ((params, 0.0), (twins, 0.5)):
        side[0].grad = torch.ones(3, 2, dtype=torch.float64)
        Ranger21Official(side, state=state, weight_decay=weight_decay).step()
    assert same(params, twins)
    assert same(params[1:], random_params([(3, 2), (4,)])[1:])
