"""Weights from wherever a user has them, with the names of the classes where the source knows them."""

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
from ranger21.data.identity import Match, compare
from ranger21.models.build import load_weights, of_head
from ranger21.models.pretrained import is_timms, read_pretrained
from ranger21.records.checkpoint_file import is_of_a_run, read_file, weights_path
from ranger21.system.errors import UserError
from ranger21.system.files import replacing
from ranger21.system.reading import read_json
from ranger21.system.wording import reason

KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")  # where training scripts keep weights; timm's order
OWN = "ranger21"  # the key of what an exported file says of its run
ELSEWHERE = ("root", "pack", "stage")  # paths of the machine of the run, which mean nothing on another


@dataclass(frozen=True)
class Weights:
    """Tensors by name, as timm names them.

    Attributes:
        source: what the user called them.
        classes: the names of the classes in the order of the head; None: unknown.
        run: the configuration and the data of the run that they are of (`config`, `data`); None: of no run of ours.
    """

    source: str
    tensors: dict[str, Tensor]
    classes: list[str] | None = None
    run: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """A hash of the names, types, shapes and values of all tensors."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
        return found.hexdigest()[:16]


def read_any(source: str) -> Weights:
    """Read what a user names.

    A run directory (its best checkpoint), a checkpoint, an exported file; `timm:NAME`, `hf-hub:ID`, `local-dir:PATH` or
    such a directory itself; a file of another program: .safetensors, or what torch.save wrote, be it a state_dict or a
    training checkpoint that has one, of which an average (EMA) is preferred. No foreign code is run.

    Raises a UserError that says what the source is instead.
    """
    if is_timms(source):
        return Weights(source, *read_pretrained(source))
    path = weights_path(source)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    state = read_file(path)
    own = state.get(OWN) if isinstance(state.get(OWN), dict) else state
    run = _run_in(own)
    if run and own is state:
        run["config"] = with_data_in_place(run["config"], path)
    return Weights(str(path), _tensors(state, path), run["data"].get("names") if run else None, run)


def _run_in(said: Any) -> dict[str, Any] | None:
    """The configuration and the data of a run in what a file says beside its weights; None if they are not there."""
    if not isinstance(said, dict) or not is_of_a_run(said.get("config"), said.get("data")):
        return None
    return {"config": said["config"], "data": said["data"]}


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            said = (file.metadata() or {}).get(OWN)
        run = _run_in(json.loads(said)) if said else None
    except FileNotFoundError as error:
        raise UserError(f"There are no weights {path}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {reason(error)}.") from error
    return Weights(str(path), clean_state_dict(tensors), run["data"].get("names") if run else None, run)


def _tensors(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights in what a file holds, without what DistributedDataParallel and torch.compile put before names."""
    found = next((state[key] for key in KEYS if isinstance(state.get(key), dict)), state)
    named = all(isinstance(name, str) for name in found)
    tensors = {name: value for name, value in clean_state_dict(found).items() if name != "n_averaged"} if named else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(
            f"{path} has no weights: it is neither a state_dict nor a checkpoint with one under {', '.join(KEYS)}."
        )
    return tensors


def named(weights: Weights, data: Data) -> Weights:
    """Return weights with the names of their classes if they lack them and were trained on `data`.

    Older checkpoints lack them; the manifest of the run says on what it was trained.
    """
    if weights.classes is not None or weights.run is None or weights.run["data"]["classes"] != len(data.classes):
        return weights
    facts = recorded_data(Path(weights.source))
    found = compare(facts, {"fingerprint": data.fingerprint, "names": data.names}) if facts else None
    return weights if found is None or found.match is Match.DIFFERENT else replace(weights, classes=data.classes)


def recorded_data(checkpoint: Path) -> dict[str, Any] | None:
    """Return what the manifest of a checkpoint's run says of its data, if the checkpoint is in its run's directory."""
    try:
        return read_json(checkpoint.absolute().parent.parent / "manifest.json", {"data": {}})["data"]
    except UserError:  # there is none, or a stranger's
        return None


def with_data_in_place(config: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """The configuration of a run with relative paths of its data as its manifest has them, if those are there.

    In another working directory than the run's they would be no folders, or other ones.
    """
    facts, data = recorded_data(checkpoint) or {}, dict(config["data"])
    for key in ("root", "pack"):
        place = facts.get(key)
        if data.get(key) and isinstance(place, str) and Path(place).is_dir():
            data[key] = place
    return config | {"data": data}


def export(weights: Weights, target: Path) -> None:
    """Write weights of a run so that timm loads them, with what this package needs to know of the run beside them.

    `.safetensors` has it in its metadata; `.pth` and `.pt` have the layout of timm's training checkpoints, the weights
    under `state_dict`. Raises a UserError if the file cannot be written.
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
            if isinstance(error.__context__, OSError):  # the system's word, which torch hides
                raise error.__context__ from error
            raise UserError(f"{target} could not be written ({error}).") from error


def start_from(model: nn.Module, weights: Weights, classes: list[str]) -> str:
    """Load weights into a model that is to be trained on `classes`, and return the sentence that says how.

    A head of the same classes in another order is put in the model's order; one of other classes, or of unknown ones,
    stays fresh. Raises a UserError if anything but the head differs.
    """
    tensors, names, source = weights.tensors, weights.classes, weights.source
    if names is not None and set(names) == set(classes) and len(names) == len(classes):
        order = torch.tensor([names.index(name) for name in classes])
        own = of_head(model, tensors)
        if names != classes and not own:
            raise UserError(
                f"{source} has its classes in another order, and timm does not say which layer is the head."
            )
        load_weights(model, tensors | {name: tensors[name][order] for name in own if names != classes}, source)
        moved = "" if names == classes else " in another order, to which its rows were moved"
        return f"Weights from {source}; its head is for the same {len(classes)} classes{moved}."
    fresh = load_weights(model, tensors, source, fresh_head=True)
    if names is None:
        why = "it does not name its classes"
    else:
        same = len(set(names) & set(classes))
        why = f"it is for {len(names)} classes, of which {same} are among the {len(classes)} here"
    return f"Weights from {source}; fresh, because {why}: {', '.join(fresh) or 'nothing'}."
