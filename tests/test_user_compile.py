"""torch.compile in a user's code, of the step or of a whole training step: exact, and compiled only once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
import torch.nn.functional as F
from support.optimizers import COMPILED, same
from torch import Tensor, nn

STEPS = 20


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5)).double()
    images = torch.randn(8, 3, 3, 3, generator=generator, dtype=torch.float64)
    return model, images, torch.randint(5, (8,), generator=generator)


WHOLE = ("ranger21, global", "chain, muon", "lookahead, adamw")
CASES = {
    **{name: (make, False) for name, make in COMPILED.items()},
    **{f"{x}, train": (COMPILED[x], True) for x in WHOLE},
}


@pytest.mark.parametrize(("make", "whole"), CASES.values(), ids=CASES)
def test_a_compiled_step_is_exact_and_compiled_once(make: Callable[..., Any], whole: bool) -> None:
    """Only dynamo's tracing is used, because a compiler would round the model's own operations."""
    torch._dynamo.reset()
    model, images, labels = problem()
    twin = copy.deepcopy(model)
    plain, compiled = make(list(model.parameters())), make(list(twin.parameters()))
    graphs = torch._dynamo.testing.CompileCounter()
    step = compiled.step if whole else torch.compile(compiled.step, backend=graphs)

    def train(model: nn.Module, optimizer: Any, step: Callable[[], Any]) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        step()

    trained = torch.compile(train, backend=graphs) if whole else train
    seen = []
    for _ in range(STEPS):
        train(model, plain, plain.step)
        trained(twin, compiled, step)
        seen.append(graphs.frame_count)
        assert same(list(model.parameters()), list(twin.parameters()))
    assert seen[0] == seen[-1] <= 2, "compiled again"
