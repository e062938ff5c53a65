"""Every optimizer that can be chosen, built as a run builds it: training, exact resuming, groups, typed chains."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ranger21.config import VARIANTS
from ranger21.config.compose import compose_config
from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.config.optimizers import ChainConfig, LibraryConfig, OptimizerConfig
from ranger21.config.schedules import ScaledConfig
from ranger21.optim.chain import Chain
from ranger21.optim.lookahead import Lookahead
from ranger21.optim.official import Ranger21Official
from ranger21.run.optimizers import build_optimizer, scaled_lr
from ranger21.system.errors import UserError

NAMES = list(VARIANTS["optimizer"])
WITHOUT_GROUPS = "ranger21_official"  # has one group, whatever `decay_norm_and_bias` is
# Learning rates that solve the small problem below in 20 steps, where the configured ones do not.
RATES = {
    "ranger21": 0.03, "ranger21_official": 0.03, "ranger": 0.2, "rangerlars": 0.03, "paratrooper": 0.1, "radam": 0.05,
    "gd": 0.2, "lamb": 0.05, "lion": 0.003, "larc": 2.0, "muon": 0.03,
}  # fmt: skip


@cache
def composed(name: str) -> OptimizerConfig:
    return compose_config([f"optimizer={name}"]).optimizer


def chosen(name: str, lookahead: bool) -> OptimizerConfig:
    """Return the configuration of an optimizer, with or without Lookahead."""
    config = composed(name)
    if name == "muon":  # matrices and vectors have separate parts, without Lookahead
        more = [{"name": "lookahead", "k": 5, "beta": 0.5}] if lookahead else []
        return replace(config, parts={kind: [*parts, *more] for kind, parts in config.parts.items()})
    if isinstance(config, ChainConfig):
        parts = [part for part in config.parts if part["name"] != "lookahead"]
        assert len(parts) == len(config.parts) - 1
        return config if lookahead else replace(config, parts=parts)
    k = 3 if isinstance(config, LibraryConfig) else 5
    return replace(config, lookahead_k=k if lookahead else 0)


def build(config: OptimizerConfig, model: nn.Module, **changes: Any) -> Optimizer:
    """Build an optimizer as `ranger21.run.experiment` does."""
    return build_optimizer(params=model.parameters(), **(vars(config) | changes))


@cache
def problem() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return a network of two layers, images and labels; they are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
        return net, torch.randn(32, 3, 6, 6), torch.randint(5, (32,))


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> list[float]:
    """Return the losses before each step and after the last."""
    _, images, labels = problem()
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, F.cross_entropy(model(images), labels).item()]


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Return the paths at which two nested states differ in any bit."""
    if isinstance(a, Tensor):
        same = isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return [] if same else [path]
    if isinstance(a, dict):
        if not isinstance(b, dict) or a.keys() != b.keys():
            return [f"{path}: keys"]
        return [found for key in a for found in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: length"]
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{path}[{i}]")]
    return [] if a == b else [f"{path}: {a} {b}"]


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


both = pytest.mark.parametrize("lookahead", [True, False], ids=["lookahead", "plain"])
every = pytest.mark.parametrize("name", NAMES)


@both
@every
def test_every_optimizer_trains(name: str, lookahead: bool) -> None:
    model = copy.deepcopy(problem()[0])
    config = chosen(name, lookahead)
    losses = train(model, build(config, model, lr=RATES.get(name, config.lr)), 20)
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] < losses[10] < losses[0]


@both
@every
def test_every_optimizer_resumes_bit_for_bit_between_two_merges(name: str, lookahead: bool) -> None:
    """The state is saved after step 7, which is no merge for k of 3, 5 or 6; learning rates come from the file too."""
    config, steps = chosen(name, lookahead), 7
    model = copy.deepcopy(problem()[0])
    optimizer = build(config, model, lr=RATES.get(name, config.lr))
    for group in optimizer.param_groups:
        group["lr"] *= 0.75
    train(model, optimizer, steps)
    slow = [state["slow"] for state in optimizer.state_dict()["state"].values() if "slow" in state]
    assert len(slow) == (4 if lookahead else 0)
    assert not any(torch.equal(one, p) for one, p in zip(slow, model.parameters(), strict=False))
    saved = through_a_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    again = copy.deepcopy(problem()[0])
    resumed = build(config, again)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert not differences(resumed.state_dict(), optimizer.state_dict())
    assert train(again, resumed, steps) == train(model, optimizer, steps)
    assert not differences(again.state_dict(), model.state_dict())
    assert not differences(resumed.state_dict(), optimizer.state_dict())
    assert isinstance(resumed, Lookahead) == (lookahead and isinstance(config, LibraryConfig))


@every
def test_a_step_that_overflows_in_fp16_leaves_no_trace(name: str) -> None:
    """Two further steps are those of an optimizer without it. The first step of a run overflows as a rule."""
    config, ends = chosen(name, lookahead=False), []
    for overflow in (True, False):
        model = copy.deepcopy(problem()[0])
        optimizer, scaler = build(config, model), torch.amp.GradScaler("cpu", init_scale=2.0, backoff_factor=0.999999)
        for step in range(3 if overflow else 2):
            scale = float(scaler.scale(torch.ones(())))
            for number, param in enumerate(model.parameters()):
                param.grad = torch.full_like(param, math.inf if overflow and step == 0 else (number + 1) * scale)
            scaler.step(optimizer)
            scaler.update()
        ends.append([param.detach() for param in model.parameters()])
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(*ends, strict=True))


@both
@every
def test_every_group_keeps_its_initial_learning_rate(name: str, lookahead: bool) -> None:
    """`initial_lr` is scaled for the batch, and survives a change of `lr` and a restart; schedules multiply it."""
    config = chosen(name, lookahead)
    rate = scaled_lr(config.lr, ScaledConfig("linear", base_batch_size=64), 256)
    assert rate == 4 * config.lr
    optimizer = build(config, problem()[0], lr=rate)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [rate] * len(optimizer.param_groups)
    assert len(optimizer.param_groups) == (1 if name == WITHOUT_GROUPS else 2)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    other = build(config, problem()[0])
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    assert {(group["lr"], group["initial_lr"]) for group in other.param_groups} == {(0.0, rate)}


def walked(config: OptimizerConfig, **changes: Any) -> list[Tensor]:
    """Return the weights after 4 steps whose gradients do not depend on the weights."""
    model = copy.deepcopy(problem()[0]).double()
    optimizer = build(config, model, **changes)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for param in model.parameters():
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        optimizer.step()
    return [param.detach() for param in model.parameters()]


@both
@every
def test_biases_are_decayed_only_with_decay_norm_and_bias(name: str, lookahead: bool) -> None:
    """A decay five times as strong changes the weights, and changes the biases only if they are decayed."""
    config = chosen(name, lookahead)
    for everything in (False, True):
        near, far = (walked(config, decay_norm_and_bias=everything, weight_decay=decay) for decay in (0.1, 0.5))
        moved = [not torch.equal(a, b) for a, b in zip(near, far, strict=True)]
        expected = [True, everything, True, everything]
        assert moved == (expected if name != WITHOUT_GROUPS else [False, False, False, True])


@every
def test_only_groups_with_decayed_parameters_have_weight_decay(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Conv2d(1, 2, 1))
    weights = {id(model[0].weight), id(model[2].weight)}  # without the last layer's: its units are single elements
    model[2].bias.requires_grad_(False)
    everything = {id(p) for p in model.parameters() if p.requires_grad}
    for all_of_them in (False, True):
        groups = build(composed(name), model, weight_decay=0.25, decay_norm_and_bias=all_of_them).param_groups
        decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
        assert {id(p) for group in groups for p in group["params"]} == everything
        assert sum(len(group["params"]) for group in groups) == len(everything)
        assert {group["weight_decay"] for group in groups} <= {0.25, 0.0}
        assert decayed == (everything if all_of_them or name == WITHOUT_GROUPS else weights)


def test_lookahead_receives_its_arguments() -> None:
    optimizer = build(replace(composed("lion"), lookahead_k=4, lookahead_beta=0.25), problem()[0])
    assert isinstance(optimizer, Lookahead) and (optimizer.k, optimizer.beta) == (4, 0.25)
    for name in ("ranger21", WITHOUT_GROUPS):
        config: Any = replace(composed(name), lookahead_k=4, lookahead_beta=0.25)
        group = build(config, problem()[0]).param_groups[0]
        assert (group["lookahead_k"], group["lookahead_beta"]) == (4, 0.25)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"There is no optimizer 'adamw2'\."):
        build_optimizer("adamw2", [nn.Parameter(torch.ones(2))], lr=0.1, weight_decay=0.0, decay_norm_and_bias=False)


def test_ranger21_official_can_be_built_in_both_versions() -> None:
    for state in ("may2021", "july2021"):
        config: Any = replace(composed(WITHOUT_GROUPS), state=state)
        optimizer = build(config, problem()[0])
        assert isinstance(optimizer, Ranger21Official) and optimizer.param_groups[0]["variant"] == state


# Chains as a user types them

TYPED = "optimizer.parts=[agc,centralize,pnm,second_moment,{name:decay,stable:layer},lookahead]"


def test_a_chain_typed_on_the_command_line_has_its_ingredients() -> None:
    config: Any = compose_config(["optimizer=chain", TYPED, "optimizer.lr=0.03"]).optimizer
    names = ["agc", "centralize", "pnm", "second_moment", "decay", "lookahead"]
    assert [part["name"] for part in config.parts] == names and config.parts[4]["stable"] == "layer"
    model = copy.deepcopy(problem()[0])
    optimizer = build(config, model)
    assert isinstance(optimizer, Chain)
    losses = train(model, optimizer, 20)
    assert losses[-1] < 0.5 * losses[0]
    assert set(optimizer.state[model[0].weight]) == {"step", "exp_avg_odd", "exp_avg_even", "exp_avg_sq", "slow"}


def test_a_typed_chain_can_have_separate_parts_for_matrices_and_vectors() -> None:
    typed = "+optimizer.parts={matrices:[nesterov_moment,{name:orthogonalize,scale:rms},decay],vectors:[first_moment]}"
    config: Any = compose_config(["optimizer=chain", "~optimizer.parts", typed])
    config = config.optimizer
    assert [part["name"] for part in config.parts["matrices"]] == ["nesterov_moment", "orthogonalize", "decay"]
    model = copy.deepcopy(problem()[0])
    optimizer = build(config, model, lr=0.03)
    losses = train(model, optimizer, 20)
    assert losses[-1] < 0.5 * losses[0]
    assert set(optimizer.state[model[0].weight]) == set(optimizer.state[model[0].bias]) == {"step", "exp_avg"}


def test_an_override_changes_one_argument_of_a_part_or_the_whole_list() -> None:
    config: Any = compose_config(["optimizer=ranger", "optimizer.parts.5.k=9"]).optimizer
    assert config.parts[:5] == composed("ranger").parts[:5]
    assert config.parts[5] == {"name": "lookahead", "k": 9, "beta": 0.5}
    config = compose_config(["optimizer=paratrooper", "optimizer.parts=[]"]).optimizer
    assert config.parts == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("[agc,momentum]", ("Unknown ingredient 'momentum'", "first_moment", "lookahead")),
        ("[1]", ("Unknown ingredient 1",)),
        ("[null]", ("Unknown ingredient None",)),
        ("[[agc]]", ("Unknown ingredient ['agc']",)),
        ("[{clipping:0.1}]", ("Unknown ingredient {'clipping': 0.1}",)),
        ("[{agc:0.1}]", ("Unknown ingredient {'agc': 0.1}",)),
        ("[{name:agc,tau:0.1}]", ("agc: unknown argument 'tau'", "clipping", "eps")),
        ("[{name:agc,clipping:0}]", ("agc: clipping = 0 must be a number above 0",)),
        ("[{name:agc,clipping:big}]", ("agc: clipping = 'big'",)),
        ("[{name:lookahead,k:2.5}]", ("lookahead: k = 2.5 must be an integer",)),
        ("[first_moment,pnm]", ("first_moment and pnm clash",)),
        ("[lookahead,decay]", ("decay cannot come after lookahead",)),
        ("[first_moment,agc]", ("agc has no effect after first_moment",)),
        ("[{name:decay,stable:layer}]", ("decay", "second_moment")),
        ("agc", ()),
        ("null", ()),
        ("{name:agc}", ()),
        ("[agc", ()),
    ],
)
def test_bad_parts_are_refused_with_their_setting(parts: str, words: tuple[str, ...]) -> None:
    with pytest.raises((UserError, *CONFIG_ERRORS)) as error:
        compose_config(["optimizer=chain", f"optimizer.parts={parts}"])
    sentence = str(error.value) if isinstance(error.value, UserError) else explain(error.value)
    assert "optimizer.parts" in sentence and all(word in sentence for word in words), sentence
