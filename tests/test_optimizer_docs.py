"""docs/optimizers.md against the code: its tables of the algorithm, the ingredients, and each optimizer's features."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.optimizers import ADAMW, COMPILED, SHARDED, same, walk
from support.project import ROOT
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import Parameter
from torch.optim import Optimizer

from ranger21 import Ranger21, explore_exploit, parameter_groups
from ranger21.optim import reference
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients import ALL
from ranger21.optim.lookahead import Lookahead
from ranger21.optim.official import Ranger21Official

Make = Callable[..., Optimizer]
OWN: dict[str, Make] = {
    "Ranger21": Ranger21,
    "Chain": lambda params, **kwargs: Chain(params, **{"lr": 1e-2, "parts": ADAMW} | kwargs),
    "Ranger21Official": Ranger21Official,
}
ROW_OF_LOOKAHEAD = "Lookahead around torch's"


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, including the row of column names."""
    text = (ROOT / "docs" / "optimizers.md").read_text().split(f"\n## {heading}\n")[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines is not None
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[0].splitlines()]
    return [[cell.strip().replace("\\|", "|") for cell in row] for i, row in enumerate(rows) if i != 1]


# The algorithm


def test_the_algorithm_table_quotes_the_reference() -> None:
    """Each piece of code in the table is in reference.py, on a line whose margin has the same number."""
    lines = inspect.getsource(reference.step).splitlines()
    margins = {
        i: set(range(int(m[1]), int(m[2] or m[1]) + 1)) | ({int(m[3])} if m[3] else set())
        for i, line in enumerate(lines)
        if (m := re.search(r"\. (\d+)(?: to (\d+))?(?:, (\d+))?$", line))
    }
    for numbers, _, cell in table("The algorithm to read")[1:]:
        found = [int(n) for n in re.findall(r"\d+", numbers)]
        wanted = set(range(found[0], found[-1] + 1))
        for code in re.findall(r"`([^`]+)`", cell):
            if code in ("explore_exploit",):
                continue
            pieces = [piece.strip(" ,") for piece in code.split("…") if piece.strip(" ,")]
            places = [i for i, line in enumerate(lines) if all(piece in line for piece in pieces)]
            assert places, f"reference.py has no {code}"
            assert any(margins.get(i, set()) & wanted for i in places), (numbers, code)
    assert set().union(*margins.values()) == {1, 2, 3, *range(5, 17), *range(18, 24)}


# Ingredients


def test_every_argument_of_ranger21_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in table("Ranger21's arguments")[1:]}
    arguments = list(inspect.signature(Ranger21).parameters.values())[1:]
    assert list(documented) == [argument.name for argument in arguments]
    assert [ast.literal_eval(default) for default in documented.values()] == [one.default for one in arguments]


def test_the_example_of_a_training_loop_continues_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "optimizers.md").read_text().split("\n## Ranger21's arguments\n")[1]
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    batches = [(torch.randn(4, 3), torch.randint(0, 2, (4,))) for _ in range(6)]

    def train(loader: list[tuple[Tensor, Tensor]]) -> list[Parameter]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        names = {"Ranger21": Ranger21, "parameter_groups": parameter_groups, "explore_exploit": explore_exploit}
        exec(code, names | {"os": os, "torch": torch, "model": model, "total_steps": 6, "loader": loader})
        return list(model.parameters())

    whole = train(batches)
    (tmp_path / "checkpoint.pt").unlink()
    train(batches[:3])
    assert all(map(torch.equal, train(batches[3:]), whole))


def words(value: Any) -> str:
    """Return a value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def test_every_ingredient_is_documented_with_its_arguments_and_inputs() -> None:
    rows = {row[0].strip("`"): row for row in table("A chain of ingredients")[1:]}
    assert rows.keys() == {one.name for one in ALL}
    for one in ALL:
        _, arguments, _, sees = rows[one.name]
        told = re.findall(r"`(\w+)` \(`?([^),;`]+)", arguments)
        fields = dataclasses.fields(one)
        assert [name for name, _ in told] == [field.name for field in fields], one.name
        for (name, text), field in zip(told, fields, strict=True):
            assert text == words(field.default) or float(text) == field.default, (one.name, name)
        assert one().sees.removeprefix("a ") in sees and (sees or not one().sees), one.name


# What each optimizer supports


def after_two_steps(make: Make, param: Tensor | None = None, **kwargs: Any) -> tuple[Optimizer, list[Parameter]]:
    """Return an optimizer after two steps, and its parameters."""
    params = [
        Parameter(torch.ones(3, 2, dtype=torch.float64) if param is None else param.clone()),
        Parameter(torch.ones(2)),
    ]
    optimizer = make(params, **kwargs)
    for param in params:
        param.grad = torch.linspace(-1, 2, param.numel()).reshape(param.shape).to(param.dtype)
    optimizer.step()
    optimizer.step()
    return optimizer, params


def refuses(make: Make, **kwargs: Any) -> bool:
    try:
        after_two_steps(make, **kwargs)
    except (ValueError, TypeError, RuntimeError):
        return True
    return False


def half_precision(make: Make) -> str:
    optimizer, params = after_two_steps(make, torch.ones(3, 2, dtype=torch.bfloat16))
    state = optimizer.state[params[0]]
    kept = state.pop("kahan_comp", None)
    wide = all(x.dtype == torch.float32 for x in state.values() if isinstance(x, Tensor))
    return "yes" if kept is not None and wide else "no"


def maximize(make: Make) -> str:
    up, down = (after_two_steps(make, maximize=way)[1][0] for way in (True, False))
    return "yes" if ((up - down) * up.grad).sum() > 0 else "no"


def fused(make: Make) -> str:
    """Probe `fused` on a simulated GPU; a chain with other ingredients must be refused."""
    with FakeTensorMode():
        params = [Parameter(torch.empty(3, 2, device="cuda"))]
        try:
            make(params, fused=True)
        except ValueError:
            return "no"
        with pytest.raises(ValueError, match="Algorithm 4, or a part of it"):
            Chain(params, 1e-2, ["first_moment", "second_moment", "rectify"], fused=True)
    return "Algorithm 4, or less of it"


def capturable(make: Make) -> str:
    optimizer, params = after_two_steps(make, capturable=True)
    return "yes" if isinstance(optimizer.state[params[0]]["step"], Tensor) else "no"


def groups(make: Make) -> str:
    params = [{"params": [Parameter(torch.ones(2))]}, {"params": [Parameter(torch.ones(2))], "lr": 0.5}]
    try:
        make(params)
    except ValueError:
        return "one group"
    return "all"


def covered(name: str, cases: dict[str, Any]) -> bool:
    """Return whether a test over many optimizers includes this one."""
    start = {"Ranger21": "ranger21", "Chain": "chain, ", "Ranger21Official": "official, "}
    return any(case.startswith(start.get(name, "lookahead, ")) for case in cases)


PROBES: dict[str, Callable[[str, Make], str]] = {
    "`foreach`": lambda _, make: "no" if refuses(make, foreach=False) or refuses(make, foreach=True) else "yes",
    "`fused`": lambda _, make: fused(make),
    "`capturable`": lambda _, make: capturable(make),
    "`maximize`": lambda _, make: maximize(make),
    "lr as a tensor": lambda _, make: "no" if refuses(make, lr=torch.tensor(1e-2)) else "yes",
    "half-precision weights, Kahan": lambda _, make: half_precision(make),
    "FSDP2, TP, DCP": lambda name, _: "yes" if covered(name, SHARDED) else "no",
    "`torch.compile` of the step": lambda name, _: "exact" if covered(name, COMPILED) else "no",
    "per-group settings": lambda _, make: groups(make),
}


def supports() -> list[tuple[str, str, str]]:
    """Return (optimizer, column, cell) of each cell of the table."""
    columns, *rows = table("What each supports")
    assert columns[1:] == list(PROBES)
    return [
        (name.strip("` "), column, said)
        for first, *cells in rows
        for name in first.replace("`", "").split(",")
        for column, said in zip(columns[1:], cells, strict=True)
    ]


def test_every_optimizer_of_the_package_has_a_row() -> None:
    assert {name for name, *_ in supports()} == {*OWN, ROW_OF_LOOKAHEAD}


@pytest.mark.parametrize(("name", "column", "said"), [one for one in supports() if one[0] in OWN])
def test_each_optimizer_supports_what_the_table_says(name: str, column: str, said: str) -> None:
    assert PROBES[column](name, OWN[name]) == said


def test_lookahead_supports_what_its_inner_optimizer_supports() -> None:
    """The table says so: Lookahead passes switches on, and its steps equal the inner ones until the first merge."""
    said = {column: what for name, column, what in supports() if name == ROW_OF_LOOKAHEAD}
    assert said["FSDP2, TP, DCP"] == PROBES["FSDP2, TP, DCP"](ROW_OF_LOOKAHEAD, Lookahead)
    assert said["`torch.compile` of the step"] == PROBES["`torch.compile` of the step"](ROW_OF_LOOKAHEAD, Lookahead)
    assert set(inspect.signature(Lookahead).parameters) == {"inner", "k", "beta"}
    switches: dict[str, dict[str, Any]] = {
        "`fused`": {"fused": True},
        "`capturable`": {},
        "`maximize`": {"maximize": True},
        "lr as a tensor": {"lr": torch.tensor(1e-2)},
        "half-precision weights, Kahan": {},
        "per-group settings": {},
    }
    assert {column for column, what in said.items() if what.startswith("the inner one's")} == switches.keys()
    for kwargs in switches.values():
        ends = []
        for around in (lambda inner: inner, Lookahead):
            params = [Parameter(torch.ones(3, 2))]
            ends.append(walk(around(torch.optim.AdamW(params, **kwargs)), params, range(4)))
        assert same(*ends)
