"""The loggers that `logger=` chooses from.

A new one is a module here, a file in `configs/logger/`, and a line in `CHOICES` and in `configs/logger/several.yaml`.
"""

from ranger21.tracking.loggers.base import LoggerConfig
from ranger21.tracking.loggers.mlflow import MLflowConfig
from ranger21.tracking.loggers.several import several
from ranger21.tracking.loggers.tensorboard import TensorBoardConfig
from ranger21.tracking.loggers.weights_and_biases import WandbConfig

# The loggers that can be combined.
CHOICES: dict[str, type[LoggerConfig]] = {
    "wandb": WandbConfig,
    "tensorboard": TensorBoardConfig,
    "mlflow": MLflowConfig,
}

LOGGERS: dict[str, type[LoggerConfig]] = {**CHOICES, "none": LoggerConfig, "several": several(CHOICES)}
