"""The types and ranges of `protocol`: the rules of a comparison, fixed before its runs."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field

from ranger21.system.checks import COUNT, require, require_choice, require_number

METRICS = ("val/acc1", "val/acc5", "val/loss", "val/loss_smoothed")
DIGITS = 16  # digits of the hash


@dataclass
class ProtocolConfig:
    """The settings of a protocol. The default is no protocol, without fixed seeds and targets."""

    name: str = "none"
    seeds: list[int] = field(default_factory=list)
    metric: str = "val/acc1"
    margin: float = 0.5  # points
    targets: list[float] = field(default_factory=list)  # top-1 in per cent
    min_validations: int = 10
    stopping: str = ""

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "protocol.name", repr(self.name), "a name")
        for key in ("seeds", "targets"):  # OmegaConf accepts lists of lists
            numbers = all(isinstance(value, int | float) for value in getattr(self, key))
            require(numbers, f"protocol.{key}", getattr(self, key), "a list of numbers, such as [1,2]")
        for seed in self.seeds:
            require_number("protocol.seeds", seed, 0, COUNT)
        require(len(set(self.seeds)) == len(self.seeds), "protocol.seeds", self.seeds, "a list without repetitions")
        require_choice("protocol.metric", self.metric, METRICS)
        require_number("protocol.margin", self.margin, 0, 100, open_low=True)
        possible = all(math.isfinite(target) and 0 < target <= 100 for target in self.targets)
        require(possible, "protocol.targets", self.targets, "a list of percentages, each above 0 and at most 100")
        rising = self.targets == sorted(set(self.targets))
        require(rising, "protocol.targets", self.targets, "in increasing order, without repetitions")
        require_number("protocol.min_validations", self.min_validations, 1, COUNT)


def protocol_hash(protocol: ProtocolConfig) -> str:
    """Return a hash of a protocol's content, independent of the order of its seeds and of line breaks."""
    content = asdict(protocol) | {
        "seeds": sorted(protocol.seeds),
        "margin": float(protocol.margin),
        "targets": [float(target) for target in protocol.targets],
        "stopping": " ".join(protocol.stopping.split()),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]


def protocol_mark(protocol: ProtocolConfig) -> dict[str, str]:
    """Return a protocol's entry in a manifest: its name and the hash of its content."""
    return {"name": protocol.name, "hash": protocol_hash(protocol)}
