"""The types and ranges of `model`."""

from dataclasses import dataclass
from typing import Any

from ranger21.system.checks import require, require_choice, require_number, require_path
from ranger21.system.errors import UserError

# Arguments of timm.create_model that the run determines, with the setting to use instead.
BY_THE_RUN = {
    "model_name": "use model.name",
    "num_classes": "the data determines the classes; data.classes selects some of them",
    "in_chans": "the data determines the channels",
    "pretrained": "use model.init_from for the weights to start from",
    "checkpoint_path": "use model.init_from for the weights to start from",
}


INITIALIZATIONS = ("default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")


@dataclass
class ModelConfig:
    """The settings of `model`."""

    name: str  # name of a timm model
    remove_batch_norm: bool
    kwargs: dict[str, Any]  # arguments of timm.create_model
    init_from: str | None
    # Older runs lack these keys.
    remove_skips: bool = False
    init: str = "default"
    blur_pool: bool = False

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "model.name", repr(self.name), "the name of a timm model")
        require_choice("model.init", self.init, INITIALIZATIONS)
        if self.init != "default" and self.init_from is not None:
            raise UserError(
                f"model.init={self.init} would have no effect, because model.init_from={self.init_from} replaces the "
                "initial weights: omit one of the two."
            )
        if self.init_from is not None:
            expanded = require_path("model.init_from", self.init_from)
            self.init_from = (
                expanded if self.init_from.startswith("~") else self.init_from
            )  # may be another source than a path
        for key, value in self.kwargs.items():
            if "drop" in key and isinstance(value, int | float) and not isinstance(value, bool):
                require_number(f"model.kwargs.{key}", value, 0, 1)  # a probability
        for key in self.kwargs.keys() & BY_THE_RUN.keys():
            raise UserError(f"model.kwargs.{key} cannot be set: {BY_THE_RUN[key]}.")

    @property
    def label(self) -> str:
        """The name of the model in run directories and tables."""
        name = self.name.replace("/", "-") + ("_nobn" if self.remove_batch_norm else "")
        return name + ("_noskip" if self.remove_skips else "")
