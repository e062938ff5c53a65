"""Puts the pieces together: each is built from its own part of the configuration, and knows nothing of the others."""

import logging
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranger21.config import Config, named_values
from ranger21.config.protocol import protocol_mark
from ranger21.data.build import Data
from ranger21.data.facts import data_facts
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import Share, TrainBatches, require_batches
from ranger21.engine.evaluation import Interrupted
from ranger21.engine.loop import Job, Progress, train
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.precision import choose_precision
from ranger21.engine.undo import Undo
from ranger21.models.build import build_model, memory_format, parameter_count
from ranger21.models.classes import require_same_classes
from ranger21.models.weights import named, read_any, start_from
from ranger21.records import directory as records
from ranger21.records import sessions
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import FORMAT, State
from ranger21.records.directory import RunDirectory
from ranger21.records.presence import Presence
from ranger21.run import observers
from ranger21.run.fitting import is_names, require_fits
from ranger21.run.optimizers import build_optimizer, build_schedule, scaled_lr
from ranger21.run.plan import make_plan
from ranger21.run.resuming import Origin
from ranger21.run.summary import show_result, summarize
from ranger21.run.validations import Validations
from ranger21.system import randomness, stalls
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.ranks import seconds_of_patience
from ranger21.system.stopping import StopFlag, mark_stopped
from ranger21.system.wording import first_few, shown
from ranger21.tracking import FanOut, Tracker
from ranger21.tracking.jsonl import JsonLines, require_lines

log = logging.getLogger("ranger21")


class Run:
    """One process's part of a run: what was built, how it is saved and restored."""

    def __init__(self, config: Config, place: RunDirectory, world: World, data: Data, stop: StopFlag) -> None:
        self.config, self.place, self.world, self.data, self.stop = config, place, world, data, stop
        self.share = Share(world.rank, world.size, config.trainer.accumulate)
        if len(data.classes) < 2:
            raise UserError(f"The data has one class only, {data.classes[0]}: there is nothing to tell apart.")
        start = getattr(config.batch_schedule, "start", None)
        require_batches(len(data.train), config.data.batch_size, self.share, start)  # before the model is built
        self.plan = make_plan(config, len(data.train))
        self.precision = choose_precision(config.trainer.precision, world.device)
        self.format = memory_format(config.trainer.channels_last)
        self.origin = Origin(place, config)
        self.checkpoints = self.origin.checkpoints
        self.progress, self.metrics_size, self.metrics_rest = Progress(), 0, ""
        self.wandb_id = uuid.uuid4().hex[:12]
        self.stalls = stalls.Stalls(place.path, world.rank, seconds_of_patience())
        self.substituted, self.unreadable = 0, list[str]()  # before this process: images that others stood for
        self.newest = world.on_main(self.origin.find)
        self.begun_from: dict[str, str] = {}  # a hash of the weights of model.init_from, in the process that read them
        self.model = self.build_model()
        self.to_input = data.to_input.to(world.device, self.precision.weights)
        scale = scaled_lr(1.0, config.lr_scaling, config.data.batch_size)
        self.schedule = build_schedule(config.schedule, self.plan.course, scale)
        self.values = vars(config.optimizer) | {"lr": config.optimizer.lr * scale}
        self.optimizer = self.optimizer_for(self.model.parameters())
        self.scaler = self.precision.scaler()
        self.meter, self.nonfinite = Meter(world), NonFinite(world)
        if config.data.workers is None:
            self.workers = available_workers(world.local_size, world.device.type)
        else:
            self.workers = config.data.workers
        if self.newest:
            self.restore(self.newest)

    def optimizer_for(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        return build_optimizer(params=params, **self.values)

    def example_for(self, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimizer for tensors on the CPU, with the same state, however the run's own is computed."""
        return build_optimizer(params=params, **{name: x for name, x in self.values.items() if name != "fused"})

    def build_model(self) -> nn.Module:
        torch.manual_seed(randomness.seed(randomness.NOISE, self.config.seed_of_weights))
        model = build_model(self.config.model, len(self.data.classes), self.data.channels)
        if self.config.model.init_from and not self.newest:
            weights = named(read_any(self.config.model.init_from), self.data)
            self.begun_from = {"init_from": weights.digest}
            log.info("%s", start_from(model, weights, self.data.classes))
        return model.to(self.world.device, self.precision.weights, memory_format=self.format)  # type: ignore[call-overload]

    def go(self) -> int:
        """Trains from where it was restored, and records how it ended."""
        kept = self.world.on_main(self.settle)
        self.announce(kept)
        done, trackers = self.progress.step, list[Tracker]([self.stalls])
        trackers += observers.of_the_rank(self.config, self.place, self.world, self.plan, done)
        if self.world.main:
            self.presence = Presence(self.place, self.lines)
            rest = (self.lines, self.plan, done, self.wandb_id)
            trackers = observers.of_the_run(self.config, self.place, *rest) + trackers
        self.trackers = FanOut(trackers)
        job, exit_code, result = self.make_job(), 1, None
        try:
            with self.stalls:
                ending = train(job, self.progress)
            exit_code = self.stop.code if ending == "stopped" else 0
            result = self.conclude(ending)
        finally:
            job.batches.close()  # and with it the loader processes
            summary = {f"best/{k}": v for k, v in self.progress.best.items()}
            self.trackers.close(exit_code, summary | ({"status": result["status"]} if result else {}))
            if self.world.main:
                self.presence.close()
        # The others wait for rank 0, which W&B can keep for a minute: SLURM ends all when the first ends with a code.
        self.world.on_main(lambda: mark_stopped() if ending == "stopped" else None)
        if result and self.world.main:
            show_result(result, self.place.path)
        return exit_code

    def settle(self) -> list[str]:
        """Puts the files in the order that the state is of, and returns the names of what is kept beside them."""
        kept = self.origin.keep_what_is_there(self.metrics_size)
        if self.newest and self.progress.best.get("step") == self.progress.step:
            self.checkpoints.mark_best(self.newest)  # a kill may have come between the two
        self.lines = JsonLines(self.place.metrics, self.metrics_size, self.metrics_rest, self.stop.fail)
        return kept

    def announce(self, kept: list[str]) -> None:
        """Says what is trained, and notes in the manifest that this process takes the run up."""
        data, plan = self.data, self.plan
        log.info("Run directory %s", self.place.path)
        text = "%s, %.1f million parameters · %s · %s schedule · %s images of %d classes · %s on %s x %d"
        model, optimizer, schedule = self.config.model.label, self.config.optimizer.name, self.config.schedule.name
        counts = (data.counts, len(data.classes))
        ranks = (self.precision.name, self.world.device.type, self.world.size)
        log.info(text, model, parameter_count(self.model) / 1e6, optimizer, schedule, *counts, *ranks)
        if data.kept:
            by_class = first_few([f"{name} {count:,}" for name, count in data.kept.items()], 12)
            text = "data.imbalance=%g leaves of the training images, by class: %s."
            log.info(text, self.config.data.imbalance, by_class)
        if self.progress.step:
            log.info("Resumed at step %d of %d.", self.progress.step, plan.total_steps)
        size, device, step = self.world.size, self.world.describe(), self.progress.step
        more = {"precision": self.precision.name, "threads": torch.get_num_threads()}
        full = self.config.records.diff == "full"
        session = sessions.session(size, device, step, named_values(self.config), full_diff=full, **more)
        session |= self.begun_from | ({"kept": kept} if kept else {})
        facts, under = data_facts(self.config.data, data), protocol_mark(self.config.protocol)
        self.world.on_main(lambda: self.place.begin(facts, session, self.wandb_id, under))

    def make_job(self) -> Job:
        config, world = self.config, self.world
        model: nn.Module = torch.compile(self.model) if config.trainer.compile else self.model  # type: ignore[assignment]
        pin = world.device.type == "cuda"
        first, last = self.progress.step + 1, self.plan.total_steps
        keys = TrainBatches(self.plan.course, config.seed_of_data, first, last, self.share)
        rest = (self.workers, pin, config.data.timeout)
        validations = Validations(config, self.data, self.share, *rest)
        self.loaders = Loader(self.data.train, keys, *rest), *validations.loaders.values()

        def validate(interrupted: Interrupted) -> dict[str, float] | None:
            world.share_buffers(self.model)
            model.eval()
            how = {"to_input": self.to_input, "world": world, "precision": self.precision, "memory_format": self.format}
            how["label_smoothing"] = config.trainer.label_smoothing
            return validations.run(model, self.progress.step == last, interrupted, **how)

        return Job(
            model=world.wrap(model),
            optimizer=self.optimizer,
            schedule=self.schedule,
            scaler=self.scaler,
            batches=iter(self.loaders[0]),
            substitutes=self.substitutes if self.data.train.substitute else None,
            to_input=self.to_input,
            evaluate=validate,
            save=self.save,
            tracker=self.trackers,
            world=world,
            precision=self.precision,
            plan=self.plan,
            meter=self.meter,
            nonfinite=self.nonfinite,
            stop=self.stop,
            undo=Undo(self.model, self.optimizer) if config.trainer.on_nonfinite == "skip" else None,
            seed=config.seed_of_data,
            label_smoothing=config.trainer.label_smoothing,
            memory_format=self.format,
            watched=validations.watched,
        )

    def substitutes(self) -> int:
        """Images of training, of all ranks, that stood for unreadable ones since the run began. All ranks call it."""
        own = torch.tensor(len(self.loaders[0].unreadable), device=self.world.device)
        return self.substituted + int(self.world.reduce(own).item())

    def save(self, progress: Progress, best: bool) -> None:
        """Writes a checkpoint. All ranks call it; rank 0 writes."""
        meter = self.meter.collect()
        substituted = self.substitutes() if self.data.train.substitute else 0
        told = {sentence for loader in self.loaders for sentence in loader.unreadable}
        unreadable = self.world.gather([*self.unreadable, *told]) if self.data.train.substitute else []

        def write(place: RunDirectory) -> None:
            self.lines.sync()
            if unreadable:
                place.note_unreadable(unreadable)
            state: State = {
                "format": FORMAT,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "precision": self.precision.name,
                "progress": asdict(progress),
                "meter": meter,
                "nonfinite": self.nonfinite.state(),
                "metrics_size": self.lines.size,
                **({"metrics_rest": self.lines.rest} if self.lines.rest else {}),
                "wandb_id": self.wandb_id,
                "substituted": substituted,
                "unreadable": unreadable,
                "config": records.to_dict(self.config),
                "data": {
                    "classes": len(self.data.classes),
                    "names": self.data.classes,
                    "channels": self.data.channels,
                },
            }
            (self.checkpoints if place is self.place else Checkpoints(place.checkpoints)).save(state, best)
            if not self.newest:
                place.note_saved(progress.step)
            self.lines.require_written(f"the checkpoint of step {progress.step} has the lines that are missing")
            self.newest = self.checkpoints.last

        self.world.on_main(lambda: self.presence.write(write, progress.step))

    def restore(self, path: Path) -> None:
        """Takes the state of a checkpoint. Raises a UserError, and changes nothing, if it does not fit this run."""
        self.world.on_main(lambda: self.require_fits(self.origin.state, path))
        state = self.origin.take(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.meter.restore(state["meter"])
        self.nonfinite.restore(state["nonfinite"])
        self.progress = Progress(**state["progress"])
        self.metrics_size, self.metrics_rest = state["metrics_size"], state.get("metrics_rest", "")
        self.wandb_id = state["wandb_id"]
        self.substituted, self.unreadable = state.get("substituted", 0), state.get("unreadable", [])

    def require_fits(self, state: State, path: Path) -> None:
        if isinstance(state["data"], dict) and is_names(state["data"].get("names")):
            require_same_classes(state["data"]["names"], self.data.classes, self.place.path)
        if (precision := shown(state["precision"], str)) != self.precision.name:
            raise UserError(
                f"{self.place.path} was begun in {precision} and would go on in {self.precision.name}: use a "
                "device like the one before."
            )
        rest = (self.scaler.state_dict(), self.plan.total_steps, len(self.data.classes), self.data.watched)
        require_fits(state, path, self.model, self.example_for, *rest)
        step = None if state.get("metrics_rest") else state["progress"].get("logged_step")
        require_lines(self.place.metrics, state["metrics_size"], step)

    def conclude(self, ending: str) -> dict[str, Any] | None:
        """Writes result.json and returns it, unless the run goes on later."""
        skipped, first_bad = self.nonfinite.skipped(), self.nonfinite.first()  # of all ranks
        if ending == "stopped":
            kept = "after a checkpoint" if self.progress.step else "with nothing to save yet"
            log.info("Stopped at step %d %s; the same command goes on from there.", self.progress.step, kept)
            return None
        result = summarize(ending, self.progress, self.plan, skipped, first_bad)
        self.world.on_main(self.lines_are_whole)
        self.world.on_main(lambda: self.place.finish(result))
        return result

    def lines_are_whole(self) -> None:
        """Raises a UserError if metrics.jsonl lacks lines."""
        self.lines.sync()
        self.lines.require_written()
