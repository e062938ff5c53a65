"""The W&B run of a run directory: recorded on the disk, and sent to W&B while the server answers."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.masking import masked_command, masked_values
from ranger21.system.project import command
from ranger21.system.wording import reason
from ranger21.tracking import Metrics
from ranger21.tracking.loggers.base import RunInfo

log = logging.getLogger("ranger21")
# Seconds. W&B's own variables WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT take precedence.
TIMEOUTS = {"init_timeout": 6, "finish_timeout": 10}
BEGUN = "init.json"  # in RUN/wandb: under which names the run is at W&B
SENT = ".sent"  # suffix of the mark beside a .wandb file, or beside BEGUN, whose rows W&B has received


class Messages:
    """Receives the messages that W&B would print, and keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        self.warnings.append(" ".join(message.replace("wandb: ", "").removeprefix("WARNING ").split()))

    error = warning


class WandbTracker:
    """The W&B run of a run directory, the same after every resume.

    If W&B cannot be reached at the start, the run is recorded offline. W&B is switched off at its first later failure.
    A resumed run first sends the rows of earlier processes that W&B has not received. Within a sweep, W&B chooses the
    run, which then has all rows.
    """

    def __init__(
        self, arguments: dict[str, Any], run: RunInfo, system_metrics: bool = False, alert: bool = False
    ) -> None:
        """Begin or resume the W&B run.

        Args:
            arguments: of `wandb.init`.
            run: the run that is tracked.
            system_metrics: whether W&B records the use of the processor, memory, disk, network and GPUs.
            alert: whether W&B notifies you if the run diverges.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B reports errors over the network even when offline
        self.info, self.arguments = run, arguments
        self.system_metrics, self.alert = system_metrics, alert and not run.finished
        self._best: dict[str, Any] = {}  # as W&B has it
        self.messages = Messages()
        self._run: Any = None
        self._file, self._url = Path(), ""  # of this process's record, and of the run at W&B
        self._off_after: str | None = None  # why W&B was switched off
        self._first = self._last = -1  # the steps that this process has logged to W&B
        try:
            self._begin()
        except Exception as error:  # no failure of W&B may end the training
            self._off(error)

    @property
    def online(self) -> bool:
        """Whether this process sends what it logs."""
        return self.arguments["mode"] in ("online", "run", "shared")

    @property
    def _begun(self) -> Path:
        return self.info.directory / "wandb" / BEGUN

    def _begin(self) -> None:
        place = Path(self.arguments["dir"])
        place.mkdir(parents=True, exist_ok=True)
        self._note({"id": self.info.id})
        import wandb

        if os.path.expanduser("~") == "~":  # noqa: PTH111 (it does not raise): W&B needs a home folder
            os.environ["HOME"] = str(place.resolve())
        try:
            self._start(wandb)
        except Exception as error:
            if not self.online:
                raise
            text = "W&B cannot be used online (%s): the run is recorded offline, and can be sent later."
            log.warning(text, reason(error))
            wandb.teardown()  # the failed run occupies its id
            self.arguments["mode"] = "offline"
            self._start(wandb)
        if swept := self._run.id != self.info.id:  # within a sweep, W&B chooses it
            own = {"id": self._run.id, "project": self._run.project, "entity": self._run.entity}
            self._note(own | {"sweep": self._run.sweep_id})
        self._file = Path(self._run.dir).parent / f"run-{self._run.id}.wandb"
        if self.online:
            self._first, self._url = int(self._run.starting_step), str(self._run.url)
            self._last = self._first - 1
            log.info("W&B shows this run at %s", self._url)
        if self.online or swept:
            for row in self.info.rows():
                self.log(row)

    def _note(self, own: dict[str, Any]) -> None:
        """Record for scripts/sync_wandb.py under which names the run is at W&B, and that W&B now lacks rows."""
        if self.arguments["mode"] == "disabled" or self.info.finished:
            return
        names = {key: value for key, value in self.arguments.items() if key not in ("mode", "dir")}
        self._begun.parent.mkdir(exist_ok=True)
        self._begun.with_suffix(SENT).unlink(missing_ok=True)
        write_atomically(self._begun, json.dumps(names | own, indent=2))

    def _start(self, wandb: Any) -> None:
        """Call `wandb.init`, with W&B's own output replaced by `self.messages`; W&B then asks for no key either."""
        wandb.setup(settings=wandb.Settings(silent=True))
        wandb.termsetup(wandb.Settings(silent=True), self.messages)
        timeouts = {name: value for name, value in TIMEOUTS.items() if f"WANDB_{name.upper()}" not in os.environ}
        options = {"console": "off", "silent": True, "finish_timeout_raises": True}
        settings = wandb.Settings(x_disable_stats=not self.system_metrics, **options, **timeouts)
        config = masked_values(self.info.config)
        with _masked_command_line():
            self._run = wandb.init(id=self.info.id, resume="allow", config=config, **self.arguments, settings=settings)
        self._run.define_metric("*", step_metric="step")
        self.messages.warnings.clear()

    def _off(self, error: BaseException) -> None:
        self._run, self._off_after = None, reason(error)
        sys.unraisablehook = _except_from_wandb(sys.unraisablehook)
        text = "W&B is switched off for the rest of this run: %s. metrics.jsonl has all metrics."
        log.warning(text, self._off_after)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        if self._run is None or int(metrics["step"]) < self._first:  # W&B has the step from an earlier process
            return
        try:
            self._run.log(metrics, step=int(metrics["step"]))
            self._last = int(metrics["step"])
            self._summarize({f"best/{name}": value for name, value in self.info.best().items()})
        except Exception as error:
            self._off(error)

    def close(self, exit_code: int, summary: dict[str, Any]) -> str | None:
        if self._run is not None:
            try:
                self._finish(exit_code, summary)
            except TimeoutError:
                self.messages.warning("the server did not answer")
            except Exception as error:
                self._off(error)
        return self._outcome()

    def _summarize(self, values: dict[str, Any]) -> None:
        if values != self._best:
            self._best = values
            for name, value in values.items():
                self._run.summary[name] = value

    def _finish(self, exit_code: int, summary: dict[str, Any]) -> None:
        self._summarize(summary)
        if self.alert and summary.get("status") == "diverged":
            text = f"{self.info.directory} diverged at step {self._last}."
            self._run.alert(title="A run has diverged", text=text, level="ERROR")
        if exit_code:
            self._run.mark_preempting()
        self._run.finish(exit_code=exit_code)
        if self.online and not self.messages.warnings:
            self._mark_sent()

    def _mark_sent(self) -> None:
        """Mark the files of this process and of earlier ones: W&B has received their rows from them or from it."""
        files = list(self._file.parents[1].glob(f"*run-*/{self._file.name}"))
        for path in files if self.info.finished else [*files, self._begun]:
            with contextlib.suppress(UserError):
                write_atomically(path.with_suffix(SENT), "")

    def _outcome(self) -> str | None:
        """Return what W&B has received, what it has not, and the command that sends the rest."""
        if self.arguments["mode"] == "disabled":
            return None
        where = "To send the whole run, type"
        if self._off_after:
            told = "W&B was switched off before the end of this run"
        elif not self.online:
            told = "W&B has received nothing from this process, which recorded offline"
            where += " on a machine with internet access"
        elif self.messages.warnings:
            told = f"W&B may lack the end of this run ({self.messages.warnings[0].rstrip('.')})"
        elif self._last < 0:
            return f"W&B has received no step of this run yet: {self._url}"
        else:
            return f"W&B has received this run up to step {self._last}: {self._url}"
        recorded = self._file.parent if self.info.finished else self.info.directory
        return f"{told}. {where}: {command('python', 'scripts/sync_wandb.py', recorded)}"


@contextlib.contextmanager
def _masked_command_line() -> Iterator[None]:
    """Mask what looks like a key in `sys.argv`, which W&B records."""
    arguments = sys.argv
    sys.argv = masked_command(arguments)
    try:
        yield
    finally:
        sys.argv = arguments


def _except_from_wandb(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Silence the traceback that W&B's exit handler prints if its own process is gone, as a warning was logged."""

    def filtered(args: Any) -> None:
        if not str(getattr(args.object, "__module__", "")).startswith("wandb"):
            hook(args)

    return filtered
