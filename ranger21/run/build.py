"""Build the parts of a run, each from its own section of the configuration."""

import logging
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranger21.config import Config
from ranger21.data.build import Data
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import Share, TrainBatches, require_batches
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.parts import TrainSetup, TrainState
from ranger21.engine.plan import Plan
from ranger21.engine.precision import Precision, choose_precision
from ranger21.engine.undo import Undo
from ranger21.models.build import build_model, memory_format
from ranger21.models.training import (
    average_of,
    checkpoint_gradients,
    layer_scales,
    require_batch_norms,
    synchronize_batch_norms,
)
from ranger21.models.weights import named, read_any, start_from
from ranger21.optim.schedules import Schedule
from ranger21.run.loss import training_loss
from ranger21.run.optimizers import build_optimizer, build_schedule, scaled_lr
from ranger21.run.plan import make_plan
from ranger21.system import randomness
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.tracking.splits import AVERAGED

log = logging.getLogger("ranger21")


@dataclass
class Parts:
    """The objects built from the configuration, which stay the same throughout a run.

    Attributes:
        share: this rank's part of each batch.
        hyperparameters: the optimizer's hyperparameters, with the learning rate scaled to the batch size.
        to_input: turns a batch into the model's input, on the device.
        memory_format: the memory format of images and weights.
        workers: number of worker processes per loader.
    """

    config: Config
    world: World
    data: Data
    share: Share
    plan: Plan
    precision: Precision
    hyperparameters: dict[str, Any]
    schedule: Schedule
    to_input: nn.Module
    memory_format: torch.memory_format
    workers: int

    @property
    def watched(self) -> str:
        """The split whose top-1 accuracy decides which validation is the best: that of the average if there is one."""
        split = self.data.watched
        return AVERAGED[split] if self.config.trainer.ema else split

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the run's optimizer for a model."""
        return build_optimizer(params=model.parameters(), **self.hyperparameters, layer_scales=self._scales(model))

    def example_optimizer(self, model: nn.Module, params: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return an optimizer for CPU tensors like a model's parameters, with the state entries of `optimizer`."""
        values = {name: value for name, value in self.hyperparameters.items() if name != "fused"}
        return build_optimizer(params=params, **values, layer_scales=self._scales(model))

    def _scales(self, model: nn.Module) -> list[float] | None:
        decay = self.config.trainer.layer_decay
        return None if decay is None else layer_scales(model, decay, self.config.model.name)

    def loader(self, dataset: Any, batches: Any) -> Loader:
        """Return a loader of the dataset's images in the order of `batches`."""
        pin = self.world.device.type == "cuda"
        return Loader(dataset, batches, self.workers, pin, self.config.data.timeout)


def build_parts(config: Config, world: World, data: Data) -> Parts:
    """Build the parts of a run. Raises a UserError if the configuration does not fit the data or the ranks."""
    if len(data.classes) < 2:
        raise UserError(
            f"The data has only one class, {data.classes[0]}: choose data with two or more classes, since there is "
            "nothing to distinguish."
        )
    share, size = Share(world.rank, world.size, config.trainer.accumulate), config.data.batch_size
    require_batches(len(data.train), size, share, getattr(config.batch_schedule, "start", None), config.data.mixes)
    plan, precision = make_plan(config, len(data.train)), choose_precision(config.trainer.precision, world.device)
    epochs = plan.course.place(plan.total_steps)[0] + 1
    config.data.require_effect(epochs, f"trainer.steps={config.trainer.steps}")  # trainer.epochs is checked earlier
    scale = scaled_lr(1.0, config.lr_scaling, size)
    workers = config.data.workers
    return Parts(
        config=config,
        world=world,
        data=data,
        share=share,
        plan=plan,
        precision=precision,
        hyperparameters=vars(config.optimizer) | {"lr": config.optimizer.lr * scale},
        schedule=build_schedule(config.schedule, plan.course, scale),
        to_input=data.to_input.to(world.device, precision.weights),
        memory_format=memory_format(config.trainer.channels_last),
        workers=available_workers(world.local_size, world.device.type) if workers is None else workers,
    )


def build_state(parts: Parts, resumed: bool = False) -> tuple[TrainState, str | None]:
    """Build the training state before the first step.

    If `resumed`, `model.init_from` is not read, since a checkpoint (its own or its parent's) replaces the weights.
    Returns the state, and the hash of the weights in `model.init_from` if they were read.
    """
    config, data, world = parts.config, parts.data, parts.world
    torch.manual_seed(randomness.seed(randomness.NOISE, config.seed_of_weights))
    model, digest = build_model(config.model, len(data.classes), data.channels), None
    if config.model.init_from and not resumed:
        weights = named(read_any(config.model.init_from), data)
        digest = weights.digest
        log.info("%s", start_from(model, weights, data.classes))
    model = adapted(model, config, world)
    model = model.to(world.device, parts.precision.weights, memory_format=parts.memory_format)  # type: ignore[call-overload]
    optimizer, scaler = parts.optimizer(model), parts.precision.scaler()
    ema = average_of(model, config.trainer.ema) if config.trainer.ema else None
    return TrainState(model, optimizer, scaler, Meter(world), NonFinite(world), ema=ema), digest


def adapted(model: nn.Module, config: Config, world: World) -> nn.Module:
    """Return a model, adapted to the settings of the trainer. Raises a UserError for those that it does not support."""
    trainer, name = config.trainer, config.model.name
    if trainer.batch_norm != "first_rank":
        require_batch_norms(model, f"trainer.batch_norm={trainer.batch_norm}", name)
    if trainer.batch_norm_images is not None:
        require_batch_norms(model, f"trainer.batch_norm_images={trainer.batch_norm_images}", name)
    if trainer.grad_checkpointing:
        checkpoint_gradients(model, name)
    return synchronize_batch_norms(model, world.device) if trainer.batch_norm == "sync" else model


def build_loader(parts: Parts, first_step: int) -> Loader:
    """Return the loader of the training batches of this rank, from `first_step` to the end of the run."""
    course, last = parts.plan.course, parts.plan.total_steps
    return parts.loader(
        parts.data.train, TrainBatches(course, parts.config.seed_of_data, first_step, last, parts.share)
    )


def build_setup(parts: Parts, state: TrainState, batches: Generator[Any, None, None]) -> TrainSetup:
    """Return the TrainSetup for the training loop.

    Its model is compiled if trainer.compile is set, and wrapped for distributed training.
    """
    trainer, world = parts.config.trainer, parts.world
    skips = trainer.on_nonfinite == "skip"
    model: nn.Module = torch.compile(state.model) if trainer.compile else state.model  # type: ignore[assignment]
    return TrainSetup(
        world=world,
        model=world.wrap(model, share_buffers=trainer.batch_norm != "mean"),
        batches=batches,
        to_input=parts.to_input,
        schedule=parts.schedule,
        precision=parts.precision,
        plan=parts.plan,
        seed=parts.config.seed_of_data,
        loss=training_loss(trainer),
        memory_format=parts.memory_format,
        undo=Undo(state.model, state.optimizer, state.ema.module if state.ema else None) if skips else None,
        clip_grad_norm=trainer.clip_grad_norm,
        recomputes=trainer.grad_checkpointing,
        averages_statistics=trainer.batch_norm == "mean",
    )
