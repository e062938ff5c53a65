"""The loggers that `logger=` chooses from. A new one is a module here, a file in `configs/logger/` and a line below."""

from ranger21.tracking.loggers.base import LoggerConfig
from ranger21.tracking.loggers.tensorboard import TensorBoardConfig
from ranger21.tracking.loggers.weights_and_biases import WandbConfig

LOGGERS: dict[str, type[LoggerConfig]] = {
    "wandb": WandbConfig,
    "tensorboard": TensorBoardConfig,
    "none": LoggerConfig,
}
