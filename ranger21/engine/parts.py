"""The arguments of the training loop: objects built once, the state in a checkpoint, and callbacks between steps."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ranger21.engine.labels import Labels
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.plan import Plan
from ranger21.engine.precision import Precision
from ranger21.engine.undo import Undo
from ranger21.system.distributed import World
from ranger21.system.stopping import StopFlag
from ranger21.tracking import Tracker
from ranger21.tracking.splits import OFFICIAL


@dataclass
class TrainSetup:
    """The parts of a training that are built before the first step and then stay the same.

    Attributes:
        model: the model that the loop calls: compiled if trainer.compile is set, and wrapped for distributed training.
        batches: the batches of the remaining steps. `batch.to(device)` returns the images, the random numbers of the
            augmentation that is left to the device, and the labels.
        to_input: turns images and those random numbers into the model's input.
        schedule: the factor of the learning rate as a function of (step, total_steps).
        seed: the seed of random layers, such as dropout.
        loss: the mean loss of a batch as a function of (logits, labels), whose images may be mixed.
        clip_grad_norm: the largest norm of the whole gradient, to which longer ones are scaled; None for no limit.
        averages_statistics: whether batch norms' running statistics are averaged over the ranks after each step.
        recomputes: whether the backward pass runs parts of the model again (gradient checkpointing).
        undo: undoes a step whose loss or gradient is not finite; None if such a step ends the run.
    """

    world: World
    model: nn.Module
    batches: Generator[Any, None, None]
    to_input: nn.Module
    schedule: Callable[[int, int], float]
    precision: Precision
    plan: Plan
    seed: int
    loss: Callable[[Tensor, Labels], Tensor]
    memory_format: torch.memory_format
    undo: Undo | None = None
    clip_grad_norm: float | None = None
    recomputes: bool = False
    averages_statistics: bool = False


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: the number of steps done.
        seconds: running time, over all processes of the run.
        saved_step: the step of the last checkpoint; `logged_step` and `evaluated_step` likewise.
        grad_norm: the gradient norm of `step`, if its log line waits for an interrupted validation.
        last: metrics of the last validation.
        best: metrics of the validation with the highest top-1 accuracy.
    """

    step: int = 0
    seconds: float = 0.0
    saved_step: int = 0
    logged_step: int = 0
    evaluated_step: int = 0
    grad_norm: float | None = None
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)


class Average(Protocol):
    """A moving average of a model's parameters and buffers, such as timm's ModelEmaV3."""

    module: nn.Module

    def update(self, model: nn.Module) -> None:
        """Move the average towards the model."""


@dataclass
class TrainState:
    """The state that training changes and a checkpoint stores.

    Attributes:
        model: the model, neither compiled nor wrapped, so that its tensors have the same names as in a checkpoint.
        ema: the average of the model over the steps, if there is one.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    meter: Meter
    nonfinite: NonFinite
    progress: Progress = field(default_factory=Progress)
    ema: Average | None = None


@dataclass
class Callbacks:
    """The functions that the loop calls between two steps.

    Attributes:
        tracker: receives the metrics.
        evaluate: returns the metrics of a validation, or None as soon as the function it is given returns True.
        save: writes a checkpoint; its argument says whether the last validation is the best so far.
        stop: holds the exit code of a received signal.
        substitutes: returns how many unreadable images were replaced by others; None if that is not allowed.
        watched: the split whose top-1 accuracy decides which validation is the best, such as `val` or `val_ema`.
    """

    tracker: Tracker
    evaluate: Callable[[Callable[[], bool]], dict[str, float] | None]
    save: Callable[[bool], None]
    stop: StopFlag
    substitutes: Callable[[], int] | None = None
    watched: str = OFFICIAL
