"""Which directory a run has: named by what was chosen, the same for every rank and every start. Imports no torch."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from hydra import compose

from ranger21.compose import composing, parse
from ranger21.config import Config, result_values
from ranger21.overrides import CONFIG_DIR


@functools.cache
def _plain_values(experiment: str, model: str, optimizer: str) -> dict[str, Any]:
    """What a run of these labels would be with nothing else chosen, by the project's own files alone.

    A label without a file (a user's own experiment, a model of timm's) stands for the default file with that label.
    """
    known = {
        group: (CONFIG_DIR / group / f"{label}.yaml").is_file()
        for group, label in (("experiment", experiment), ("model", model))
    }
    choices = [f"experiment={experiment if known['experiment'] else 'paper'}"]
    choices += [f"model={model if known['model'] else 'resnet50'}", f"optimizer={optimizer}"]
    with composing():
        values = result_values(parse(compose("config", choices)))
    return values | {"experiment": experiment} | ({} if known["model"] else {"model.name": model})


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
