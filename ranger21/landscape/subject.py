"""The checkpoints of a landscape: their models, their weights as vectors, and the images of the loss."""

import copy
import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ranger21.config import Config, DataConfig, ImageFolderConfig
from ranger21.config.compose import with_overrides
from ranger21.data.build import Data, build_data
from ranger21.data.images import ImageBatch, ImageDataset
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import Key
from ranger21.engine.batch_norm import recompute_statistics
from ranger21.engine.evaluation import evaluate
from ranger21.engine.precision import Precision
from ranger21.landscape.directions import Layout
from ranger21.landscape.loss import Loss, whole_batches
from ranger21.landscape.settings import Settings
from ranger21.models.build import build_model, load_weights
from ranger21.models.classes import ClassMatch, match, match_by_position
from ranger21.models.weights import Weights, named, with_data_in_place
from ranger21.records.checkpoint_file import AVERAGE, read_run, weights_path
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.randomness import ORDER, generator
from ranger21.tracking.splits import HOLDOUT

log = logging.getLogger("ranger21")


@dataclass(frozen=True)
class Images:
    """The fixed images of the loss.

    Attributes:
        batches: the batches as loaded.
        to_input: turns batches into the model's inputs.
        inputs: the inputs of the same batches, with labels.
        statistics: inputs for batch norm statistics.
        data: the dataset.
    """

    batches: list[ImageBatch]
    to_input: nn.Module
    inputs: list[tuple[Tensor, Tensor]]
    statistics: list[Tensor]
    data: Data

    def relabelled(self, places: list[int]) -> "Images":
        """Return the images with every label replaced by `places[label]`."""
        index = torch.tensor(places)
        batches = [batch._replace(labels=index[batch.labels]) for batch in self.batches]
        inputs = [(images, index.to(labels.device)[labels]) for images, labels in self.inputs]
        return replace(self, batches=batches, inputs=inputs)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint and its run's configuration."""

    source: str
    state: dict[str, Any]
    config: Config

    @classmethod
    def read(cls, source: str, overrides: tuple[str, ...], ema: bool = False) -> "Checkpoint":
        state = read_run(source)
        if ema:
            if AVERAGE not in state:
                raise UserError(f"{source} has no average of the weights: omit --ema, or give a run with trainer.ema.")
            state["model"] = state[AVERAGE]
        values = with_data_in_place(state["config"], weights_path(source))
        return cls(source, state, with_overrides(values, list(overrides)))

    @property
    def step(self) -> int:
        return int(self.state.get("progress", {}).get("step", 0))

    @property
    def label(self) -> str:
        return f"{self.config.model.label} {self.config.optimizer.name} s{self.config.seeds}"

    def require_same_model(self, other: "Checkpoint") -> None:
        """Raise a UserError if the other checkpoint has a different model, whose weights form a different space."""
        shapes = [{key: tuple(v.shape) for key, v in c.state["model"].items()} for c in (self, other)]
        models = [vars(c.config.model) | {"init_from": None} for c in (self, other)]
        if shapes[0] != shapes[1] or models[0] != models[1]:
            raise UserError(
                f"{other.source} has a different model ({other.config.model.label}) from {self.source} "
                f"({self.config.model.label}), or a different size of it: give checkpoints of the same model."
            )

    def vector(self, layout: Layout, device: torch.device) -> Tensor:
        return layout.join({name: self.state["model"][name].to(device) for name in layout.shapes})


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint with its loss as a function of the weights.

    Attributes:
        checkpoint: the checkpoint.
        layout: the layout of the weights.
        weights: the checkpoint's weights, (size,).
        loss: the loss as a function of the weights.
        own_loss: the checkpoint's loss in the usual evaluation (see `own_losses`).
        images: fingerprints of the data, as in a manifest.
        classes: a sentence that says how the data's classes match the checkpoint's.
    """

    checkpoint: Checkpoint
    layout: Layout
    weights: Tensor
    loss: Loss
    own_loss: dict[str, float]
    images: dict[str, str]
    classes: str = ""

    @property
    def digest(self) -> str:
        """A hash of the weights."""
        return hashlib.sha256(self.weights.cpu().numpy().tobytes()).hexdigest()[:16]


def load_checkpoint(
    checkpoint: Checkpoint, images: Images, settings: Settings, world: World, precision: Precision
) -> LoadedCheckpoint:
    """Build a checkpoint's model on the device, and its loss over the images."""
    config = checkpoint.config
    model = build_model(config.model, checkpoint.state["data"]["classes"], images.data.channels)
    load_weights(model, checkpoint.state["model"], checkpoint.source)
    found = matched(checkpoint, images, settings)
    places = found.places
    if places != list(range(len(places))):
        images = images.relabelled(places)
    model = model.to(world.device, precision.weights).eval()
    layout = Layout(dict(model.named_parameters()))
    smoothing = config.trainer.label_smoothing
    statistics = images.statistics if settings.bn == "recompute" else []
    own = own_losses(model, images, world, precision, smoothing)
    loss = Loss(model, layout, images.inputs, statistics, smoothing)
    facts = {"fingerprint": images.data.fingerprint, "names": images.data.names}
    vector = checkpoint.vector(layout, world.device)
    return LoadedCheckpoint(checkpoint, layout, vector, loss, own, facts, found.sentence)


def matched(checkpoint: Checkpoint, images: Images, settings: Settings) -> ClassMatch:
    """Match the data's classes to the checkpoint's. Raises a UserError if they cannot be matched."""
    facts, data = checkpoint.state["data"], images.data
    config = checkpoint.config.data
    place = getattr(config, "pack", None) or config.root or f"data={config.name}"
    if settings.by_position:
        return match_by_position(facts["classes"], data.classes, checkpoint.source, place)
    run = {"config": checkpoint.state["config"], "data": facts}
    weights = named(Weights(str(weights_path(checkpoint.source)), {}, facts.get("names"), run), data)
    if weights.classes is None:
        raise UserError(
            f"The classes of {checkpoint.source} have no names, and its run did not record that it was trained on this "
            "data: give --by-position to match the n-th class folder to its n-th class."
        )
    return match(weights.classes, data.classes, checkpoint.source, place)


def own_losses(
    model: nn.Module, images: Images, world: World, precision: Precision, smoothing: float
) -> dict[str, float]:
    """Return the model's losses, computed by the code that validates runs.

    `stored` uses the checkpoint's running statistics, `recomputed` those of the fixed images.
    """

    def loss(which: nn.Module) -> float:
        metrics = evaluate(which, images.batches, images.to_input, world, precision, smoothing)
        assert metrics is not None
        return metrics["val/loss_smoothed"]

    again = copy.deepcopy(model)
    recompute_statistics(again, images.statistics)
    return {"stored": loss(model), "recomputed": loss(again)}


def load_images(config: DataConfig, settings: Settings, world: World, precision: Precision) -> Images:
    """Draw the images without replacement. They are the same for every checkpoint, independently of its seed.

    The images of the loss are preprocessed as in validation, those of the batch norm statistics augmented as in
    training. Raises a UserError for `holdout` if the run has no holdout.
    """
    if config.imbalance is not None:
        log.warning("The images are drawn from all training images: data.imbalance=%g is ignored.", config.imbalance)
        config = replace(config, imbalance=None)
    if isinstance(config, ImageFolderConfig):
        config = replace(config, crop_start=None, crop_ramp=None)  # images as large as in the last epoch
    config.prepare()
    data = build_data(config, seed=0)
    to_input = data.to_input.to(world.device, precision.weights)
    if settings.split == HOLDOUT and data.holdout is None:
        raise UserError("--split holdout cannot be used: the run has no holdout. Give --split val, or data.holdout=N.")
    seen = data.validated(settings.split)
    if settings.split == "train":
        seen = ImageDataset(data.train.source, data.val.transform)
    workers = available_workers(1, world.device.type) if config.workers is None else config.workers

    def load(dataset: ImageDataset, count: int, batch_size: int) -> list[ImageBatch]:
        order = generator(ORDER, 0, 0).permutation(len(dataset))[:count].tolist()
        keys: list[list[Key]] = [
            [(0, index) for index in order[begin : begin + batch_size]] for begin in range(0, len(order), batch_size)
        ]
        batches = Loader(dataset, keys, workers, False, config.timeout)  # type: ignore[arg-type]
        return [batch for batch in batches if batch is not None]

    def inputs(batch: ImageBatch) -> tuple[Tensor, Tensor]:
        pixels, rest, _ = batch.to(world.device)
        return to_input(pixels, rest).contiguous(), batch.labels.to(world.device)

    batches = load(seen, settings.images, config.eval_batch_size)
    whole = whole_batches(min(settings.bn_images, len(data.train)), config.batch_size)
    statistics = [inputs(batch)[0] for batch in load(data.train, *whole)]
    return Images(batches, to_input, [inputs(b) for b in batches], statistics, data)
