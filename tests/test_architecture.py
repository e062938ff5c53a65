"""Rules about imports between modules, and about the size of files and functions."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.project import ROOT
from support.source_code import imports, parse

PACKAGE = sorted((ROOT / "ranger21").rglob("*.py"))
FOLDERS = ("ranger21", "scripts", "tests")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EVERYTHING = [ROOT / "train.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
DATA_WITHOUT_TORCH = (
    "copying", "datasets/__init__", "datasets/array", "datasets/base", "disk_space",
    "identity", "idx", "imbalance", "in_memory", "index", "index_cache", "indexing", "layout", "listing", "names",
    "npz", "oddities", "pack", "photographs", "safe_open", "sample", "sockets", "stage",
    "subset", "verify",
)  # fmt: skip
WITHOUT_TORCH = {
    "": ("__init__", "commands", "namesake"),
    "data": DATA_WITHOUT_TORCH,
    "landscape": ("record", "figures", "rosenbrock"),
    "machine": ("check", "listing", "places", "record", "running", "table", "worker"),
    "records": ("code", "directory", "manifest", "moves", "naming", "sessions"),
    "models": ("classes",),
    "run": ("memory",),
    "system": (
        "checks", "errors", "files", "locks", "masking", "memory", "processes", "project", "ranks", "reading", "stalls",
        "terminal", "wording",
    ),
}  # fmt: skip
TORCH_FREE = [
    *(
        path
        for room in ("report", "config", "downloads", "tuning")
        for path in sorted((ROOT / "ranger21" / room).rglob("*.py"))
    ),
    *(ROOT / "ranger21" / room / f"{name}.py" for room, names in WITHOUT_TORCH.items() for name in names),
]
# A package ("room") may import only those before it in this list. The same holds for the report's subpackages.
ROOMS = (
    "system", "optim", "tracking", "engine", "data", "downloads", "packing", "config", "records", "models", "run",
    "wandb_tools", "report", "machine", "grid", "tuning", "meta", "numbers", "landscape", "faults", "gpu",
)  # fmt: skip
REPORT = (
    "runs", "statistics", "groups", "tables", "claims", "figures", "page", "targets", "workloads", "ablation", "write",
)  # fmt: skip
FRONT = ("__init__", "__main__", "commands", "namesake")  # entry points, which belong to no room


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def importers(*modules: str, among: list[Path]) -> set[str]:
    """Return the files that import one of the modules or something inside one."""
    wanted = tuple(modules)
    return {
        name_of(path)
        for path in among
        if any(name in wanted or name.startswith(tuple(f"{m}." for m in wanted)) for name, _ in imports(parse(path)))
    }


def at_the_top(node: ast.AST) -> set[str]:
    """Return the modules that are imported at import time, not inside a function."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found |= {name for name, _ in imports(child)}
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= at_the_top(child)
    return found


def test_the_optimizer_imports_only_torch_and_triton() -> None:
    allowed = sys.stdlib_module_names | {"torch", "triton"}  # torch installs triton, for the fused step's kernels
    for path in PACKAGE:
        if "optim" in path.relative_to(ROOT).parts:
            for name, line in imports(parse(path)):
                ours = name.startswith(("ranger21.optim", "ranger21.namesake"))
                assert ours or name.split(".")[0] in allowed, f"{name_of(path)}:{line} imports {name}"


def test_the_engine_names_no_library_model_dataset_or_optimizer() -> None:
    engine = [path for path in PACKAGE if "engine" in path.relative_to(ROOT).parts]
    strangers = ("timm", "torchvision", "wandb", "hydra", "omegaconf", "torch.distributed")
    for path in engine:
        known = {name for name, _ in imports(parse(path)) if name.startswith("ranger21.")}
        own = ("ranger21.engine", "ranger21.system", "ranger21.tracking", "ranger21.tracking.splits")
        assert not [name for name in known if not name.startswith(own) and name != "ranger21.config"], name_of(path)
    assert not importers(*strangers, among=engine)
    source = (ROOT / "ranger21" / "engine" / "loop.py").read_text().lower()
    assert not [name for name in ("adamw", "nesterov", "sgd", "resnet", "imagenet", "timm") if name in source]


@pytest.mark.parametrize(
    ("modules", "rooms"),
    [
        (("torch.distributed", "torch.nn.parallel"), {"ranger21/system/distributed.py"}),
        (("wandb",), {"ranger21/tracking/loggers/wandb_tracker.py", "ranger21/wandb_tools/file.py"}),
        (("mlflow",), {"ranger21/tracking/loggers/mlflow.py"}),
        (("torch.utils.tensorboard",), {"ranger21/tracking/loggers/tensorboard.py"}),
        (("wandb_workspaces",), {"ranger21/wandb_tools/workspace.py"}),
        (("triton",), {f"ranger21/{x}.py" for x in ("optim/fused/kernels", "data/fused_kernels", "gpu/compiled")}),
        (
            ("timm",),
            {
                f"ranger21/{x}.py"
                for x in (
                    "models/build",
                    "models/pretrained",
                    "models/training",
                    "models/weights",
                    "run/loss",
                    "run/optimizers",
                )
            },
        ),
        (
            ("hydra",),
            {
                f"ranger21/{x}.py"
                for x in ("config/compose", "config/groups", "config/mistakes", "config/overrides", "records/naming")
            },
        ),
        (
            ("matplotlib",),
            {
                f"ranger21/{x}.py"
                for x in (
                    *("report/figures/drawing", "report/figures/stairs"),
                    *("landscape/figures", "tuning/figures", "meta/figures"),
                )
            },
        ),
    ],
)
def test_each_library_is_imported_only_by_the_listed_modules(modules: tuple[str, ...], rooms: set[str]) -> None:
    assert importers(*modules, among=PACKAGE) == rooms


def test_contributing_lists_the_rooms_in_import_order() -> None:
    listed = re.findall(r"^  (\w+)/ ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert tuple(listed) == ROOMS


@pytest.mark.parametrize(("house", "rooms"), [("ranger21", ROOMS), ("ranger21.report", REPORT)])
def test_rooms_import_only_rooms_before_them(house: str, rooms: tuple[str, ...]) -> None:
    place, depth = ROOT / house.replace(".", "/"), house.count(".") + 1
    paths = {path: path.relative_to(place).parts[0].removesuffix(".py") for path in sorted(place.rglob("*.py"))}
    assert {*paths.values()} - {*FRONT} == {*rooms}, "every module must be in a room, and every room in the list"
    for path, own in paths.items():
        for name, line in imports(parse(path)):
            parts = name.split(".")
            if own not in FRONT and name.startswith(f"{house}."):
                back = parts[depth] in rooms and rooms.index(parts[depth]) > rooms.index(own)
                assert not back, f"{name_of(path)}:{line} imports {name}, whose room comes later"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checking are exempt."""
    paths = {name_of(path)[:-3].removesuffix("/__init__").replace("/", "."): path for path in PACKAGE}

    def imported(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                names = (f"{child.module}.{alias.name}" for alias in child.names)
                yield from (name if name in paths else str(child.module) for name in names)
            elif not isinstance(child, ast.FunctionDef) and "TYPE_CHECKING" not in ast.unparse(child)[:20]:
                yield from imported(child)

    found = {module: set(imported(parse(path))) & paths.keys() - {module} for module, path in paths.items()}
    graphlib.TopologicalSorter(found).prepare()


def test_torch_distributed_is_not_used_as_an_attribute_of_torch() -> None:
    for path in PACKAGE:
        reached = {ast.unparse(node) for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
        assert "torch.distributed" not in reached or path.name == "distributed.py", name_of(path)


def test_wandb_is_imported_only_inside_functions() -> None:
    for path in PACKAGE:
        assert not {name for name in at_the_top(parse(path)) if name.startswith("wandb")}, name_of(path)


def test_nothing_but_tests_imports_train_or_the_scripts() -> None:
    assert importers("train", "scripts", among=[path for path in EVERYTHING if path not in TESTS]) == set()


def test_tests_do_not_import_tests() -> None:
    """Code that several test files share belongs in tests/support; fixtures are requested by name."""
    tests = [path.stem for path in TESTS if path.parent.name != "support"]
    assert importers(*tests, *(f"tests.{name}" for name in tests), among=TESTS) == set()


def test_modules_that_run_before_torch_is_imported_do_not_import_it() -> None:
    modules = [name_of(path)[:-3].removesuffix("/__init__").replace("/", ".") for path in TORCH_FREE]
    assert len(modules) > 15
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'torchvision', 'timm', 'wandb'}} & set(sys.modules))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_the_optimizer_works_with_torch_alone(tmp_path: Path) -> None:
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


def test_files_and_functions_stay_small() -> None:
    """Files stay below 300 lines (test files below 400), and functions below 60."""
    for path in EVERYTHING:
        length = len(path.read_text().splitlines())
        assert length < (400 if path in TESTS else 300), f"{name_of(path)} has {length} lines"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                assert size < 60, f"{name_of(path)}:{node.lineno} {node.name} has {size} lines"
