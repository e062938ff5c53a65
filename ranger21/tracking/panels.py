"""The metrics that are plotted, for both the HTML page and the W&B workspace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A plot of one metric over steps, epochs, images or time."""

    metric: str  # the name under which the trainer logs it
    title: str
    unit: str  # empty for a dimensionless metric
    section: str
    log: bool = False  # whether the y axis is logarithmic by default


VALIDATION, WATCHED, TRAINING, SCHEDULE = "Validation", "Holdout of the training set", "Training", "Schedule"
AVERAGED = "Average of the weights"
GRADIENT, SPEED = "Gradient", "Throughput"

PANELS = (
    Panel("val/acc1", "Top-1 accuracy", "%", VALIDATION),
    Panel("val/loss", "Loss", "nats", VALIDATION, log=True),
    Panel("val/acc5", "Top-5 accuracy", "%", VALIDATION),
    Panel("val/loss_smoothed", "Loss with label smoothing", "nats", VALIDATION, log=True),
    Panel("holdout/acc1", "Top-1 accuracy", "%", WATCHED),
    Panel("holdout/loss", "Loss", "nats", WATCHED, log=True),
    Panel("holdout/acc5", "Top-5 accuracy", "%", WATCHED),
    Panel("holdout/loss_smoothed", "Loss with label smoothing", "nats", WATCHED, log=True),
    Panel("val_ema/acc1", "Top-1 accuracy", "%", AVERAGED),
    Panel("val_ema/loss", "Loss", "nats", AVERAGED, log=True),
    Panel("holdout_ema/acc1", "Top-1 accuracy, holdout", "%", AVERAGED),
    Panel("holdout_ema/loss", "Loss, holdout", "nats", AVERAGED, log=True),
    Panel("train/loss", "Objective", "nats", TRAINING, log=True),
    Panel("train/acc1", "Top-1 accuracy on augmented images", "%", TRAINING),
    Panel("train/skipped_steps", "Steps left out, not finite", "steps", TRAINING),
    Panel("lr", "Learning rate", "", SCHEDULE),
    Panel("batch_size", "Batch size", "images", SCHEDULE),
    Panel("grad_norm", "Gradient norm", "", GRADIENT, log=True),
    Panel("perf/images_per_s", "Images per second", "images/s", SPEED),
    Panel("perf/data_wait", "Share of the time waiting for data", "", SPEED),
    Panel("perf/gpu_memory_gb", "Memory of the GPU", "GiB", SPEED),
    Panel("data/substituted", "Unreadable images replaced", "images", SPEED),
)

AXES = {"epoch": "epoch", "step": "step", "images_seen": "images seen", "time": "time"}
