"""Read weights from any source, with their class names if known, and export them for timm."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models import clean_state_dict
from torch import Tensor, nn

from ranger21.data.build import Data
from ranger21.data.identity import DataMatch, compare
from ranger21.models.build import load_weights, of_head
from ranger21.models.pretrained import is_timms, read_pretrained
from ranger21.records.checkpoint_file import AVERAGE, is_of_a_run, read_file, weights_path
from ranger21.system.errors import UserError
from ranger21.system.files import replacing
from ranger21.system.reading import read_json
from ranger21.system.wording import reason

AVERAGES = ("state_dict_ema", AVERAGE)  # keys of an average of weights (EMA) in checkpoints, in timm's order
KEYS = (*AVERAGES, "state_dict", "model")  # keys of weights
OWN = "ranger21"  # key of the run's description in an exported file
ELSEWHERE = ("root", "pack", "stage")  # settings with paths, which are meaningless on another machine


@dataclass(frozen=True)
class Weights:
    """The weights of a model.

    Attributes:
        source: Name of the source in messages.
        tensors: Tensors by timm's names.
        classes: Class names in the order of the head; None if unknown.
        run: `config` and `data` of the run that made the weights; None if they are not from this project.
        averaged: Whether they are an average of the weights (EMA) beside which the file has the raw weights.
    """

    source: str
    tensors: dict[str, Tensor]
    classes: list[str] | None = None
    run: dict[str, Any] | None = None
    averaged: bool = False

    @property
    def digest(self) -> str:
        """A hash of the names, dtypes, shapes and values of all tensors."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
        return found.hexdigest()[:16]


def read_any(source: str, raw: bool = False) -> Weights:
    """Read weights from any supported source, without running code stored in a file.

    Args:
        source: One of: a run directory (its best checkpoint), a checkpoint, or an exported file; `timm:NAME`,
            `hf-hub:ID`, `local-dir:PATH`, or such a directory; a .safetensors file; a file written by torch.save that
            is a state_dict or contains one. An average of weights (EMA) is preferred.
        raw: Whether to read the weights beside an average of them.

    Raises:
        UserError: If the source cannot be read, has no weights, or has no average although `raw` is set.
    """
    if is_timms(source):
        require_average(source, {}, raw)
        return Weights(source, *read_pretrained(source))
    path = weights_path(source)
    if path.suffix == ".safetensors":
        require_average(path, {}, raw)
        return _read_safetensors(path)
    state = read_file(path)
    require_average(path, state, raw)
    own = state.get(OWN) if isinstance(state.get(OWN), dict) else state
    run = _run_in(own)
    if run and own is state:
        run["config"] = with_data_in_place(run["config"], path)
    averaged = not raw and run is not None and own is state and AVERAGE in state
    names = run["data"].get("names") if run else None
    return Weights(str(path), _tensors(state, path, raw), names, run, averaged)


def require_average(source: object, state: dict[str, Any], raw: bool) -> None:
    """Raise a UserError if the raw weights are requested from a file that has no average of the weights beside them."""
    if raw and not any(isinstance(state.get(key), dict) for key in AVERAGES):
        raise UserError(
            f"{source} has no average of the weights, as runs with trainer.ema save it, so --raw would change nothing: "
            "omit it."
        )


def _run_in(said: Any) -> dict[str, Any] | None:
    """Return the run's `config` and `data` from what a file stores beside its weights, or None if they are absent."""
    if not isinstance(said, dict) or not is_of_a_run(said.get("config"), said.get("data")):
        return None
    return {"config": said["config"], "data": said["data"]}


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            said = (file.metadata() or {}).get(OWN)
        run = _run_in(json.loads(said)) if said else None
    except FileNotFoundError as error:
        raise UserError(f"There are no weights at {path}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {reason(error)}.") from error
    return Weights(str(path), clean_state_dict(tensors), run["data"].get("names") if run else None, run)


def _tensors(state: dict[str, Any], path: Path, raw: bool) -> dict[str, Tensor]:
    """Return the weights in a file's content, without the prefixes of DistributedDataParallel and torch.compile."""
    keys = [key for key in KEYS if not (raw and key in AVERAGES)]
    found = next((state[key] for key in keys if isinstance(state.get(key), dict)), state)
    named = all(isinstance(name, str) for name in found)
    tensors = {name: value for name, value in clean_state_dict(found).items() if name != "n_averaged"} if named else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(
            f"{path} has no weights: it is neither a state_dict nor a checkpoint with one under the keys "
            f"{', '.join(KEYS)}."
        )
    return tensors


def named(weights: Weights, data: Data) -> Weights:
    """Add class names to weights of an older checkpoint, which lacks them, if its run was trained on `data`.

    The manifest of the run records its training data. Otherwise the weights are returned unchanged.
    """
    if weights.classes is not None or weights.run is None or weights.run["data"]["classes"] != len(data.classes):
        return weights
    facts = recorded_data(Path(weights.source))
    found = compare(facts, {"fingerprint": data.fingerprint, "names": data.names}) if facts else None
    return weights if found is None or found.match is DataMatch.DIFFERENT else replace(weights, classes=data.classes)


def recorded_data(checkpoint: Path) -> dict[str, Any] | None:
    """Return the data section of the run's manifest if the checkpoint is in a run directory, else None."""
    try:
        return read_json(checkpoint.absolute().parent.parent / "manifest.json", {"data": {}})["data"]
    except UserError:  # absent, or not a manifest
        return None


def with_data_in_place(config: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the configuration of a run with the absolute data paths of its manifest, if these exist.

    Relative paths would be wrong in a different working directory.
    """
    facts, data = recorded_data(checkpoint) or {}, dict(config["data"])
    for key in ("root", "pack"):
        place = facts.get(key)
        if data.get(key) and isinstance(place, str) and Path(place).is_dir():
            data[key] = place
    return config | {"data": data}


def export(weights: Weights, target: Path) -> None:
    """Write the weights of a run in a format that timm can load, together with a description of the run.

    A `.safetensors` file has the description in its metadata. `.pth` and `.pt` files have the layout of timm's training
    checkpoints, with the weights under `state_dict`.

    Raises:
        UserError: If the file cannot be written.
    """
    assert weights.run is not None
    config = dict(weights.run["config"])
    config["data"] = {key: value for key, value in config["data"].items() if key not in ELSEWHERE}
    own = {"format": 1, "config": config | {"run_dir": None}, "data": weights.run["data"] | {"names": weights.classes}}
    tensors = {name: tensor.contiguous() for name, tensor in weights.tensors.items()}
    with replacing(target) as new, new.open("wb") as file:
        try:
            if target.suffix == ".safetensors":
                file.write(save(tensors, {"format": "pt", OWN: json.dumps(own)}))
            else:
                torch.save({"state_dict": tensors, OWN: own}, file)
        except (RuntimeError, SafetensorError) as error:
            if isinstance(error.__context__, OSError):  # the system's error, which torch hides
                raise error.__context__ from error
            raise UserError(f"{target} could not be written ({error}).") from error


def start_from(model: nn.Module, weights: Weights, classes: list[str]) -> str:
    """Initialize a model that will be trained on `classes`, and return a sentence about what was loaded.

    A head for the same classes in a different order is reordered. A head for other or unknown classes is not loaded.

    Raises:
        UserError: If anything but the head differs.
    """
    tensors, names, source = weights.tensors, weights.classes, weights.source
    if names is not None and set(names) == set(classes) and len(names) == len(classes):
        order = torch.tensor([names.index(name) for name in classes])
        own = of_head(model, tensors)
        if names != classes and not own:
            raise UserError(
                f"{source} has its classes in a different order, and timm does not tell which layer is the head."
            )
        load_weights(model, tensors | {name: tensors[name][order] for name in own if names != classes}, source)
        moved = "" if names == classes else " in a different order, and was reordered"
        return f"Weights from {source}; its head is for the same {len(classes)} classes{moved}."
    fresh = load_weights(model, tensors, source, fresh_head=True)
    if names is None:
        why = "it does not name its classes"
    else:
        same = len(set(names) & set(classes))
        why = f"it is for {len(names)} classes, of which {same} are among the {len(classes)} here"
    return f"Weights from {source}, without the head, because {why}. Not loaded: {', '.join(fresh) or 'nothing'}."
