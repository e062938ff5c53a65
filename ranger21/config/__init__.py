"""The typed configuration: types and ranges of all keys, and which keys change a run's result.

The values are in `configs/`. All checks run before torch is imported. Fields marked NEUTRAL determine where and how
fast a run is computed, or where it is written, but not its result beyond rounding; they do not belong to a run's
identity.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from ranger21.config.model import ModelConfig
from ranger21.config.optimizers import OPTIMIZERS, OfficialConfig, OptimizerConfig
from ranger21.config.protocol import ProtocolConfig
from ranger21.config.records import RecordsConfig
from ranger21.config.schedules import (
    BATCH_SCHEDULES,
    LR_SCALINGS,
    SCHEDULES,
    BatchScheduleConfig,
    LinearBatchConfig,
    LrScalingConfig,
    ScheduleConfig,
)
from ranger21.config.trainer import TrainerConfig
from ranger21.config.tuning import TuningConfig
from ranger21.data.datasets import DATASETS
from ranger21.data.datasets.base import DataConfig
from ranger21.data.datasets.fashion_mnist import FashionMNISTConfig
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.system.checks import COUNT, NEUTRAL, require, require_choice, require_number, require_path
from ranger21.system.errors import UserError
from ranger21.tracking.loggers import LOGGERS
from ranger21.tracking.loggers.base import LoggerConfig

__all__ = [
    "DataConfig",
    "FashionMNISTConfig",
    "ImageFolderConfig",
    "LinearBatchConfig",
    "ModelConfig",
    "ProtocolConfig",
    "RecordsConfig",
    "TrainerConfig",
    "TuningConfig",
]


SEEDS = ("seed", "init_seed", "data_seed")


@dataclass
class Config:
    """The configuration of a run; `ranger21.config.compose.parse` creates it from Hydra's composition."""

    experiment: str
    seed: int
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    lr_scaling: LrScalingConfig
    batch_schedule: BatchScheduleConfig
    data: DataConfig
    trainer: TrainerConfig
    logger: LoggerConfig = field(metadata=NEUTRAL)
    outputs: str = field(metadata=NEUTRAL)
    run_dir: str | None = field(metadata=NEUTRAL)
    resume: str = field(metadata=NEUTRAL)
    debug: bool = field(metadata=NEUTRAL)
    records: RecordsConfig = field(default_factory=RecordsConfig, metadata=NEUTRAL)
    tuning: TuningConfig = field(default_factory=TuningConfig, metadata=NEUTRAL)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig, metadata=NEUTRAL)
    init_seed: int | None = None
    data_seed: int | None = None
    continue_from: str | None = None

    def __post_init__(self) -> None:
        folder = re.fullmatch(r"[^/\0.][^/\0]*", self.experiment) is not None
        require(folder, "experiment", repr(self.experiment), "the name of a folder, without / and not starting with .")
        for name in SEEDS:
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), 0, COUNT)
        require_choice("resume", self.resume, ("auto", "never", "best", "scratch"))
        self.outputs = require_path("outputs", self.outputs)
        if not self.trainer.final_validation and not self.data.holdout:
            raise UserError(
                "trainer.final_validation=false requires a holdout, because without one every validation uses the "
                "official validation set: give data.holdout=N."
            )
        if self.trainer.layer_decay is not None and isinstance(self.optimizer, OfficialConfig):
            raise UserError(
                "trainer.layer_decay cannot be used with optimizer=ranger21_official, whose weight decay needs all "
                "parameters in one group: use optimizer=ranger21, or trainer.layer_decay=null."
            )
        if self.continue_from is not None:
            self.continue_from = require_path("continue_from", self.continue_from)
        if self.trainer.steps is None:  # otherwise the epochs depend on the number of images
            self.data.require_effect(self.trainer.epochs, f"trainer.epochs={self.trainer.epochs}")
        if self.run_dir is not None:
            self.run_dir = require_path("run_dir", self.run_dir)

    @property
    def seed_of_weights(self) -> int:
        """The seed of the initial weights."""
        return self.seed if self.init_seed is None else self.init_seed

    @property
    def seed_of_data(self) -> int:
        """The seed of the order of images, their augmentation, dropout, and of data.imbalance."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def seeds(self) -> str:
        """Both seeds as text: one number, or INIT/DATA if they differ."""
        both = (self.seed_of_weights, self.seed_of_data)
        return "/".join(map(str, dict.fromkeys(both)))


# The dataclass of each variant of a part, by the variant's name.
VARIANTS: dict[str, Mapping[str, type]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "lr_scaling": LR_SCALINGS,
    "batch_schedule": BATCH_SCHEDULES,
    "data": DATASETS,
    "logger": LOGGERS,
}


def neutral_keys() -> set[str]:
    """Return the dotted keys, of all variants, that do not change a run's result beyond rounding."""
    return _keys("neutral")


def decisive(words: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments of a command line that can change a result: without those of `neutral_keys`."""
    neutral = neutral_keys()
    keys = {word: word.partition("=")[0].lstrip("+~") for word in words}
    return tuple(word for word, key in keys.items() if not {key, key.partition(".")[0]} & neutral)


def named_keys() -> set[str]:
    """Return the neutral keys that change a result by rounding, or by drawing other random numbers of the same kind."""
    return _keys("named")


def named_values(config: Config) -> dict[str, Any]:
    """Return this configuration's values of the `named_keys`, by dotted key."""
    places = {key: (getattr(config, part), name) for key in named_keys() for part, _, name in [key.partition(".")]}
    return {key: getattr(part, name) for key, (part, name) in sorted(places.items()) if hasattr(part, name)}


def _keys(mark: str) -> set[str]:
    keys = {f.name for f in fields(Config) if f.metadata.get(mark)}
    parts = {name: list(variants.values()) for name, variants in VARIANTS.items()}
    for name, classes in (parts | {"model": [ModelConfig], "trainer": [TrainerConfig]}).items():
        if name not in keys:
            keys |= {f"{name}.{f.name}" for cls in classes for f in fields(cls) if f.metadata.get(mark)}
    return keys | RETIRED


# Removed keys that changed a result by rounding only; older files and commands with them are still accepted.
RETIRED = {"optimizer.compile"}

# Keys that were added later, with the value that describes older runs, which lack them.
LATER: dict[str, dict[str, Any]] = {
    "model": {f"model.{f.name}": f.default for f in fields(ModelConfig) if f.default is not MISSING},
    "data": {
        f"data.{f.name}": f.default
        for dataset in DATASETS.values()
        for f in fields(dataset)
        if f.default is not MISSING and not f.metadata.get("neutral")
    },
    "trainer": {
        "trainer.accumulate": 1,
        "trainer.deterministic": False,
        "trainer.grad_checkpointing": False,
        "trainer.eval_every_steps": None,
        "trainer.final_validation": True,
        "trainer.loss": "cross_entropy",
        "trainer.clip_grad_norm": None,
        "trainer.ema": None,
        "trainer.layer_decay": None,
        "trainer.batch_norm": "first_rank",
        "trainer.batch_norm_images": None,
    },
}


def result_values(part: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values that determine a run's result (all except neutral fields), by dotted key."""
    values: dict[str, Any] = {}
    for f in fields(part):
        value = getattr(part, f.name)
        if f.metadata.get("neutral"):
            continue
        if is_dataclass(value):
            values |= result_values(value, f"{prefix}{f.name}.")
        else:
            values[prefix + f.name] = value
    return values
