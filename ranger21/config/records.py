"""The types and ranges of `records`."""

from dataclasses import dataclass

from ranger21.system.checks import require_choice


@dataclass
class RecordsConfig:
    diff: str = "names"

    def __post_init__(self) -> None:
        require_choice("records.diff", self.diff, ("names", "full"))
