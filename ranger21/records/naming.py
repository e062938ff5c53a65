"""Names of run directories: functions of the configuration, so the same for every rank and start. Imports no torch."""

import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from hydra import compose

from ranger21.config import Config, result_values
from ranger21.config.compose import composing, parse
from ranger21.records.directory import read_config
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR

ONCE_NEUTRAL = ("trainer.accumulate",)  # settings that were not part of run directory names in older versions


@functools.cache
def _plain_values(experiment: str, model: str, optimizer: str) -> dict[str, Any]:
    """Return the values that determine the result of a run with these labels and otherwise default settings.

    A label without a file (a user's own experiment, a model of timm) is replaced by the default file with that label.
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
    """Return OUTPUTS/EXPERIMENT/MODEL-OPTIMIZER-sSEED, with a hash of other choices that change the result, if any.

    If only the directory that an older version gave this run exists, return that one. Raises a UserError if both exist.
    """
    if config.run_dir is not None:
        return Path(config.run_dir)
    plain = _plain_values(config.experiment, config.model.label, config.optimizer.name) | {"seed": config.seed}
    values = result_values(config)
    place = _place(config, values, plain)
    older = _place(config, {key: value for key, value in values.items() if key not in ONCE_NEUTRAL}, plain)
    if older == place or not _has_run(older, values):
        return place
    if (place / "manifest.json").exists():
        raise UserError(f"{older} (of an older version) and {place} both hold this run: choose one with run_dir=.")
    return older


def _has_run(place: Path, values: dict[str, Any]) -> bool:
    """Return whether a directory holds a run with these values."""
    try:
        return (place / "manifest.json").exists() and result_values(read_config(place / "config.yaml")) == values
    except UserError:  # unreadable, so not known to be this run
        return False


def _place(config: Config, values: dict[str, Any], plain: dict[str, Any]) -> Path:
    other = {key: value for key, value in values.items() if key not in plain or plain[key] != value}
    name = f"{config.model.label}-{config.optimizer.name}-s{config.seed}"
    if other:
        digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()
        name += f"-{digest[:8]}"
    return Path(config.outputs) / config.experiment / name


def require_place(config: Config, directory: Path) -> None:
    """Raise a UserError if a run directory lies inside a run or the data, or contains runs, data, this code or home.

    Creates no folder.
    """
    place = directory.absolute().resolve()
    instead = "choose another run_dir= or outputs="
    for parent in place.parents:
        if _is_run(parent):
            raise UserError(f"{directory} lies inside the run {parent}: {instead}.")
    for key in ("root", "pack"):
        data = getattr(config.data, key, None)
        if data is not None and place.is_relative_to(Path(data).absolute().resolve()):
            raise UserError(f"{directory} lies inside the data, data.{key}={data}: {instead}.")
        if data is not None and Path(data).absolute().resolve().is_relative_to(place):
            raise UserError(f"{directory} contains the data, data.{key}={data}: {instead}.")
    if place == Path(place.anchor) or Path(__file__).resolve().is_relative_to(place) or place == _home():
        raise UserError(f"{directory} contains more than a run: give the run its own directory, {instead}.")
    if not _is_run(place):
        below = itertools.chain.from_iterable(place.glob(f"{depth}manifest.json") for depth in ("*/", "*/*/"))
        runs = [manifest.parent for manifest in below if _is_run(manifest.parent)]
        if runs:
            raise UserError(f"{directory} contains runs, such as {min(runs)}: give a directory for one run.")


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # the user has no home
        return None


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "manifest.json").is_file() and (folder / "config.yaml").is_file()
    except OSError:  # no permission
        return False
