"""Which directory a run has: named by what was chosen, the same for every rank and every start. Imports no torch."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from ranger21.compose import compose_config
from ranger21.config import Config, result_values


@functools.cache
def _plain_values(experiment: str, model: str, optimizer: str) -> dict[str, Any]:
    """What the same experiment, model and optimizer would be with nothing else chosen."""
    return result_values(compose_config([f"experiment={experiment}", f"model={model}", f"optimizer={optimizer}"]))


def run_directory(config: Config) -> Path:
    """OUTPUTS/EXPERIMENT/MODEL-OPTIMIZER-sSEED, and a hash of what else was chosen if that changes the result."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    plain = _plain_values(config.experiment, config.model.label, config.optimizer.name) | {"seed": config.seed}
    other = {key: value for key, value in result_values(config).items() if key not in plain or plain[key] != value}
    name = f"{config.model.label}-{config.optimizer.name}-s{config.seed}"
    if other:
        digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()
        name += f"-{digest[:8]}"
    return Path(config.outputs) / config.experiment / name
