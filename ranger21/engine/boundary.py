"""The work between two steps: logging, validation, saving, and the end of a run."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ranger21.engine.clock import Clock
from ranger21.engine.parts import Callbacks, Progress, TrainSetup, TrainState
from ranger21.engine.plan import Plan
from ranger21.system.distributed import Agreement
from ranger21.tracking.splits import images_of, split_of

Ending = Literal["finished", "diverged", "stopped"]


@dataclass(frozen=True)
class Due:
    """The actions that are due after a step."""

    log: bool
    evaluate: bool
    save: bool


def due_after(plan: Plan, progress: Progress, save_now: bool) -> Due:
    """Return the actions due after `progress.step` that neither this process nor an earlier one has done yet."""
    step = progress.step
    evaluate = plan.evaluates(step) and progress.evaluated_step < step
    return Due(
        log=plan.logs(step) and progress.logged_step < step,
        evaluate=evaluate,
        save=evaluate or ((save_now or plan.saves(step)) and progress.saved_step < step),
    )


class Boundary:
    """Handles the boundaries between the steps of a run. All ranks must call `cross` after the same step."""

    def __init__(self, setup: TrainSetup, state: TrainState, callbacks: Callbacks, clock: Clock) -> None:
        self.setup, self.state, self.callbacks, self.clock = setup, state, callbacks, clock
        self._agreement = Agreement(setup.world, flags=2)

    def cross(self, grad_norm: Tensor | None) -> Ending | None:
        """Do what is due after the last step; return how the run ends, or None if it continues.

        `grad_norm` is the gradient norm of the last step, or None if this process has not taken a step.
        """
        progress = self.state.progress
        due, stop = self._agree()
        if self._diverged(due):
            return "diverged"
        metrics = self._training_metrics(grad_norm) if due.log else {}
        result, stop = self._evaluate(stop) if due.evaluate else ({}, stop)
        best = self._is_best(result) if result else False
        if result is not None:
            self._log(metrics | result)
        progress.grad_norm = metrics.get("grad_norm") if result is None else None
        progress.seconds = self.clock.seconds()
        if due.save:
            progress.saved_step = progress.step
            self.callbacks.save(best)
        if due.log or due.save:
            self.clock.restart(progress.step)
        return self._ending(stop, postponed=result is None)

    def close(self) -> None:
        """Complete the exchange between the ranks that the last boundary started."""
        self._agreement.wait()

    def _agree(self) -> tuple[Due, int]:
        """Return the actions that are due, and the exit code of a signal that any rank has received, or 0."""
        timed = self.setup.world.main and self.clock.save_due()
        stop, save = self._agreement.exchange(self.callbacks.stop.code, int(timed))
        return due_after(self.setup.plan, self.state.progress, save_now=bool(stop or save)), stop

    def _diverged(self, due: Due) -> bool:
        """Return whether the run has diverged. Weights ruined by a step with a finite loss must not be saved."""
        if not (due.log or due.save):
            return False  # reading the result would make the host wait for the device
        weights = list(self.state.model.parameters())
        if due.save and not torch.nn.utils.get_total_norm(weights).isfinite():
            return True
        return self.state.nonfinite.gave_up() if self.setup.undo else self.state.nonfinite.first() is not None

    def _training_metrics(self, grad_norm: Tensor | None) -> dict[str, float]:
        """Return the training part of a log line."""
        setup, state, progress = self.setup, self.state, self.state.progress
        step, course = progress.step, setup.plan.course
        speed = self.clock.metrics(step, course)
        metrics: dict[str, float] = {
            "step": step,
            "epoch": course.epoch(step),
            "images_seen": course.seen(step),
            "time": self.clock.seconds(),
            **state.meter.metrics(),
            "lr": state.optimizer.param_groups[0]["initial_lr"] * setup.schedule(step, setup.plan.total_steps),
        }
        norm = progress.grad_norm if grad_norm is None else grad_norm.item()
        if norm is not None:
            metrics["grad_norm"] = norm
        if course.growth:
            metrics["batch_size"] = course.size(step)
        if setup.undo:
            metrics["train/skipped_steps"] = state.nonfinite.skipped()
        if self.callbacks.substitutes:
            metrics["data/substituted"] = self.callbacks.substitutes()
        if setup.world.device.type == "cuda":
            metrics["perf/gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
        return metrics | speed

    def _evaluate(self, stop: int) -> tuple[dict[str, float] | None, int]:
        """Return the metrics of a validation (None if a signal prevents or interrupts it) and the signal's exit code.

        The process that resumes the run repeats a validation that was not completed, and writes its log line.
        """
        if stop:
            return None, stop

        def interrupted() -> bool:
            nonlocal stop
            stop = self._agreement.exchange(self.callbacks.stop.code, 0)[0]
            return bool(stop)

        result = self.callbacks.evaluate(interrupted)
        self.setup.model.train()
        return result, 0 if result is not None else stop

    def _is_best(self, result: dict[str, float]) -> bool:
        """Record a validation; return whether it is the best so far."""
        progress, watched = self.state.progress, self.callbacks.watched
        key = f"{watched}/acc1"
        best = not progress.best or result[key] > progress.best[key]
        progress.evaluated_step = progress.step
        progress.last = {"step": progress.step, "epoch": self.setup.plan.course.epoch(progress.step), **result}
        if best:
            same = {None, watched, images_of(watched)}
            progress.best = {name: value for name, value in progress.last.items() if split_of(name) in same}
        return best

    def _log(self, metrics: dict[str, float]) -> None:
        if metrics:
            self.callbacks.tracker.log(metrics)
            self.state.meter.reset()
            self.state.progress.logged_step = self.state.progress.step

    def _ending(self, stop: int, postponed: bool) -> Ending | None:
        if self.state.progress.step == self.setup.plan.total_steps and not postponed:
            return "finished"
        self.callbacks.stop.code = max(self.callbacks.stop.code, stop)
        return "stopped" if stop else None
