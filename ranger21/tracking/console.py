"""Progress on the console: a live bar on a terminal, plain lines elsewhere."""

import datetime
from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ranger21.system.terminal import console, duration, fitting, log
from ranger21.tracking import Metrics
from ranger21.tracking.splits import VALIDATED, split_of

BAR = 12  # characters
FORMATS = {
    "train/loss": "loss {:.4f}",
    "train/acc1": "train {:.1f} %",
    "lr": "lr {:.2e}",
    "grad_norm": "grad {:.3g}",
    "perf/images_per_s": "{:.0f} images/s",
    "perf/data_wait": "data wait {:.0%}",
}


def parts(metrics: Metrics) -> list[str]:
    """Return the main metrics as texts: epoch and step, the training's, then those of each validation."""
    formats = dict(FORMATS)
    for split in VALIDATED:
        formats |= {f"{split}/loss": f"| {split} loss {{:.4f}}", f"{split}/acc1": "top-1 {:.2f} %"}
        formats[f"{split}/acc5"] = "top-5 {:.2f} %"
    told = [text.format(metrics[name]) for name, text in formats.items() if name in metrics]
    return [f"epoch {metrics['epoch']:.2f}", f"step {metrics['step']}", *told]


def sentence(metrics: Metrics) -> str:
    """Return the main metrics as one line."""
    return "  ".join(parts(metrics))


def validated(metrics: Metrics, left: str) -> list[str]:
    """Return the texts of a validation, the most important first."""
    found = [
        f"{split} {form.format(metrics[f'{split}/{name}'])}"
        for name, form in (("acc1", "top-1 {:.2f} %"), ("loss", "loss {:.4f}"), ("acc5", "top-5 {:.2f} %"))
        for split in VALIDATED
        if f"{split}/{name}" in metrics
    ]
    epoch, step, *training = parts({name: value for name, value in metrics.items() if not split_of(name)})
    return [epoch, step, f"left {left}", *found, *training]


class OneLine(Progress):
    """Progress as one line: the bar, the step, the time left, then as many metrics as fit."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the line of each task."""
        for task in self.tasks:
            done = f"{task.completed:.0f}/{task.total or 0:.0f}"
            told = [done, f"left {task.fields['left']}", *task.fields["numbers"]]
            line = Table.grid(padding=(0, 1))
            text = Text(fitting(told, self.console.width - BAR - 1), no_wrap=True, overflow="crop")
            line.add_row(ProgressBar(task.total, task.completed, BAR), text)
            yield line


class ConsoleTracker:
    """Tracker that shows the progress and remaining time of a run that starts or resumes at `first_step`."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self.total, self.first = total_steps, first_step
        self._started = datetime.datetime.now()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = OneLine(console=console, refresh_per_second=4)
            self._task = self._bar.add_task("", total=total_steps, completed=first_step, numbers=[], left="?")
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
        left = self.left(step)
        if self._bar is not None:
            epoch, _, *numbers = parts({k: v for k, v in metrics.items() if not split_of(k)})
            self._bar.update(self._task, numbers=[*numbers[:1], epoch, *numbers[1:]])
        if self._bar is None or any(map(split_of, metrics)):
            log.info("%s  left %s", sentence(metrics), left, extra={"parts": validated(metrics, left)})

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        if self._bar is not None:
            self._bar.stop()
