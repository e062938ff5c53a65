"""The types and ranges of `model`."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ModelConfig:
    name: str  # of timm's model
    remove_batch_norm: bool
    kwargs: dict[str, Any]  # for timm.create_model
    init_from: str | None
    remove_skips: bool = False  # which runs of before it existed do not have

    @property
    def label(self) -> str:
        name = self.name.replace("/", "-") + ("_nobn" if self.remove_batch_norm else "")
        return name + ("_noskip" if self.remove_skips else "")
