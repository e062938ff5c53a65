"""Training: ranks, precision, divergence, and the files of a run."""

import json
import sys

import pytest
import torch
from support.commands import train
from support.training import last_checkpoint, metrics_lines, model_weights, result, run_ranks

from ranger21.engine.course import Course
from ranger21.engine.plan import Plan
from ranger21.engine.undo import Undo
from ranger21.models.weights import read_any
from ranger21.records.checkpoint_file import read
from ranger21.run.optimizers import build_optimizer


@pytest.mark.parametrize("optimizer", ["ranger21", "adamw", "nesterov"])
def test_two_ranks_equal_one(optimizer, tiny, tmp_path):
    """Two ranks or two passes, with half the batch each, see the same samples and reach nearly equal weights."""
    exact = [*tiny, f"optimizer={optimizer}", "trainer.precision=fp64", "model.remove_batch_norm=true"]
    exact = [o.replace(",drop_rate:0.2", "") for o in exact]
    assert run_ranks(exact, tmp_path / "one", 1) == [0]
    assert run_ranks(exact, tmp_path / "two", 2) == [0, 0]
    assert run_ranks([*exact, "trainer.accumulate=2"], tmp_path / "passes", 1) == [0]
    one = model_weights(tmp_path / "one")
    assert one.dtype == torch.float64 and result(tmp_path / "one")["step"] == 20
    assert (model_weights(tmp_path / "two") - one).abs().max() < 1e-10
    assert (model_weights(tmp_path / "passes") - one).abs().max() < 1e-10
    for a, b in zip(metrics_lines(tmp_path / "one"), metrics_lines(tmp_path / "two"), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-6)
        assert a.get("val/acc1") == b.get("val/acc1")


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_a_clipped_gradient_has_at_most_the_given_norm(precision, tiny, tmp_path):
    """A step of gradient descent with rate 1 and without decay changes the weights by the gradient."""
    plain = [
        *tiny,
        "optimizer=gd",
        "schedule=constant",
        "optimizer.lr=1",
        "optimizer.weight_decay=0",
        f"trainer.precision={precision}",
    ]
    steps = [*plain, "trainer.steps=1", "trainer.log_every_steps=1"]
    ends = {}
    for clip in ("null", "1e-3", "1e6"):
        assert run_ranks([*steps, f"trainer.clip_grad_norm={clip}"], tmp_path / clip, 1) == [0]
        ends[clip] = last_checkpoint(tmp_path / clip)["model"]
    start = tmp_path / "start"
    assert run_ranks([*steps, "optimizer.lr=0"], start, 1) == [0]
    trained = {key for key in ends["null"] if "running" not in key and "num_batches" not in key}
    before = last_checkpoint(start)["model"]

    def moved(clip):
        return sum((ends[clip][key] - before[key]).double().square().sum() for key in trained).sqrt().item()

    norm = metrics_lines(tmp_path / "1e-3")[0]["grad_norm"]
    assert moved("null") == pytest.approx(norm, rel=1e-4) and norm > 0.01
    assert moved("1e-3") == pytest.approx(1e-3, rel=1e-2)
    assert all(torch.equal(ends["1e6"][key], ends["null"][key]) for key in trained)


def test_binary_cross_entropy_trains_on_each_class_alone(tiny, tmp_path):
    """The first loss is timm's, of the logits that cross-entropy sees; validations report cross-entropy."""
    steps = [*tiny, "trainer.steps=1", "trainer.log_every_steps=1", "trainer.label_smoothing=0.1"]
    assert run_ranks([*steps, "trainer.loss=bce"], tmp_path / "bce", 1) == [0]
    row = metrics_lines(tmp_path / "bce")[0]
    classes = last_checkpoint(tmp_path / "bce")["data"]["classes"]
    assert 0.5 < row["train/loss"] < 0.9  # about log 2 for each class, whatever their number
    assert row["val/loss"] > 1.0 and classes == 10


def test_every_run_of_a_sweep_logs_its_progress(commands, tiny, tmp_path):
    """The runs share one process, and the first must not silence the others."""
    done = commands.complete("train.py", "-m", *tiny, "trainer.steps=2", f"outputs={tmp_path}", "seed=0,1")
    logs = [path.read_text().splitlines() for path in sorted(tmp_path.glob("paper/*/log.txt"))]
    assert done.returncode == 0 and [len(log) for log in logs] == [3, 3], done.stdout
    assert done.stdout.count("epoch 0.40  step 2") == 2


def test_a_run_under_torchrun_writes_all_its_files(tiny, tmp_path):
    """The metrics have the documented names and steps."""
    directory = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = train(*tiny, f"run_dir={directory}", launcher=launcher)
    assert done.returncode == 0, done.stdout
    names = {"config.yaml", "manifest.json", "metrics.jsonl", "log.txt", "result.json", "checkpoints"}
    assert names <= {path.name for path in directory.iterdir()}
    assert {p.name for p in (directory / "checkpoints").iterdir()} == {"last.pt", "previous.pt", "best.pt"}
    rows = metrics_lines(directory)
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == 20
    assert [row["step"] for row in rows if "val/acc1" in row] == [5, 10, 15, 20]
    for row in rows:
        assert row["images_seen"] == 16 * row["step"] and row["epoch"] == row["step"] / 5
        assert {"time", "train/loss", "train/acc1", "lr", "grad_norm"} <= row.keys()
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["sessions"][0]["hardware"]["ranks"] == 2 and manifest["sessions"][0]["packages"]["torch"]
    assert manifest["protocol"]["name"] == "paper" and len(manifest["protocol"]["hash"]) == 16
    best = max((row for row in rows if "val/acc1" in row), key=lambda row: row["val/acc1"])
    assert result(directory)["best"]["val/acc1"] == pytest.approx(best["val/acc1"])
    assert read(directory / "checkpoints" / "best.pt")["progress"]["step"] == result(directory)["best"]["step"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(precision, tiny, tmp_path):
    assert run_ranks([*tiny, f"trainer.precision={precision}"], tmp_path / precision, 1) == [0]
    assert run_ranks([*tiny, "trainer.precision=fp32"], tmp_path / "fp32", 1) == [0]
    half, full = model_weights(tmp_path / precision), model_weights(tmp_path / "fp32")
    assert half.dtype == torch.float32 and torch.isfinite(half).all() and not torch.equal(half, full)
    assert metrics_lines(tmp_path / precision)[0]["train/loss"] == pytest.approx(
        metrics_lines(tmp_path / "fp32")[0]["train/loss"], rel=0.05
    )


def test_divergence_is_a_result(commands, tiny, tmp_path):
    directory = tmp_path / "run"
    ruin = [*tiny, "optimizer=nesterov", "optimizer.lr=1e20", f"run_dir={directory}"]
    done = commands.complete("train.py", *ruin)
    assert done.returncode == 0 and "Diverged" in done.stdout, done.stdout
    found = result(directory)
    assert found["status"] == "diverged" and 2 <= found["diverged_at_step"] <= 4
    if (directory / "checkpoints" / "last.pt").exists():
        assert torch.isfinite(model_weights(directory)).all()
    again = commands.complete("train.py", *ruin)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_skipping_gives_up_after_ten_in_a_row(tiny, tmp_path):
    directory = tmp_path / "run"
    # One step makes weights of about 1e8: representable, but without batch norm the activations overflow.
    extra = ["optimizer=nesterov", "optimizer.lr=1e12", "trainer.on_nonfinite=skip", "model.remove_batch_norm=true"]
    assert run_ranks([*tiny, *extra], directory, 1) == [0]
    found = result(directory)
    assert found["status"] == "diverged" and found["skipped_steps"] >= 10, found
    assert torch.isfinite(model_weights(directory)).all()


@pytest.mark.parametrize("name", ["ranger21", "adamw", "nesterov"])
@pytest.mark.parametrize("bad_first", [True, False])
def test_a_skipped_step_changes_no_tensor(name, bad_first):
    """A bad step among good ones leaves weights, buffers and moments unchanged."""
    extra = {"nesterov": {"momentum": 0.9}}.get(name, {})
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = build_optimizer(name, model.parameters(), lr=0.1, weight_decay=1e-2, decay_norm_and_bias=True, **extra)
    undo = Undo(model, optimizer)
    inputs = torch.randn(3, 8, 4)
    for number in range(3):
        bad = torch.tensor(number == (0 if bad_first else 1))
        before = [t.clone() for t in model.state_dict().values()]
        undo.remember()
        (model(inputs[number] * (float("nan") if bad else 1.0)) ** 2).sum().backward()
        undo.mask_gradients(bad)
        optimizer.step()
        undo.restore(bad)
        same = [torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True)]
        assert all(same) if bad else not any(same)
        tensors = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        assert tensors and all(torch.isfinite(t).all() for t in tensors)
        optimizer.zero_grad()


def test_settings_for_speed_change_only_rounding(tiny, tmp_path):
    """channels_last changes only rounding; a different seed changes everything."""
    plain = [o.replace(",drop_rate:0.2", "") for o in tiny] + ["trainer.precision=fp64"]
    assert run_ranks(plain, tmp_path / "a", 1) == [0]
    assert run_ranks([*plain, "trainer.channels_last=false"], tmp_path / "b", 1) == [0]
    assert run_ranks([*plain, "seed=1"], tmp_path / "c", 1) == [0]
    a, b, c = (model_weights(tmp_path / name) for name in "abc")
    assert (a - b).abs().max() < 1e-8 < (a - c).abs().max()


def test_init_from_starts_with_the_weights_of_a_finished_run(tiny, tmp_path):
    assert run_ranks(tiny, tmp_path / "first", 1) == [0]
    best = tmp_path / "first" / "checkpoints" / "last.pt"
    second = [*tiny, f"model.init_from={best}", "optimizer=adamw", "optimizer.lr=0", "trainer.steps=2"]
    assert run_ranks([*second, "model.kwargs.drop_rate=0"], tmp_path / "second", 1) == [0]
    learned = {k: v for k, v in last_checkpoint(tmp_path / "first")["model"].items() if k.endswith("weight")}
    kept = last_checkpoint(tmp_path / "second")["model"]
    assert learned and all(torch.equal(v, kept[k]) for k, v in learned.items())
    (session,) = json.loads((tmp_path / "second" / "manifest.json").read_text())["sessions"]
    assert session["init_from"] == read_any(str(best)).digest


def test_the_plan_counts_steps_from_one():
    plan = Plan(Course(80, 16, 4), 1, 2, 3, 7, None)
    assert [s for s in range(21) if plan.evaluates(s)] == [10, 20]
    assert [s for s in range(21) if plan.logs(s)] == [3, 6, 9, 10, 12, 15, 18, 20]
    assert [s for s in range(21) if plan.saves(s)] == [7, 10, 14, 20]
