"""The types and ranges of `model`."""

from dataclasses import dataclass
from typing import Any

from ranger21.system.checks import require, require_number, require_path
from ranger21.system.errors import UserError

# Arguments of timm.create_model that are not free.
BY_THE_RUN = {
    "model_name": "it is model.name",
    "num_classes": "the data has the classes; data.classes chooses among them",
    "in_chans": "the data has the channels",
    "pretrained": "model.init_from names the weights to start from",
    "checkpoint_path": "model.init_from names the weights to start from",
}


@dataclass
class ModelConfig:
    name: str  # of timm's model
    remove_batch_norm: bool
    kwargs: dict[str, Any]  # for timm.create_model
    init_from: str | None
    remove_skips: bool = False  # which older runs do not have

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "model.name", repr(self.name), "the name of a model of timm's")
        if self.init_from is not None:
            expanded = require_path("model.init_from", self.init_from)
            self.init_from = expanded if self.init_from.startswith("~") else self.init_from  # which may be no path
        for key, value in self.kwargs.items():
            if "drop" in key and isinstance(value, int | float) and not isinstance(value, bool):
                require_number(f"model.kwargs.{key}", value, 0, 1)  # the part that is dropped
        for key in self.kwargs.keys() & BY_THE_RUN.keys():
            raise UserError(f"model.kwargs.{key} is not possible: {BY_THE_RUN[key]}.")

    @property
    def label(self) -> str:
        name = self.name.replace("/", "-") + ("_nobn" if self.remove_batch_norm else "")
        return name + ("_noskip" if self.remove_skips else "")
