"""Evaluate a model on any dataset, matching classes by name."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ranger21.config import Config
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import EvalBatches, Share
from ranger21.data.validation import Validation
from ranger21.engine.evaluation import evaluate
from ranger21.engine.precision import choose_precision
from ranger21.models.answers import Answers, numbers_of_images, read_real_labels, real_accuracy, write_answers
from ranger21.models.build import memory_format
from ranger21.models.classes import ClassMatch, match, match_by_position
from ranger21.models.ensemble import Ensemble, snapshots
from ranger21.models.evaluated import (
    EvaluatedModel,
    Request,
    config_of,
    config_of_timms,
    own_model,
    require_forward_pass,
    run_of,
    timm_model,
)
from ranger21.models.pretrained import imagenet_names, is_timms
from ranger21.models.weights import read_any
from ranger21.system import distributed
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

Scored = tuple[dict[str, Any], list[str]]  # metrics, and sentences for the user


def score(request: Request) -> Scored | None:
    """Evaluate a model, and write its predictions if requested.

    Returns:
        The metrics, and sentences that describe the evaluation; None on all ranks but the first. The metrics are those
        of `evaluate`, `images`, `classes` (of the data) and `model_classes`; with ReaL's labels also `real/acc1`,
        `real/acc5` (per cent) and `real/images`.

    Raises:
        UserError: If the model cannot be loaded or applied, or its classes cannot be matched to those of the data.
    """
    labels = None if request.real_labels is None else read_real_labels(request.real_labels)
    if request.predictions and not request.predictions.absolute().parent.is_dir():
        folder = request.predictions.absolute().parent
        raise UserError(f"There is no folder {folder} for --predictions. Create it first.")
    weights = None if is_timms(request.source) and not request.raw else read_any(request.source, request.raw)
    config = config_of_timms(request) if weights is None else config_of(request, run_of(weights))
    with distributed.join(config.trainer.device) as world:
        world.on_main(config.data.prepare_validation)
        subject = timm_model(request, config) if weights is None else own_model(request, weights, config, world)
        typed = request.by_position or request.typed & {"data", "data.classes"}
        if request.members:
            subject = together(request, subject, config, world)
        data = config.data.open_validation(subject.view, None if typed else subject.classes)
        require_forward_pass(subject)
        found = match_classes(request, subject, data)
        columns = found.order(request.among)
        names = subject.classes if subject.classes and not request.by_position else data.classes
        names = [names[place] for place in columns]
        places = None if labels is None else real_places(request, labels, data, names)
        result, answers, notes = measure(request, subject, data, columns, world)
        if not world.main:
            return None
        paths = [data.path(image) for image in range(len(data.dataset))] if request.predictions else []
        if request.predictions:
            write_answers(answers, paths, names, request.predictions)
            notes.append(f"Wrote {request.predictions}.")
        if labels is not None and places is not None:
            result |= real_accuracy(answers, labels, *places)
        result |= {"classes": len(data.classes), "model_classes": subject.count}
        return result, [*subject.notes, found.sentence, *left_out(request, data), *notes]


def together(request: Request, first: EvaluatedModel, config: Config, world: World) -> EvaluatedModel:
    """Return the ensemble of a request's checkpoints, of which `first` is loaded already."""
    others = [
        own_model(replace(request, source=str(m)), read_any(str(m), request.raw), config, world)
        for m in request.members[1:]
    ]
    return replace(first, model=Ensemble([first.model, *(other.model for other in others)]))


def score_ensemble(request: Request) -> list[tuple[str, Scored]] | None:
    """Evaluate the checkpoints that a run kept, one by one and as an ensemble.

    Returns:
        The name and the result of each checkpoint, and last that of the ensemble; None on all ranks but the first.

    Raises:
        UserError: If the run kept fewer than two checkpoints, and the errors of `score`.
    """
    members = snapshots(request.source)
    first = replace(request, source=str(members[0]))
    alone = [score(replace(request, source=str(member), predictions=None)) for member in members]
    mean = score(replace(first, members=members))
    if mean is None:
        return None
    return [*zip([member.name for member in members], filter(None, alone), strict=True), ("ensemble", mean)]


def left_out(request: Request, data: Validation) -> list[str]:
    """Return a note about classes that were left out because the run was trained on a subset; [] if there is none."""
    if not data.left_out or "data.classes" in request.typed:
        return []
    count, of = len(data.left_out), len(data.left_out) + len(data.classes)
    return [
        f"{request.source} was trained on a subset of classes (data.classes). Left out: {count} of the {of} in "
        f"{data.place}, {first_few(data.left_out)}."
    ]


def match_classes(request: Request, subject: EvaluatedModel, data: Validation) -> ClassMatch:
    """Match the classes of the data to the model's, by position if requested, else by name."""
    if request.by_position:
        return match_by_position(subject.count, data.classes, request.source, data.place)
    if subject.classes is None:
        raise UserError(
            f"{request.source} does not name its classes, and the data of its run was not found. Give that data with "
            "data.root=, or use --by-position to match the n-th class folder to the model's n-th class."
        )
    return match(subject.classes, data.classes, request.source, data.place)


def real_places(
    request: Request, labels: list[list[int]], data: Validation, names: Sequence[str]
) -> tuple[list[int], list[int | None]]:
    """Return each image's position in ReaL's list, and the ImageNet-1k class index of each column of the logits."""
    paths = [data.path(image) for image in range(len(data.dataset))]
    index = {name: number for number, name in enumerate(imagenet_names())}
    indices = [index.get(name) for name in names]
    if not any(number is not None for number in indices):
        raise UserError(f"--real-labels needs classes of ImageNet-1k, but {request.source} has none of them.")
    return numbers_of_images(paths, len(labels)), indices


def measure(
    request: Request, subject: EvaluatedModel, data: Validation, columns: list[int], world: World
) -> tuple[dict[str, Any], list[Any], list[str]]:
    """Run the evaluation.

    Args:
        request: The arguments of the command.
        subject: The model.
        data: The validation set.
        columns: The model's outputs to use, in this order.
        world: The ranks.

    Returns:
        The metrics, the answers per image if requested, and notes for the user.
    """
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
    keys = EvalBatches(len(data.dataset), config.data.eval_batch_size, Share(world.rank, world.size))
    wanted = request.predictions is not None or request.real_labels is not None
    data.dataset.substitute = data.dataset.substitute and not wanted  # an answer must belong to the image that it names
    batches = Loader(data.dataset, keys, workers, world.device.type == "cuda", config.data.timeout)
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
        [f"{len(unreadable)} images cannot be read and were replaced by others: {unreadable[0]}"] if unreadable else []
    )
    return result | {"images": len(data.dataset)}, answers.of_all_ranks(world) if answers else [], notes
