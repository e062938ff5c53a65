"""Test the fused step's self-check in Triton's interpreter; tests/test_fused_check.py runs this file in a process.

Broken kernels are made for real: the kernels' source code is loaded with one place changed.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from support.fused import OFF, largest_difference, make_params, states, walk
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ranger21 import Ranger21
from ranger21.optim import fused
from ranger21.optim.fused import check, kernels
from ranger21.run.optimizers import ours as build_ours
from ranger21.system.errors import UserError

assert os.environ.get("TRITON_INTERPRET") == "1", "run tests/test_fused_check.py"
LESS: dict[str, Any] = {"pnm": False, "agc_clipping": None}
SOURCE = Path(kernels.__file__).read_text()


@pytest.fixture(autouse=True)
def forget_earlier_checks() -> Iterator[None]:
    check.DIFFERENCES.clear()
    check.WARNED.clear()
    yield
    check.DIFFERENCES.clear()


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `fused=None` choose the fused step wherever it is possible, as on a GPU."""
    monkeypatch.setattr(fused, "wanted", lambda group, recipe, params: group["fused"] is not False and bool(params))


class Fault(NamedTuple):
    """A change to the kernels' source, words of the message that must report it, and settings that reveal it."""

    right: str
    wrong: str
    told: str
    switches: Mapping[str, Any] = MappingProxyType({})
    dtype: torch.dtype = torch.float32
    scaled: bool = False


FAULTS = {
    "the sign of the merge": Fault(
        "old + weight_slow * (theta", "old - weight_slow * (theta", "after step 3 a weight of a tensor in channels_last"
    ),
    "no decay": Fault("theta * keep - size * u", "theta - size * u", "after step 1 a weight of a tensor"),
    "the constant of decay": Fault(
        "pull = tl.minimum(rate * weight_decay, 1.0)", "pull = rate * weight_decay * 1.1", "a weight of a tensor",
        {"stable_decay": None},
    ),
    "the mean over all": Fault(
        "pull_of(tl.load(total)", "pull_of(2 * tl.load(total)", "a weight", {"stable_decay": "global"}
    ),
    "a thousandth of the step": Fault("size * u", "1.001 * size * u", "a weight"),
    "the stride of rows": Fault(
        "length, tl.load(rows + 3 * row_count + row)", "length, 1", "(that is transposed|in channels_last)"
    ),
    "long rows": Fault("range(0, length, BLOCK):\n        i = start + tl.arange(0, BLOCK)\n        theta",
        "range(0, tl.minimum(length, BLOCK), BLOCK):\n        i = start + tl.arange(0, BLOCK)\n        theta",
        "a row of 1,100 elements"),
    "the count": Fault("tl.store(step, t, mask", "tl.store(step, t + 1, mask", "after step 1 step of a tensor"),
    "the turn of the moments": Fault("before = tl.where(t % 2 == 1", "before = tl.where(t % 2 == 0", "after step 1"),
    "the largest": Fault("v = tl.maximum(v, tl.load(largest", "v = tl.minimum(v, tl.load(largest", "after step 1"),
    "the sign": Fault("    factor = sign\n", "    factor = 1.0\n", "after step 1 exp_avg_odd", {"maximize": True}),
    "what rounding takes": Fault("(theta - rounded.to", "(rounded.to(tl.float32) - theta + 0 * rounded.to",
        "kahan_comp of a tensor .* in float16", dtype=torch.float16),
    "the last place, and not one": Fault("theta.to(DTYPE)", "(theta * 1.02).to(DTYPE)", "in bfloat16",
        {"kahan_sum": False}, torch.bfloat16),
    "grad_scale": Fault("factor = sign / tl.load(scale)", "factor = sign", "after step 1", scaled=True),
    "no compiler": Fault("rounded = theta.to(DTYPE)", "rounded = tl.no_such_thing(theta)", "no_such_thing"),
}  # fmt: skip
LEAVES_NOTHING_OUT = Fault("there & (tl.load(found) == 0)", "there", "found_inf")


def break_kernels(fault: Fault, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SOURCE.count(fault.right) == 1, fault.right
    path = place / "broken_kernels.py"
    path.write_text(SOURCE.replace(fault.right, fault.wrong))
    spec = importlib.util.spec_from_file_location("broken_kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(fused, "kernels", module)


def scaled_walk(optimizer: Ranger21, params: list[Parameter], steps: int) -> list[Tensor]:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(steps):
        optimizer.zero_grad()
        scaler.scale(sum((param * (step + 1)).float().sum() for param in params)).backward()  # type: ignore[union-attr]
        scaler.step(optimizer)
        scaler.update()
    return [param.detach().clone() for param in params]


@pytest.mark.parametrize(
    ("dtype", "switches"),
    [
        (torch.float32, {}),
        (torch.float32, {"stable_decay": "global", "lr": torch.tensor(0.0), "maximize": True}),
        (torch.float16, {"lookahead_k": 1, "stable_decay": None}),
        (torch.bfloat16, {}),
        (torch.bfloat16, OFF | {"kahan_sum": False, "betas": (0.0, 0.5), "eps": 0.0}),
    ],
)
def test_correct_kernels_pass_without_a_warning_or_side_effect(
    dtype: torch.dtype, switches: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (param,) = make_params([(2, 3)], dtype)
    kept, random = param.detach().clone(), torch.get_rng_state()
    with caplog.at_level("WARNING"):
        optimizer = Ranger21([param], fused=True, **switches)
        scaled = dtype == torch.float32 and not switches
        assert not scaled or optimizer._step_supports_amp_scaling
    assert len(check.DIFFERENCES) == 1 + scaled and not any(check.DIFFERENCES.values()) and not caplog.records
    assert torch.equal(param, kept) and param.grad is None and not optimizer.state
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_broken_kernel_is_reported_and_replaced_by_foreach(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning describes the difference; with `fused=True` it is an error."""
    fault = FAULTS[name]
    break_kernels(fault, tmp_path, monkeypatch)
    params, twins = make_params(dtype=fault.dtype), make_params(dtype=fault.dtype)
    ours, theirs = Ranger21(params, **fault.switches), Ranger21(twins, fused=False, **fault.switches)
    ends = [
        scaled_walk(*pair, 2) if fault.scaled else walk(*pair, range(3)) for pair in ((ours, params), (theirs, twins))
    ]
    [told] = [record.getMessage() for record in caplog.records]
    assert re.search(f"^On cpu, foreach is used instead of the fused step, which differs: .*{fault.told}", told)
    if fault.scaled:  # the scaler then unscales the gradients itself, before a step that may be fused
        assert largest_difference(*ends) < 1e-6
    else:
        assert all(map(torch.equal, *ends)), "foreach's bits"
        for mine, its in zip(states(ours), states(theirs), strict=True):
            assert mine.keys() == its.keys() and mine.pop("step") == its.pop("step") == 3
            assert all(torch.equal(mine[name], its[name]) for name in its)
    with pytest.raises(ValueError, match=f"Ranger21: fused = True must be None or False here: on cpu, .*{fault.told}"):
        assert Ranger21(make_params(dtype=fault.dtype), fused=True, **fault.switches)._step_supports_amp_scaling


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_scaler_added_later_is_checked_and_the_run_continues_with_foreach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A gradient scaler uses other kernels, which are broken here. Step hooks fire only for the user's steps."""
    break_kernels(LEAVES_NOTHING_OUT, tmp_path, monkeypatch)
    params, twins = make_params(), make_params()
    ours, theirs = Ranger21(params), Ranger21(twins, fused=False)
    fired: list[object] = []
    with register_optimizer_step_pre_hook(lambda optimizer, *_: fired.append(optimizer)):
        walk(ours, params, range(1))
        assert list(check.DIFFERENCES.values()) == [""] and isinstance(ours.state[params[0]]["step"], Tensor)
        scaled_walk(ours, params, 2)
    assert "after a step that should have been skipped (found_inf = 1)" in caplog.text
    assert fired == [ours] * 3
    walk(theirs, twins, range(1))
    scaled_walk(theirs, twins, 2)
    assert largest_difference(params, twins) < 1e-6 and ours.state_dict()["state"][0]["step"] == 3


def test_a_run_with_fused_true_and_a_broken_kernel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_kernels(FAULTS["no decay"], tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"optimizer\.fused=true: .* after step 1 a weight .* Omit it"):
        build_ours("ranger21", [{"params": make_params()}], fused=True)


def test_the_check_passes_in_any_torch_mode() -> None:
    """Inference mode, another default device and dtype, and autocast do not affect the check."""
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu", torch.bfloat16):
            Ranger21([torch.ones(2, device="cpu", dtype=torch.float32)], lookahead_k=1, fused=True, **LESS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert list(check.DIFFERENCES.values()) == [""]
