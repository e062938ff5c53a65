"""The types and ranges of `tuning`: how a run's values were chosen. It says so, and changes nothing."""

import re
from dataclasses import dataclass

from ranger21.system.checks import COUNT, require, require_number
from ranger21.system.errors import UserError


@dataclass
class TuningConfig:
    """A run that nobody tuned, unless trials are named."""

    trials: int = 0  # of which the values are the best
    record: str | None = None  # the hash of the tuned.json that the values are from

    def __post_init__(self) -> None:
        require_number("tuning.trials", self.trials, 0, COUNT)
        if self.record is None:
            return
        known = re.fullmatch(r"[0-9a-f]{8,64}", self.record) is not None
        require(known, "tuning.record", repr(self.record), "a hash, 8 to 64 digits from 0 to f, or null")
        if not self.trials:
            raise UserError(f"tuning.record={self.record} needs its trials: say tuning.trials=N, or leave it away.")
