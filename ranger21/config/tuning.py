"""The types and ranges of `tuning`, which records how a run's values were chosen and has no effect on the run."""

import re
from dataclasses import dataclass

from ranger21.system.checks import COUNT, require, require_number
from ranger21.system.errors import UserError


@dataclass
class TuningConfig:
    """How a run's values were chosen; by default they were not tuned."""

    trials: int = 0  # number of trials from which the values were chosen
    record: str | None = None  # hash of the tuned.json that has the values

    def __post_init__(self) -> None:
        require_number("tuning.trials", self.trials, 0, COUNT)
        if self.record is None:
            return
        known = re.fullmatch(r"[0-9a-f]{8,64}", self.record) is not None
        require(known, "tuning.record", repr(self.record), "a hash, 8 to 64 digits from 0 to f, or null")
        if not self.trials:
            raise UserError(
                f"tuning.record={self.record} needs the number of trials: give tuning.trials=N, or omit it."
            )
