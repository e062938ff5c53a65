"""The training loop. It knows tensors, steps and ranks; what is trained, on what and by what is handed in."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranger21.engine.course import Course
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.precision import Precision
from ranger21.engine.undo import Undo
from ranger21.system import randomness
from ranger21.system.distributed import Agreement, World, no_sync
from ranger21.system.stopping import StopFlag
from ranger21.tracking import Tracker
from ranger21.tracking.splits import OFFICIAL, split_of


@dataclass
class Progress:
    """How far a run is: all that a checkpoint needs besides the model, the optimizer and the scaler."""

    step: int = 0  # done
    seconds: float = 0.0  # of running, summed over restarts
    saved_step: int = 0
    logged_step: int = 0
    evaluated_step: int = 0
    grad_norm: float | None = None  # of a log line that is still to be written
    last: dict[str, float] = field(default_factory=dict)  # the newest validation
    best: dict[str, float] = field(default_factory=dict)  # the one with the highest top-1


@dataclass
class Plan:
    """How long, and at which steps what happens. Steps are counted from 1."""

    course: Course
    accumulate: int  # passes a batch of the course's unit
    eval_every_epochs: int
    log_every_steps: int
    checkpoint_every_steps: int | None
    checkpoint_every_minutes: float | None
    eval_every_steps: int | None = None  # in place of every so many epochs

    @property
    def total_steps(self) -> int:
        return self.course.total_steps

    def passes(self, step: int) -> int:
        """Forward and backward passes of a step, on every rank."""
        return self.accumulate * self.course.size(step) // self.course.unit

    def evaluates(self, step: int) -> bool:
        if step <= 0 or step == self.total_steps:
            return step == self.total_steps
        if self.eval_every_steps:
            return step % self.eval_every_steps == 0
        epochs = self.course.ends_epoch(step)
        return epochs > 0 and epochs % self.eval_every_epochs == 0

    def logs(self, step: int) -> bool:
        return step > 0 and (step % self.log_every_steps == 0 or self.evaluates(step))

    def saves(self, step: int) -> bool:
        every = self.checkpoint_every_steps
        return self.evaluates(step) or (every is not None and step > 0 and step % every == 0)


@dataclass
class Job:
    """What the loop works with."""

    model: nn.Module  # wrapped for the ranks
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int, int], float]
    scaler: torch.amp.GradScaler
    batches: Generator[Any, None, None]  # (images, what to do on the device, labels) by `to`; from the first step to do
    substitutes: Callable[[], int] | None  # how many images stood for unreadable ones so far, where that is allowed
    to_input: nn.Module
    evaluate: Callable[[Callable[[], bool]], dict[str, float] | None]
    save: Callable[[Progress, bool], None]
    tracker: Tracker
    world: World
    precision: Precision
    plan: Plan
    meter: Meter
    nonfinite: NonFinite
    stop: StopFlag
    undo: Undo | None  # leaves a non-finite step out
    seed: int  # of dropout and the like
    label_smoothing: float
    memory_format: torch.memory_format
    watched: str = OFFICIAL  # the split by whose top-1 the best validation is chosen


class Clock:
    """Where the time goes, in seconds of this process."""

    def __init__(self, before: float, save_every_minutes: float | None) -> None:
        self._before, self._every = before, (save_every_minutes or float("inf")) * 60
        self._start = self._saved = time.perf_counter()
        self.restart()

    def restart(self, step: int = 0) -> None:
        """Begins a new span of steps, after `step`."""
        self._span, self._waited, self._step = time.perf_counter(), 0.0, step

    def wait_for(self, batches: Iterator[Any]) -> Any:
        begin = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - begin
        return batch

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def save_due(self) -> bool:
        """True once every so many minutes."""
        due = time.perf_counter() - self._saved >= self._every
        if due:
            self._saved = time.perf_counter()
        return due

    def metrics(self, step: int, course: Course) -> dict[str, float]:
        span = max(time.perf_counter() - self._span, 1e-9)
        images = course.seen(step) - course.seen(self._step)
        return {"perf/images_per_s": images / span, "perf/data_wait": self._waited / span} if images else {}


def train(job: Job, progress: Progress) -> str:
    """Trains from `progress.step` to the end: "finished", "diverged", or "stopped" by a signal."""
    clock = Clock(progress.seconds, job.plan.checkpoint_every_minutes)
    agreement = Agreement(job.world, flags=2)
    clock.restart(progress.step)
    job.model.train()
    grad_norm: Tensor | None = None
    while True:
        ending = boundary(job, progress, clock, agreement, grad_norm)
        if ending:
            agreement.wait()
            return ending
        grad_norm = take_step(job, progress.step + 1, clock)
        progress.step += 1
        job.tracker.progress(progress.step)


def take_step(job: Job, step: int, clock: Clock) -> Tensor | None:
    """One optimizer step, and the gradient's norm if it will be logged. Nothing here waits for the device."""
    torch.manual_seed(randomness.seed(randomness.NOISE, job.seed, step, job.world.rank))
    for group in job.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * job.schedule(step, job.plan.total_steps)
    if job.undo:
        job.undo.remember()
    bad = torch.zeros((), dtype=torch.bool, device=job.world.device)
    passes = job.plan.passes(step)
    for part in range(passes):
        batch = clock.wait_for(job.batches)
        with no_sync(job.model) if part < passes - 1 else nullcontext():
            bad = bad | ~torch.isfinite(forward_backward(job, batch, passes))
    grad_norm = None
    if job.plan.logs(step) or job.undo:
        job.scaler.unscale_(job.optimizer)
        grads = [p.grad for group in job.optimizer.param_groups for p in group["params"] if p.grad is not None]
        grad_norm = torch.nn.utils.get_total_norm(grads)
    if job.undo:
        if not job.scaler.is_enabled():  # whose own overflows are no divergence
            bad = bad | ~torch.isfinite(grad_norm)  # type: ignore[arg-type]
        bad = job.world.reduce(bad.to(torch.int32), "max").bool()
        job.undo.mask_gradients(bad)
    job.scaler.step(job.optimizer)
    job.scaler.update()
    job.optimizer.zero_grad(set_to_none=True)
    if job.undo:
        job.undo.restore(bad)
        job.nonfinite.left_out(step, bad)
    else:
        job.nonfinite.saw(step, bad)
    return grad_norm


def forward_backward(job: Job, batch: Any, passes: int) -> Tensor:
    """One pass of several: the loss of this rank's images, its share of the gradient added to the parameters'."""
    images, rest, labels = batch.to(job.world.device)
    inputs = job.to_input(images, rest, job.precision.inputs, job.memory_format)
    with job.precision.autocast():
        logits = job.model(inputs)
    logits = logits.to(job.precision.weights)
    loss = F.cross_entropy(logits, labels, label_smoothing=job.label_smoothing)
    job.scaler.scale(loss / passes).backward()
    job.meter.add(loss.detach(), logits.detach(), labels)
    return loss.detach()


def boundary(job: Job, progress: Progress, clock: Clock, agreement: Agreement, grad_norm: Tensor | None) -> str | None:
    """Between two steps: look, log, evaluate, save, stop. Returns how the run ends, if it does."""
    step, plan = progress.step, job.plan
    stop, save = agreement.exchange(job.stop.code, int(job.world.main and clock.save_due()))
    evaluating = plan.evaluates(step) and progress.evaluated_step < step
    logging = plan.logs(step) and progress.logged_step < step
    saving = evaluating or (bool(stop or save or plan.saves(step)) and progress.saved_step < step)
    if (logging or saving) and diverged(job, weights_too=saving):
        return "diverged"
    metrics = training_metrics(job, progress, clock, grad_norm) if logging else {}
    better = False
    if evaluating and not stop:
        stop, better = validate(job, progress, agreement, metrics)
    unfinished = evaluating and progress.evaluated_step < step  # it, and its log line, will be made after the resume
    progress.grad_norm = metrics.get("grad_norm") if unfinished else None
    if metrics and not unfinished:
        job.tracker.log(metrics)
        job.meter.reset()
        progress.logged_step = step
    progress.seconds = clock.seconds()
    if saving:
        progress.saved_step = step
        job.save(progress, better)
    if logging or saving:
        clock.restart(step)
    if step == plan.total_steps and not unfinished:
        return "finished"
    job.stop.code = max(job.stop.code, stop)
    return "stopped" if stop else None


def diverged(job: Job, weights_too: bool) -> bool:
    """Whether the run is lost. A finite loss may still have ruined the weights, which must not be saved as good."""
    if weights_too and not torch.nn.utils.get_total_norm(list(job.model.parameters())).isfinite():
        return True
    return job.nonfinite.gave_up() if job.undo else job.nonfinite.first() is not None


def training_metrics(job: Job, progress: Progress, clock: Clock, grad_norm: Tensor | None) -> dict[str, float]:
    """The training part of a log line."""
    step, course = progress.step, job.plan.course
    speed = clock.metrics(step, course)
    metrics: dict[str, float] = {
        "step": step,
        "epoch": course.epoch(step),
        "images_seen": course.seen(step),
        "time": clock.seconds(),
        **job.meter.metrics(),
        "lr": job.optimizer.param_groups[0]["initial_lr"] * job.schedule(step, job.plan.total_steps),
    }
    norm = progress.grad_norm if grad_norm is None else grad_norm.item()
    if norm is not None:
        metrics["grad_norm"] = norm
    if course.growth:
        metrics["batch_size"] = course.size(step)
    if job.undo:
        metrics["train/skipped_steps"] = job.nonfinite.skipped()
    if job.substitutes:
        metrics["data/substituted"] = job.substitutes()
    if job.world.device.type == "cuda":
        metrics["perf/gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
    return metrics | speed


def validate(job: Job, progress: Progress, agreement: Agreement, metrics: dict[str, float]) -> tuple[int, bool]:
    """Evaluates into `metrics`; returns the exit code of a stop in between, and whether it is the best so far."""
    stop = 0

    def interrupted() -> bool:
        nonlocal stop
        stop = agreement.exchange(job.stop.code, 0)[0]
        return bool(stop)

    result = job.evaluate(interrupted)
    job.model.train()
    if result is None:
        return stop, False
    metrics |= result
    key = f"{job.watched}/acc1"
    better = not progress.best or result[key] > progress.best[key]
    progress.evaluated_step = progress.step
    progress.last = {"step": progress.step, "epoch": job.plan.course.epoch(progress.step), **result}
    if better:
        progress.best = {name: value for name, value in progress.last.items() if split_of(name) in (None, job.watched)}
    return 0, better
