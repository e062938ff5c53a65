"""Launches and bytes on a fake device: `ranger21.gpu` counts them as one does by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ranger21.gpu.steps import cost
from ranger21.gpu.tables import milliseconds, replaced, section
from ranger21.gpu.traffic import Traffic, pretended

N = 4 * 6 * 10  # bytes of the tensors below
CASES: dict[str, tuple[Callable[[Any], Any], int, int]] = {  # operation, launches, bytes
    "a sum of two": (lambda x: x + x.clone(), 2, 2 * N + 3 * N),
    "in place": (lambda x: x.mul_(2), 1, 2 * N),
    "in place with another": (lambda x: x.lerp_(x, 0.5), 1, 3 * N),
    "copied over": (lambda x: torch.zeros_like(x).copy_(x), 2, 2 * N + 2 * N),
    "set to zero": (lambda x: x.zero_(), 1, N),
    "into memory that is given": (lambda x: torch.add(x, 1, out=torch.empty_like(x)), 1, 2 * N),
    "many tensors": (lambda x: torch._foreach_add([x, x], 1), 1, 4 * N),
    "many tensors in place": (lambda x: torch._foreach_add_([x, x], [x, x]), 1, 6 * N),
    "many tensors copied": (lambda x: torch._foreach_copy_([x, x], [x, x]), 1, 4 * N),
    "a sum": (lambda x: x.sum(), 1, N + 4),
    "views": (lambda x: x.view(-1)[3:].detach().reshape(3, 19).t().unbind(), 0, 0),
    "memory alone": (lambda x: x.new_empty(7), 0, 0),
    "an expanded tensor": (lambda x: x + x.new_empty(1, 10).expand(6, 10), 1, 2 * N + 40),
    "what lies on the host": (lambda x: torch.ones(5, device="cpu") + 1, 0, 0),
}


@pytest.mark.parametrize("device", ["meta", "cuda"])
@pytest.mark.parametrize("case", CASES)
def test_launches_and_bytes_match_counts_by_hand(case: str, device: str) -> None:
    act, launches, size = CASES[case]
    with pretended(device):
        x = torch.empty(6, 10, device=device)
        with Traffic() as traffic:
            act(x)
    assert (traffic.launches, traffic.bytes) == (launches, size), traffic.names


def test_an_operation_can_have_its_own_rule_for_counting_bytes() -> None:
    with Traffic({"aten::add": lambda x, y, alpha=1: 11.0}) as traffic:
        x: Tensor = torch.empty(3, device="meta")
        x = x + x
    assert (traffic.launches, traffic.bytes) == (1, 11.0)


def test_torchs_fused_adamw_makes_seven_passes() -> None:
    """The step reads the gradient, and reads and writes the weights and two moments."""
    found = cost(lambda params: torch.optim.AdamW(params, fused=True), [torch.Size([1000, 1000])], "cuda")
    assert found.bytes == pytest.approx(7 * 4e6, rel=1e-5)


def test_a_merge_every_five_steps_adds_a_fifth_of_its_bytes() -> None:
    from ranger21 import Ranger21

    model = [torch.Size([64, 32, 3, 3]), torch.Size([64])]
    without, each = (
        cost(lambda params, k=k: Ranger21(params, lookahead_k=k), model)  # type: ignore[misc]
        for k in (0, 1)
    )
    fifth = cost(lambda params: Ranger21(params, lookahead_k=5), model)
    assert without.launches < fifth.launches == each.launches
    assert fifth.bytes == pytest.approx(0.8 * without.bytes + 0.2 * each.bytes)


def test_the_time_is_the_sum_of_launch_time_and_transfer_time() -> None:
    assert milliseconds(200, 2e9, 2e12) == pytest.approx(1 + 1)


def test_replacing_a_section_of_a_page_keeps_the_others(tmp_path: Path) -> None:
    page = "# A\n<!-- one: by `a command` -->\nold\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n"
    new = replaced(page, "one", "new\nlines")
    assert section(new, "one") == "new\nlines" and section(new, "two") == "kept"
    assert replaced(new, "one", "old") == page
    with pytest.raises(ValueError, match="0 sections three"):
        section(page, "three")
