"""How good a model is on images that it may never have been meant for: which classes are meant is settled by name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranger21.config import Config, ImageFolderConfig
from ranger21.config.compose import compose_config, with_overrides
from ranger21.data.build import build_data, prepare_data
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import EvalBatches, Share
from ranger21.data.validation import Validation, View, open_validation, prepare_validation, view_of_run
from ranger21.engine.evaluation import evaluate
from ranger21.engine.precision import choose_precision
from ranger21.models.answers import Answers, numbers_of_images, read_real_labels, real_accuracy, write_answers
from ranger21.models.build import build_model, load_weights, memory_format
from ranger21.models.classes import Match, match, match_by_position
from ranger21.models.pretrained import imagenet_names, is_timms, load_pretrained, view_of_timm
from ranger21.models.weights import Weights, named, read_any
from ranger21.system import distributed
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, reason


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, on what, and what is to be written; see `scripts/evaluate.py --help`."""

    source: str
    overrides: Sequence[str] = ()
    among: str = "all"
    by_position: bool = False
    real_labels: Path | None = None
    predictions: Path | None = None

    @property
    def typed(self) -> set[str]:
        """The keys that the user gave."""
        return {override.partition("=")[0].lstrip("+") for override in self.overrides}


@dataclass(frozen=True)
class Subject:
    """A model with its head, and how it sees images. `classes`: the names, in the order of its head; None: unknown."""

    source: str
    model: nn.Module
    classes: list[str] | None
    count: int
    config: Config
    view: View
    notes: list[str] = field(default_factory=list)


def score(request: Request) -> tuple[dict[str, Any], list[str]] | None:
    """Evaluate, and return the metrics and the sentences that say how; None on all ranks but the first.

    The metrics are those of `evaluate`, `images`, `classes` (of the data) and `model_classes`; with real labels
    `real/acc1`, `real/acc5` (per cent) and `real/images`. Raises a UserError if the classes cannot be matched.
    """
    labels = None if request.real_labels is None else read_real_labels(request.real_labels)
    if request.predictions and not request.predictions.absolute().parent.is_dir():
        raise UserError(f"There is no folder {request.predictions.absolute().parent} for --predictions: make it first.")
    weights = None if is_timms(request.source) else read_any(request.source)
    config = config_of_timms(request) if weights is None else config_of(request, run_of(weights))
    with distributed.join(config.trainer.device) as world:
        world.on_main(lambda: prepare_validation(config.data))
        subject = timms_subject(request, config) if weights is None else own_subject(request, weights, config, world)
        typed = request.by_position or request.typed & {"data", "data.classes"}
        data = open_validation(config.data, subject.view, None if typed else subject.classes)
        require_it_evaluates(subject)
        found = matched(request, subject, data)
        columns = found.order(request.among)
        names = subject.classes if subject.classes and not request.by_position else data.classes
        names = [names[place] for place in columns]
        places = None if labels is None else real_places(request, labels, data, names)
        result, answers, notes = measure(request, subject, data, columns, world)
        if not world.main:
            return None
        paths = [data.path(image) for image in range(len(data.pictures))] if request.predictions else []
        if request.predictions:
            write_answers(answers, paths, names, request.predictions)
            notes.append(f"Wrote {request.predictions}.")
        if labels is not None and places is not None:
            result |= real_accuracy(answers, labels, *places)
        result |= {"classes": len(data.classes), "model_classes": subject.count}
        return result, [*subject.notes, found.sentence, *left_out(request, data), *notes]


def left_out(request: Request, data: Validation) -> list[str]:
    """The sentence for classes of the data that are not those of a run of a subset; none if the user chose."""
    if not data.left_out or "data.classes" in request.typed:
        return []
    count, of = len(data.left_out), len(data.left_out) + len(data.classes)
    return [
        f"Left out, because {request.source} was trained on some classes (data.classes): {count} of the {of} in "
        f"{data.place}, {first_few(data.left_out)}."
    ]


def config_of(request: Request, run: dict[str, Any]) -> Config:
    """The run's configuration with what was typed; of a folder and a pack what was typed goes before what was not."""
    config = with_overrides(run["config"], list(request.overrides))
    typed = request.typed & {"data.root", "data.pack"}
    if isinstance(config.data, ImageFolderConfig) and len(typed) == 1:
        if "data.root" in typed:
            config.data.pack = None
        elif config.data.pack:
            config.data.root = None
    return config


def config_of_timms(request: Request) -> Config:
    """The defaults with what was typed, of which only the place of the images, how they are cut and the rest counts."""
    config = compose_config(list(request.overrides))
    wrong = sorted(request.typed & {"data.pack", "data.transforms"})
    if wrong or not isinstance(config.data, ImageFolderConfig):
        what = wrong[0] if wrong else f"data={config.data.name}"
        raise UserError(f"{what} is not possible for timm's own weights, which want images from files as timm does.")
    config.data.pack = None
    return config


def run_of(weights: Weights) -> dict[str, Any]:
    if weights.run is None:
        raise UserError(
            f"{weights.source} has weights, but not the run that they are of, under the keys 'config' and 'data': give "
            "a checkpoint that train.py wrote, what scripts/export.py made of one, or timm:NAME."
        )
    return weights.run


def own_subject(request: Request, weights: Weights, config: Config, world: World) -> Subject:
    facts, view = run_of(weights)["data"], view_of_run(config.data)
    if view.shape[0] != facts["channels"]:
        raise UserError(
            f"{request.source} was trained on images of {facts['channels']} channels, and data={config.data.name} has "
            f"{view.shape[0]}: give other data."
        )
    if not any(facts["classes"] in tensor.shape for tensor in weights.tensors.values()):  # such a head may be huge
        raise UserError(f"{request.source} has no head of the {facts['classes']} classes that it names.")
    model = build_model(config.model, facts["classes"], facts["channels"])
    if load_weights(model, weights.tensors, request.source):
        raise UserError(
            f"{request.source} has a head of another size than the {facts['classes']} classes that it names."
        )
    names = weights.classes
    if names is None and not request.by_position:
        names = world.on_main(lambda: names_by_data(weights, config))
    return Subject(request.source, model, names, facts["classes"], config, view)


def names_by_data(weights: Weights, config: Config) -> list[str] | None:
    """Return the classes of an older checkpoint, which does not name them: those of its run's data, if that is there.

    Look for the data where the run had it, and where the user now says.
    """
    for data in (with_overrides(run_of(weights)["config"], []).data, config.data):
        try:
            prepare_data(data)
            classes = named(weights, build_data(data, 0)).classes
        except UserError:
            continue
        if classes is not None:
            return classes
    return None


def timms_subject(request: Request, config: Config) -> Subject:
    loaded = load_pretrained(request.source, config.model.kwargs)
    data = config.data
    assert isinstance(data, ImageFolderConfig)
    crop, resize = (getattr(data, key) if f"data.{key}" in request.typed else None for key in ("crop", "resize"))
    squash = data.resize_mode == "squash" if "data.resize_mode" in request.typed else None
    view, note = view_of_timm(loaded, crop, resize, squash)
    if view.shape[0] != 3:
        raise UserError(f"{request.source} wants images of {view.shape[0]} channels, and the data's have 3.")
    notes = [note] if loaded.classes is None else [note, f"Its classes are named by {loaded.how}."]
    return Subject(
        request.source, loaded.model, loaded.classes, int(loaded.settings["num_classes"]), config, view, notes
    )


def require_it_evaluates(subject: Subject) -> None:
    """Raise a UserError if the model does not take images of that size, or gives no number for each class."""
    channels, height, width = subject.view.shape
    try:
        with torch.inference_mode():
            shape = tuple(subject.model.eval()(torch.zeros(1, channels, height, width)).shape)
    except Exception as error:  # whatever a model's own code makes of such images
        raise UserError(
            f"{subject.source} does not take images of {height}x{width} pixels: choose another data.crop, or "
            f"+model.kwargs.img_size where the model has it ({reason(error)})."
        ) from error
    if shape != (1, subject.count):
        raise UserError(
            f"{subject.source} gives {shape[1:]} numbers an image, and not one for each of {subject.count}."
        )


def matched(request: Request, subject: Subject, data: Validation) -> Match:
    if request.by_position:
        return match_by_position(subject.count, data.classes, request.source, data.place)
    if subject.classes is None:
        raise UserError(
            f"{request.source} does not name its classes, and the data that its run recorded is not found: give that "
            "data by data.root=, or say --by-position, and the n-th class folder is its n-th class."
        )
    return match(subject.classes, data.classes, request.source, data.place)


def real_places(
    request: Request, labels: list[list[int]], data: Validation, names: Sequence[str]
) -> tuple[list[int], list[int | None]]:
    """Where every image stands in ReaL's list, and which number of ImageNet-1k every column of the logits has."""
    paths = [data.path(image) for image in range(len(data.pictures))]
    index = {name: number for number, name in enumerate(imagenet_names())}
    indices = [index.get(name) for name in names]
    if not any(number is not None for number in indices):
        raise UserError(f"--real-labels is for the classes of ImageNet-1k, of which {request.source} has none.")
    return numbers_of_images(paths, len(labels)), indices


def measure(
    request: Request, subject: Subject, data: Validation, columns: list[int], world: World
) -> tuple[dict[str, Any], list[Any], list[str]]:
    """The metrics, the answers (if they are wanted) and what else there is to say."""
    config = subject.config
    precision, layout = (
        choose_precision(config.trainer.precision, world.device),
        memory_format(config.trainer.channels_last),
    )
    model = subject.model.to(world.device, precision.weights, memory_format=layout).eval()  # type: ignore[call-overload]
    index = torch.tensor(columns, device=world.device)
    same = columns == list(range(subject.count))
    workers = config.data.workers
    if workers is None:
        workers = available_workers(world.local_size, world.device.type)
    keys = EvalBatches(len(data.pictures), config.data.eval_batch_size, Share(world.rank, world.size))
    wanted = request.predictions is not None or request.real_labels is not None
    data.pictures.substitute = data.pictures.substitute and not wanted  # or an answer would stand beside another's name
    batches = Loader(data.pictures, keys, workers, world.device.type == "cuda", config.data.timeout)
    answers = Answers(keys.batches) if wanted else None

    def logits(images: Tensor) -> Tensor:
        output: Tensor = model(images)
        return output if same else output[:, index]

    to_input = subject.view.to_input.to(world.device, precision.weights)
    smoothing = config.trainer.label_smoothing
    result = evaluate(logits, batches, to_input, world, precision, smoothing, layout, observe=answers)
    assert result is not None
    unreadable = world.gather(batches.unreadable)
    notes = (
        [f"{len(unreadable)} images cannot be read, and others stood for them: {unreadable[0]}"] if unreadable else []
    )
    return result | {"images": len(data.pictures)}, answers.of_all_ranks(world) if answers else [], notes
