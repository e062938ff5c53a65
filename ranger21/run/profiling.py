"""Profile a few steps with torch.profiler; open the trace in https://ui.perfetto.dev."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from ranger21.system.errors import UserError
from ranger21.system.files import replacing

log = logging.getLogger("ranger21")
WARM_UP = 10  # steps: kernels are compiled, workers start and memory is allocated in the first ones


class Profile:
    """A tracker that writes RUN/profile/steps-FIRST-LAST-rank-N.json.gz, once per process.

    It records the steps after the first 10 of this process. It ends early at an evaluation, which is not recorded, or
    when the run stops. If the file cannot be written, a warning is logged.
    """

    def __init__(self, run: Path, rank: int, steps: int, done: int, device: str, last: Callable[[int], bool]) -> None:
        """
        Args:
            steps: the number of steps to record, at least 1.
            done: the number of steps trained before this process began.
            device: the type of the device, such as "cuda".
            last: returns whether an evaluation or the end of the run follows a step.
        """
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences the profiler's own messages
        self.folder, self.rank, self.device, self._last = run / "profile", rank, device, last
        self.steps, self.step, self.first = steps, done, done + WARM_UP + 1
        self._profile: Any = None
        self._mark: Any = None

    def progress(self, step: int) -> None:
        self.step = step
        if self._profile is not None:
            self._mark.__exit__(None, None, None)
            if step - self.first + 1 == self.steps or self._last(step):
                self._write()
        elif self.steps and step >= self.first - 1 and not self._last(step):
            device = [ProfilerActivity.CUDA] if self.device == "cuda" else []
            self._profile, self.first = profile(activities=[ProfilerActivity.CPU, *device]), step + 1
            self._profile.start()
        if self._profile is not None:
            self._mark = record_function(f"step {step + 1}")
            self._mark.__enter__()

    def log(self, metrics: dict[str, float]) -> None:
        pass

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        if self._profile is not None:  # the run stopped while it was being profiled
            self._mark.__exit__(None, None, None)
            self._write()
        elif self.steps:
            log.warning(
                "trainer.profile: nothing was recorded, because this process took no step after its first %d.", WARM_UP
            )

    def _write(self) -> None:
        recorded, self._profile, self.steps = self._profile, None, 0
        path = self.folder / f"steps-{self.first}-{self.step}-rank-{self.rank}.json.gz"
        try:
            recorded.stop()
            if self.step < self.first:
                return
            self.folder.mkdir(exist_ok=True)  # without parents, because the run directory may have been renamed
            with replacing(path) as new:
                recorded.export_chrome_trace(str(new))
        except (OSError, RuntimeError, UserError) as error:
            log.warning("The profile could not be written to %s (%s).", path, error)
        else:
            log.info("Steps %d to %d are in %s: open it in https://ui.perfetto.dev.", self.first, self.step, path)
