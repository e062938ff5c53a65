"""Who may import whom, and how large a room may grow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = sorted((ROOT / "ranger21").rglob("*.py"))
FOLDERS = ("ranger21", "scripts", "tests")
EVERYTHING = [ROOT / "train.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
DATA_WITHOUT_TORCH = (
    "archives", "arrays", "checksums", "copying", "identity", "imbalance", "index", "index_cache", "indexing", "layout",
    "listing", "names", "oddities", "opening", "pack", "parquet", "photographs", "prepare", "room", "sample", "sockets",
    "stage", "subset", "verify",
)  # fmt: skip
FIRST_WITHOUT_TORCH = (
    "__init__.py", "arguments.py", "classes.py", "code.py", "compose.py", "durations.py", "ending.py", "errors.py",
    "files.py", "locks.py", "memory.py", "mistakes.py", "naming.py", "overrides.py", "processes.py", "ranks.py",
    "manifest.py", "commands.py", "namesake.py", "project.py", "reading.py", "records.py", "sessions.py", "stalls.py",
    "wording.py",
)  # fmt: skip
MACHINE_WITHOUT_TORCH = ("check", "listing", "places", "record", "running", "table", "worker")
TORCH_FREE = [
    *(path for path in PACKAGE if path.relative_to(ROOT / "ranger21").parts[0] in ("report", "config", "tuning")),
    *(ROOT / "ranger21" / name for name in FIRST_WITHOUT_TORCH),
    *(ROOT / "ranger21" / "machine" / f"{name}.py" for name in MACHINE_WITHOUT_TORCH),
    *(path for path in sorted((ROOT / "ranger21" / "data").glob("*.py")) if path.stem in DATA_WITHOUT_TORCH),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere below, dotted, with its line; `from a import b` is both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            yield str(node.module), node.lineno


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def importers(*modules: str, among: list[Path]) -> set[str]:
    """The files that import one of the modules, or of what is in them."""
    wanted = tuple(modules)
    return {
        name_of(path)
        for path in among
        if any(name in wanted or name.startswith(tuple(f"{m}." for m in wanted)) for name, _ in imports(parse(path)))
    }


def at_the_top(node: ast.AST) -> set[str]:
    """The modules imported when the file is: not those that wait for a function's call."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found |= {name for name, _ in imports(child)}
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= at_the_top(child)
    return found


def test_the_optimizer_stands_alone() -> None:
    allowed = sys.stdlib_module_names | {"torch", "triton"}  # which torch brings, and the fused step's kernels import
    for path in PACKAGE:
        if "optim" in path.parts:
            for name, line in imports(parse(path)):
                ours = name.startswith(("ranger21.optim", "ranger21.namesake"))
                assert ours or name.split(".")[0] in allowed, f"{name_of(path)}:{line} imports {name}"


def test_the_loop_knows_no_concrete_thing() -> None:
    loop = [ROOT / "ranger21" / "loop.py"]
    strangers = ("timm", "torchvision", "wandb", "hydra", "omegaconf", "torch.distributed")
    own = (
        "checkpoint", "checkpoint_file", "compose", "config", "data", "experiment", "models", "optim", "optimizers",
        "records", "run", "sessions",
    )  # fmt: skip
    assert not importers(*strangers, *(f"ranger21.{name}" for name in own), among=loop)
    source = loop[0].read_text().lower()
    assert not [name for name in ("adamw", "nesterov", "sgd", "resnet", "imagenet", "timm") if name in source]


@pytest.mark.parametrize(
    ("modules", "rooms"),
    [
        (("torch.distributed", "torch.nn.parallel"), {"ranger21/distributed.py"}),
        (("wandb",), {"ranger21/tracking/weights_and_biases.py", "ranger21/tracking/wandb_file.py"}),
        (("wandb_workspaces",), {"ranger21/tracking/workspace.py"}),
        (("triton",), {f"ranger21/{x}.py" for x in ("optim/fused/kernels", "data/fused_kernels", "gpu/compiled")}),
        (("timm",), {f"ranger21/{name}.py" for name in ("models", "optimizers", "pretrained", "weights")}),
        (("hydra",), {f"ranger21/{name}.py" for name in ("compose", "mistakes", "naming", "overrides")}),
        (
            ("matplotlib",),
            {f"ranger21/report/{x}.py" for x in ("figures", "landscape_figures", "stairs", "tuning_figures")},
        ),
    ],
)
def test_a_library_has_one_room(modules: tuple[str, ...], rooms: set[str]) -> None:
    assert importers(*modules, among=PACKAGE) == rooms


def test_torch_distributed_is_not_reached_through_torch_either() -> None:
    for path in PACKAGE:
        reached = {ast.unparse(node) for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
        assert "torch.distributed" not in reached or path.name == "distributed.py", name_of(path)


def test_wandb_is_imported_when_it_is_used() -> None:
    for path in PACKAGE:
        assert not {name for name in at_the_top(parse(path)) if name.startswith("wandb")}, name_of(path)


def test_nothing_imports_the_commands() -> None:
    assert importers("train", "scripts", among=[path for path in EVERYTHING if path.parent.name != "tests"]) == set()


def test_what_runs_before_torch_does_not_import_it() -> None:
    modules = [name_of(path)[:-3].removesuffix("/__init__").replace("/", ".") for path in TORCH_FREE]
    assert len(modules) > 15
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'torchvision', 'timm', 'wandb'}} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_the_optimizer_needs_torch_alone(tmp_path: Path) -> None:
    for name in ("hydra", "omegaconf", "timm", "wandb", "torchvision", "rich", "matplotlib", "PIL"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not needed')")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    names = "Ranger21, Chain, explore_exploit, parameter_groups"
    uses = "from ranger21.optim import *; print(Ranger21.__name__, explore_exploit(1, 1))"
    code = f"from ranger21 import {names}; {uses}"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["Ranger21"]), done.stderr


def test_the_package_does_not_print() -> None:
    for path in PACKAGE:
        calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
        lines = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not lines, f"{name_of(path)}: {lines}"


def test_rooms_stay_small() -> None:
    """No file of 300 lines and no function of 60, tests' files of 400: what is larger is two things."""
    for path in EVERYTHING:
        length = len(path.read_text().splitlines())
        assert length < (400 if path.parent.name == "tests" else 300), f"{name_of(path)} has {length} lines"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                assert size < 60, f"{name_of(path)}:{node.lineno} {node.name} has {size} lines"
