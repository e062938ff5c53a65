"""One process's part of a run: put the parts together, train, and record how the run ended."""

import logging
from typing import Any

import torch

from ranger21.config import Config, named_values
from ranger21.config.protocol import protocol_mark
from ranger21.data.build import Data
from ranger21.data.facts import data_facts
from ranger21.engine.boundary import Ending
from ranger21.engine.loop import train
from ranger21.engine.parts import Callbacks, TrainSetup
from ranger21.models.build import parameter_count
from ranger21.records import sessions
from ranger21.records.directory import RunDirectory
from ranger21.run.build import build_loader, build_parts, build_setup, build_state
from ranger21.run.continuing import begin_with_parent
from ranger21.run.reports import Reports
from ranger21.run.resuming import Origin
from ranger21.run.saving import RunState, Saver, restore
from ranger21.run.summary import show_result, summarize
from ranger21.run.unreadable import UnreadableImages
from ranger21.run.validations import Validations
from ranger21.system.distributed import World, unwrapped
from ranger21.system.stopping import StopFlag, mark_stopped
from ranger21.system.wording import first_few

log = logging.getLogger("ranger21")
LARGE_SHARE = 0.01  # of the initial weights in the final average, above which a warning says so


class Run:
    """One process's part of a run. Its constructor restores the newest checkpoint, and changes nothing on the disk.

    Attributes:
        place: the run directory.
        stop: holds the exit code of a received signal.
        parts: the objects built from the configuration, which stay the same.
        origin: where the run begins: at a checkpoint or at step 0.
        checkpoint: the path of that checkpoint; None: step 0.
        state: the state that training changes and a checkpoint stores.
        rest: the other contents of a checkpoint, as this process found them.
        reports: the trackers and files to which this rank reports.
        parent: what the manifest records of the run that this one continues, if this process has read that.
        init_from: the hash of the weights that the run began with, if this process read them.
    """

    def __init__(self, config: Config, place: RunDirectory, world: World, data: Data, stop: StopFlag) -> None:
        self.place, self.stop = place, stop
        self.parts = build_parts(config, world, data)
        self.origin = Origin(place, config)
        self.checkpoint = world.on_main(self.origin.find)
        new = self.checkpoint is None
        self.state, self.init_from = build_state(self.parts, resumed=not new or config.continue_from is not None)
        self.parent: dict[str, Any] | None = None
        if new and config.continue_from:
            self.parent = begin_with_parent(self.state, self.parts, place, data_facts(config.data, data))
        self.rest = restore(self.state, self.parts, self.origin, self.checkpoint) if self.checkpoint else RunState()
        self.reports = Reports(self.parts, place)

    def go(self) -> int:
        """Train to the end or a signal, record how the run ended, and return the exit code."""
        world, progress = self.parts.world, self.state.progress
        kept = world.on_main(self._open_metrics)
        self._announce(kept)
        self.reports.open_trackers(self.rest.run_id, progress)
        setup, callbacks = self._prepare()
        exit_code, result = 1, None
        try:
            with self.reports.stalls:
                ending = train(setup, self.state, callbacks)
            exit_code = self.stop.code if ending == "stopped" else 0
            result = self._conclude(ending)
        finally:
            setup.batches.close()  # this also ends the worker processes
            summary = {f"best/{name}": value for name, value in progress.best.items()}
            told = self.reports.close(exit_code, summary | ({"status": result["status"]} if result else {}))
            if result and world.main:
                show_result(result, self.place.path)
            if told:
                log.info("%s", told)
        # Other ranks wait for rank 0, which W&B may keep for a while: SLURM ends all when the first exits with a code.
        world.on_main(lambda: mark_stopped() if ending == "stopped" else None)
        return exit_code

    def _open_metrics(self) -> list[str]:
        """Truncate metrics.jsonl to the checkpoint, on rank 0; return the new names of the files of a lost run."""
        kept = self.origin.keep_what_is_there(self.rest.metrics_size)
        if self.checkpoint and self.state.progress.best.get("step") == self.state.progress.step:
            self.origin.checkpoints.mark_best(
                self.checkpoint
            )  # the run may have been killed between saving and marking
        self.reports.open_lines(self.rest.metrics_size, self.rest.metrics_rest, self.stop.fail)
        return kept

    def _announce(self, kept: list[str]) -> None:
        """Log a summary of the training, and record in the manifest that this process begins."""
        parts, step = self.parts, self.state.progress.step
        config, data, world = parts.config, parts.data, parts.world
        log.info("Run directory %s", self.place.path)
        text = "%s, %.1f million parameters · %s · %s schedule · %s images of %d classes · %s on %s x %d"
        names = (config.optimizer.name, config.schedule.name, data.counts, len(data.classes))
        ranks = (parts.precision.name, world.device.type, world.size)
        log.info(text, config.model.label, parameter_count(self.state.model) / 1e6, *names, *ranks)
        if data.kept:
            by_class = first_few([f"{name} {count:,}" for name, count in data.kept.items()], 12)
            text = "data.imbalance=%g keeps these numbers of training images per class: %s."
            log.info(text, config.data.imbalance, by_class)
        if (decay := config.trainer.ema) and (share := decay**parts.plan.total_steps) > LARGE_SHARE:
            text = "trainer.ema=%g: the initial weights will be %.0f %% of the average after all %d steps: lower it."
            log.warning(text, decay, 100 * share, parts.plan.total_steps)
        step = 0 if self.parent else step
        if step:
            log.info("Resumed at step %d of %d.", step, parts.plan.total_steps)
        more = {"precision": parts.precision.name, "threads": torch.get_num_threads()}
        full = config.records.diff == "full"
        session = sessions.session(world.size, world.describe(), step, named_values(config), full_diff=full, **more)
        session |= ({"init_from": self.init_from} if self.init_from else {}) | ({"kept": kept} if kept else {})
        facts, protocol = data_facts(config.data, data), protocol_mark(config.protocol)
        world.on_main(lambda: self.place.begin(facts, session, self.rest.run_id, protocol, self.parent))

    def _prepare(self) -> tuple[TrainSetup, Callbacks]:
        """Build the training loop's setup, which begins at the current step."""
        parts, state, rest = self.parts, self.state, self.rest
        loader = build_loader(parts, state.progress.step + 1)
        setup = build_setup(parts, state, iter(loader))
        validations = Validations(parts, state, unwrapped(setup.model))
        loaders = (loader, *validations.loaders.values())
        unreadable = UnreadableImages(parts.world, loaders, rest.substituted, rest.unreadable)
        saver = Saver(parts, state, rest.run_id, self.reports, unreadable, self.checkpoint is not None)
        callbacks = Callbacks(
            tracker=self.reports.tracker,
            evaluate=validations,
            save=saver.save,
            stop=self.stop,
            substitutes=unreadable.count if parts.data.train.substitute else None,
            watched=validations.watched,
        )
        return setup, callbacks

    def _conclude(self, ending: Ending) -> dict[str, Any] | None:
        """Write result.json and return its contents; None if the run is to be resumed."""
        skipped, first_bad = self.state.nonfinite.skipped(), self.state.nonfinite.first()  # on all ranks
        progress, world = self.state.progress, self.parts.world
        if ending == "stopped":
            kept = "after a checkpoint" if progress.step else "with nothing to save yet"
            log.info("Stopped at step %d %s. Run the same command again to continue.", progress.step, kept)
            return None
        result = summarize(ending, progress, self.parts.plan, skipped, first_bad)
        world.on_main(self.reports.require_written)
        world.on_main(lambda: self.place.finish(result))
        return result
