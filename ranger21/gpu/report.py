"""The computed sections of docs/gpu.md: kernels, steps and times."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranger21.data import fused as augmentation
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.gpu import tables
from ranger21.gpu.fused import CASES, asked
from ranger21.gpu.steps import MODELS, StepCost, cost, shapes, size
from ranger21.gpu.traffic import Traffic, pretended
from ranger21.optim.ranger21 import Ranger21

FOREACH = "Ranger21, fused=False"
FUSED = "Ranger21"
STEPS: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "torch's AdamW, fused": lambda params: torch.optim.AdamW(params, fused=True),
    "torch's AdamW, foreach": lambda params: torch.optim.AdamW(params, foreach=True),
    FOREACH: lambda params: Ranger21(params, fused=False),
    FUSED: Ranger21,
    "Ranger21, stable_decay=global": lambda params: Ranger21(params, stable_decay="global"),
}


def kernels(cases: Iterable[str] = tuple(CASES)) -> str:
    """Return the table of the resources of the fused step's kernels, a row per case and kernel. Needs Triton."""
    from ranger21.gpu.compiled import ARCHITECTURES, resources

    rows = []
    for case in cases:
        found = {(one.kernel, one.architecture): one for one in resources(asked(case))}
        for kernel in dict.fromkeys(name for name, _ in found):
            ones = [found[kernel, name] for name in ARCHITECTURES]
            spills, atomics = sum(one.spills for one in ones), sum(one.atomics for one in ones)
            shared = max(one.shared for one in ones)
            registers = (str(one.registers) for one in ones)
            rows.append((f"{case}: `{kernel}`", *registers, str(spills), str(atomics), str(shared)))
    heads = ("case and kernel", *ARCHITECTURES, "bytes spilled", "atomics", "shared, bytes")
    return tables.table(heads, rows)


def costs() -> dict[str, list[StepCost]]:
    """Return the cost of a step of every optimizer, for each model."""
    models = [shapes(name) for name in MODELS]
    return {name: [cost(make, model, "cuda") for model in models] for name, make in STEPS.items()}


def augmentations(images: int = 64, side: int = 256) -> dict[str, tuple[int, float]]:
    """Return launches and bytes of augmenting a batch, with single operations and with the Triton kernels."""
    with pretended():
        module = ToInput(IMAGENET_MEAN, IMAGENET_STD).to("cuda", torch.float32)
        batch = torch.empty(images, 3, side, side, dtype=torch.uint8).to(memory_format=torch.channels_last)
        jitter = torch.empty(images, 7)
        with Traffic() as before:
            module.by_operations(batch, jitter, torch.bfloat16)
        with Traffic() as after:
            augmentation.augment(batch, jitter, module.scale, module.shift, torch.bfloat16, True)
    return {
        "augmentation, single operations": (before.launches, before.bytes),
        "augmentation, Triton": (after.launches, after.bytes),
    }


def counted() -> dict[str, str]:
    """Return the sections that need no compiler: launches and passes of a step, and computed times."""
    found = costs()
    passes = [
        (name, [(one.launches, one.bytes / size(shapes(model))) for one, model in zip(of, MODELS, strict=True)])
        for name, of in found.items()
    ]
    rows = [(f"{MODELS[0]}: {name}", of[0].launches, of[0].bytes) for name, of in found.items()]
    rows += [(f"64 images: {name}", *cost) for name, cost in augmentations().items()]
    return {"steps": tables.of_steps(passes, MODELS), "times": tables.of_times(rows)}
