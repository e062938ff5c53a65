"""Progress on the console: a live bar on a terminal, plain lines elsewhere."""

import datetime
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

from ranger21.system.terminal import console, duration, log
from ranger21.tracking import Metrics
from ranger21.tracking.splits import VALIDATED, split_of


def sentence(metrics: Metrics) -> str:
    """Return the main metrics as one line."""
    parts = [f"epoch {metrics['epoch']:.2f}", f"step {metrics['step']}"]
    formats = {
        "train/loss": "loss {:.4f}",
        "train/acc1": "train {:.1f} %",
        "lr": "lr {:.2e}",
        "grad_norm": "grad {:.3g}",
        "perf/images_per_s": "{:.0f} images/s",
        "perf/data_wait": "data wait {:.0%}",
    }
    for split in VALIDATED:
        formats |= {f"{split}/loss": f"| {split} loss {{:.4f}}", f"{split}/acc1": "top-1 {:.2f} %"}
        formats[f"{split}/acc5"] = "top-5 {:.2f} %"
    return "  ".join(parts + [text.format(metrics[name]) for name, text in formats.items() if name in metrics])


class ConsoleTracker:
    """Tracker that shows the progress and remaining time of a run that starts or resumes at `first_step`."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self.total, self.first = total_steps, first_step
        self._started = datetime.datetime.now()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = ("{task.completed}/{task.total}", "left {task.fields[left]}", "{task.fields[numbers]}")
            self._bar = Progress(
                BarColumn(12), *(TextColumn(c) for c in columns), console=console, refresh_per_second=4
            )
            self._task = self._bar.add_task("", total=total_steps, completed=first_step, numbers="", left="?")
            self._bar.start()

    def left(self, step: int) -> str:
        """Return the remaining time, estimated by the mean speed of this process."""
        if step <= self.first:
            return "?"
        spent = (datetime.datetime.now() - self._started).total_seconds()
        return duration(spent / (step - self.first) * (self.total - step))

    def progress(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, left=self.left(step))

    def log(self, metrics: Metrics) -> None:
        step = int(metrics["step"])
        if self._bar is not None:
            self._bar.update(self._task, numbers=sentence({k: v for k, v in metrics.items() if not split_of(k)}))
        if self._bar is None or any(map(split_of, metrics)):
            log.info("%s  left %s", sentence(metrics), self.left(step))

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        if self._bar is not None:
            self._bar.stop()
