"""The typed configuration: what every key may be, and which of them change a run's result.

Values live in `configs/`, types and ranges here, so that neither says what the other does. Everything a user can get
wrong is found before torch is imported. A field marked NEUTRAL says where or how fast a run is computed, or where it
is written, and never what comes out of it: it is left out of a run's identity.
"""

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ranger21.errors import UserError

NEUTRAL = {"neutral": True}  # metadata of a field that does not change the result of a run


def require(condition: bool, key: str, value: Any, what: str) -> None:
    if not condition:
        raise UserError(f"{key}={value} is not possible: it must be {what}.")


def require_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"one of {', '.join(choices)}")


def require_number(key: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """`low` <= value < `high`, or `low` < value < `high` with `open_low`."""
    above = value > low if open_low else value >= low
    span = f"{'above' if open_low else 'at least'} {low:g}" + (f" and below {high:g}" if math.isfinite(high) else "")
    require(math.isfinite(value) and above and value < high, key, value, f"a number {span}")


@dataclass
class ModelConfig:
    name: str  # of timm's model
    remove_batch_norm: bool
    kwargs: dict[str, Any]  # for timm.create_model
    init_from: str | None

    @property
    def label(self) -> str:
        return self.name.replace("/", "-") + ("_nobn" if self.remove_batch_norm else "")


@dataclass
class OptimizerConfig:
    name: str
    lr: float
    weight_decay: float
    decay_norm_and_bias: bool

    def __post_init__(self) -> None:
        require_number("optimizer.lr", self.lr, 0)
        require_number("optimizer.weight_decay", self.weight_decay, 0)


def require_betas(betas: list[float]) -> None:
    require(len(betas) == 2, "optimizer.betas", betas, "two numbers, such as [0.9,0.999]")
    for beta in betas:
        require_number("optimizer.betas", beta, 0, 1)


@dataclass
class Ranger21Config(OptimizerConfig):
    betas: list[float]
    pnm_beta: float
    eps: float
    agc_clipping: float | None
    agc_eps: float
    centralize: bool
    pnm: bool
    stable_decay: str | None
    norm_loss: bool
    lookahead_k: int
    lookahead_beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)
        require_number("optimizer.pnm_beta", self.pnm_beta, 0)
        require_number("optimizer.eps", self.eps, 0)
        if self.agc_clipping is not None:
            require_number("optimizer.agc_clipping", self.agc_clipping, 0, open_low=True)
        require_number("optimizer.agc_eps", self.agc_eps, 0, open_low=True)
        scope = self.stable_decay
        require(scope in ("layer", "global", None), "optimizer.stable_decay", scope, "one of layer, global, null")
        require_number("optimizer.lookahead_k", self.lookahead_k, 0)
        require_number("optimizer.lookahead_beta", self.lookahead_beta, 0, 1)


@dataclass
class AdamWConfig(OptimizerConfig):
    betas: list[float]
    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)
        require_number("optimizer.eps", self.eps, 0)


@dataclass
class NesterovConfig(OptimizerConfig):
    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.momentum", self.momentum, 0, 1, open_low=True)


@dataclass
class ScheduleConfig:
    name: str


@dataclass
class ExploreExploitConfig(ScheduleConfig):
    beta2: float
    warmup: float
    warmdown: float

    def __post_init__(self) -> None:
        require_number("schedule.beta2", self.beta2, 0, 1)
        for name in ("warmup", "warmdown"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"schedule.{name}", value, "a fraction of the run, from 0 to 1")


@dataclass
class DataConfig:
    name: str
    root: str | None = field(metadata=NEUTRAL)
    batch_size: int
    workers: int | None = field(metadata=NEUTRAL)
    eval_batch_size: int = field(metadata=NEUTRAL)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            require_number(f"data.{name}", getattr(self, name), 1)
        if self.root is not None:
            self.root = str(Path(self.root).expanduser())
        if self.workers is not None:
            require_number("data.workers", self.workers, 0)


@dataclass
class ImageFolderConfig(DataConfig):
    resize: int
    resize_mode: str
    crop: int
    flip: float
    brightness: float
    contrast: float
    saturation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data.resize_mode", self.resize_mode, ("squash", "shorter_side"))
        require_number("data.crop", self.crop, 1)
        require(self.resize >= self.crop, "data.resize", self.resize, f"at least data.crop={self.crop}")
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"data.{name}", value, "from 0 to 1 (0.4: factors from 0.6 to 1.4)")


@dataclass
class FashionMNISTConfig(DataConfig):
    padding: int
    flip: float
    train_images: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("data.padding", self.padding, 0)
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        require(1 <= self.train_images <= 60_000, "data.train_images", self.train_images, "from 1 to 60000")


@dataclass
class TrainerConfig:
    epochs: int
    steps: int | None
    label_smoothing: float
    precision: str
    tf32: bool
    on_nonfinite: str
    eval_every_epochs: int
    accumulate: int = field(metadata=NEUTRAL)
    device: str = field(metadata=NEUTRAL)
    channels_last: bool = field(metadata=NEUTRAL)
    cudnn_benchmark: bool = field(metadata=NEUTRAL)
    compile: bool = field(metadata=NEUTRAL)
    log_every_steps: int = field(metadata=NEUTRAL)
    checkpoint_every_steps: int | None = field(metadata=NEUTRAL)
    checkpoint_every_minutes: float | None = field(metadata=NEUTRAL)

    def __post_init__(self) -> None:
        for name in ("epochs", "eval_every_epochs", "accumulate", "log_every_steps"):
            require_number(f"trainer.{name}", getattr(self, name), 1)
        for name in ("steps", "checkpoint_every_steps"):
            if getattr(self, name) is not None:
                require_number(f"trainer.{name}", getattr(self, name), 1)
        if self.checkpoint_every_minutes is not None:
            require_number("trainer.checkpoint_every_minutes", self.checkpoint_every_minutes, 0, open_low=True)
        require_number("trainer.label_smoothing", self.label_smoothing, 0, 1)
        require_choice("trainer.precision", self.precision, ("auto", "bf16", "fp16", "fp32", "fp64"))
        require_choice("trainer.on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, "trainer.device", self.device, "auto, cpu, cuda, cuda:N or mps")


@dataclass
class LoggerConfig:
    name: str


@dataclass
class WandbConfig(LoggerConfig):
    mode: str
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    run_name: str | None

    def __post_init__(self) -> None:
        require_choice("logger.mode", self.mode, ("offline", "online"))


@dataclass
class Config:
    """A whole run. `parse` in `ranger21.compose` makes it from what Hydra composed."""

    experiment: str
    seed: int
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    data: DataConfig
    trainer: TrainerConfig
    logger: LoggerConfig = field(metadata=NEUTRAL)
    outputs: str = field(metadata=NEUTRAL)
    run_dir: str | None = field(metadata=NEUTRAL)
    resume: str = field(metadata=NEUTRAL)
    debug: bool = field(metadata=NEUTRAL)

    def __post_init__(self) -> None:
        require_number("seed", self.seed, 0, 2**31)
        require_choice("resume", self.resume, ("auto", "never"))
        self.outputs = str(Path(self.outputs).expanduser())
        if self.run_dir is not None:
            self.run_dir = str(Path(self.run_dir).expanduser())


# Which dataclass a part of the configuration has, by the name in it.
VARIANTS: dict[str, dict[str, type]] = {
    "optimizer": {"ranger21": Ranger21Config, "adamw": AdamWConfig, "nesterov": NesterovConfig},
    "schedule": {"explore_exploit": ExploreExploitConfig, "constant": ScheduleConfig, "cosine": ScheduleConfig},
    "data": {"imagenet": ImageFolderConfig, "sample": ImageFolderConfig, "fashion_mnist": FashionMNISTConfig},
    "logger": {"wandb": WandbConfig, "none": LoggerConfig},
}


def neutral_keys() -> set[str]:
    """The dotted keys that do not change a run's result, of every variant of every part."""
    keys = {f.name for f in fields(Config) if f.metadata.get("neutral")}
    parts = {name: list(variants.values()) for name, variants in VARIANTS.items()}
    for name, classes in (parts | {"model": [ModelConfig], "trainer": [TrainerConfig]}).items():
        if name not in keys:
            keys |= {f"{name}.{f.name}" for cls in classes for f in fields(cls) if f.metadata.get("neutral")}
    return keys


def result_values(part: Any, prefix: str = "") -> dict[str, Any]:
    """The values that determine a run's result, by dotted key: everything but the neutral fields."""
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
