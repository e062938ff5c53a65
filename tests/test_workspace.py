"""W&B's workspace, built without a server, and its panels, whose metrics must all be logged."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.training import TINY, metrics_lines, run_ranks

from ranger21.system.errors import UserError
from ranger21.tracking.colours import OPTIMIZERS
from ranger21.tracking.panels import AXES, PANELS

SNAPSHOT = ROOT / "tests" / "golden" / "workspace.json"
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # raised by wandb-workspaces
CUDA_ONLY = {"perf/gpu_memory_gb"}  # test_metrics_of_cuda_only_panels_are_logged_under_cuda reads the source instead


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "scripts" / "wandb_workspace.py"), *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=100, env=os.environ | env)


@pytest.fixture(scope="module")
def logged(images: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The metrics of a run that logs everything possible: growing batches, skipped steps, substituted images."""
    place = tmp_path_factory.mktemp("logged")
    shutil.copytree(images, place / "data")
    next((place / "data" / "train").rglob("*.*")).write_bytes(b"no image")
    overrides = [*TINY, f"data.root={place / 'data'}", "data.on_bad_image=substitute", "trainer.on_nonfinite=skip"]
    overrides += [
        "trainer.ema=0.9",
        "data.holdout=20",
        "batch_schedule=linear",
        "batch_schedule.start=8",
        "batch_schedule.over=2 epochs",
    ]
    assert run_ranks(overrides, place / "run", 1) == [0], (place / "run.out").read_text()
    return {name for row in metrics_lines(place / "run") for name in row}


def test_every_panel_shows_a_metric_that_the_trainer_logs(logged):
    metrics = {panel.metric for panel in PANELS}
    assert metrics - CUDA_ONLY <= logged, f"not logged: {metrics - CUDA_ONLY - logged}"
    assert not CUDA_ONLY & logged and set(AXES) <= logged


def test_metrics_of_cuda_only_panels_are_logged_under_cuda():
    """The test reads the source, because it cannot run on CUDA here."""
    tree = ast.parse((ROOT / "ranger21" / "engine" / "boundary.py").read_text())
    branches = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "device.type == 'cuda'" in ast.unparse(n.test)]
    for metric in CUDA_ONLY:
        assert any(f"metrics['{metric}'] = " in ast.unparse(branch) for branch in branches), metric


def test_the_definition_equals_the_committed_one():
    """Random ids are ignored. To change it: python scripts/wandb_workspace.py > tests/golden/workspace.json"""
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    done = command()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(SNAPSHOT.read_text())


def test_every_panel_is_a_plot_of_means_with_a_band():
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    from ranger21.wandb_tools.workspace import build, definition

    section = definition(build(["optimizer.name"], "stderr"))["spec"]["section"]
    parts = section["panelBankConfig"]["sections"][:-1]
    plots = [panel["config"] for part in parts for panel in part["panels"]]
    assert [plot["metrics"] for plot in plots] == [[panel.metric] for panel in PANELS]
    assert all((p["xAxis"], p["groupAgg"], p["groupArea"]) == ("epoch", "mean", "stderr") for p in plots)
    assert [plot["yLogScale"] for plot in plots] == [panel.log for panel in PANELS]
    assert section["runSets"][0]["grouping"] == [{"section": "config", "name": "optimizer.value.name"}]
    assert [p["metrics"] for p in plots if "smoothingWeight" in p] == [
        [panel.metric] for panel in PANELS if panel.metric.startswith("train/")
    ]


def test_groups_have_the_colours_of_optimizers_and_swept_settings_are_axes():
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    from ranger21.wandb_tools.workspace import build, definition

    made = definition(build(["optimizer.name"], swept=["data.batch_size", "optimizer.lr"]))["spec"]["section"]
    colours = {value for key, value in made["customRunColors"].items() if key != "ref"}
    assert colours == {look.light for look in OPTIMIZERS.values()}
    plots = [panel["config"]["columns"] for panel in made["panelBankConfig"]["sections"][-1]["panels"]]
    for columns, result in zip(plots, ("holdout", "val"), strict=True):
        axes = [column["accessor"] for column in columns]
        assert axes == ["config:data.value.batch_size", "config:optimizer.value.lr", f"summary:best/{result}/acc1"]
    other = definition(build(["model.name", "optimizer.name"]))["spec"]["section"]
    assert not {*other.get("customRunColors", {})} - {"ref"}


def test_groups_and_swept_settings_are_keys_of_the_configuration():
    from ranger21.wandb_tools.workspace import build

    with pytest.raises(UserError, match=r"sweep of optimizer\.lrr, which is not a key"):
        build(swept=["optimizer.lrr"])
    with pytest.raises(UserError, match=r"optimzer\.name, which is not a key"):
        build(["optimzer.name"])


@pytest.mark.parametrize(
    ("target", "words"),
    [("me", "is not ENTITY/PROJECT"), ("/p", "is not ENTITY/PROJECT"), ("me/p", "was not saved in me/p")],
)
def test_a_failure_to_publish_is_reported(target, words, tmp_path):
    """There is no key and no server."""
    pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")
    nowhere = {"HOME": str(tmp_path), "WANDB_API_KEY": "", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = command("--publish", target, **nowhere)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
