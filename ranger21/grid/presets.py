"""Presets: whole comparisons, each defined as sweeps over the choices of train.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ranger21.config.ablation import ON

Sweep = Mapping[str, Sequence[str]]  # command-line keys and the values that each takes


@dataclass(frozen=True)
class Preset:
    """Sweeps whose combinations are each run with several seeds.

    Attributes:
        about: one-line description.
        seeds: number of seeds.
        sweeps: the combinations are the union of their Cartesian products.
        fewer: number of seeds of experiments that have fewer than the others.
        first_seed: the first seed; the others follow it.
        trials: number of tuning trials of each combination, which is then run both untuned and tuned; 0: no tuning.
    """

    about: str
    seeds: int
    sweeps: tuple[Sweep, ...]
    fewer: Mapping[str, int] = field(default_factory=dict)
    first_seed: int = 0
    trials: int = 0

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield the choices of every combination."""
        for sweep in self.sweeps:
            for values in itertools.product(*sweep.values()):
                yield dict(zip(sweep, values, strict=True))

    def runs(self, seeds: int | None = None) -> Iterator[list[str]]:
        """Yield the overrides of every run, seed by seed, so that an interrupted grid has all configurations alike."""
        for number in range(seeds or self.seeds):
            for chosen in self.combinations():
                if number < self.fewer.get(chosen["experiment"], seeds or self.seeds) or seeds:
                    yield [*(f"{key}={value}" for key, value in chosen.items()), f"seed={self.first_seed + number}"]


ABLATION = tuple(ON)
PAPER_MODELS = ("resnet50", "nf_resnet50")
DEPTHS = ("resnet50", "resnet101", "resnet152")
SMALL: Sweep = {
    "data": ("fashion_mnist",),
    "model": ("resnet10t",),
    "+model.kwargs.channels": ("[16,32,64,128]",),
    "+model.kwargs.stem_width": ("16",),
    "data.batch_size": ("128",),
    "trainer.epochs": ("2",),
    "trainer.log_every_steps": ("20",),
}

CONTESTANTS = ("ranger21", "ranger21_official", "adamw", "nesterov", "lion", "muon")
WORKLOADS = ("fair_resnet", "fair_deep", "fair_vit", "fair_zipf")
PAPER: Sweep = {"experiment": ("paper",), "model": PAPER_MODELS, "optimizer": ("ranger21", "adamw")}
SGD: Sweep = {"experiment": ("paper",), "model": ("resnet50",), "optimizer": ("nesterov",), "optimizer.lr": ("0.025",)}
BATCH_TIMES_5: Sweep = {
    "batch_schedule": ("step",),
    "batch_schedule.start": ("64",),
    "batch_schedule.factor": ("5",),
    "batch_schedule.every": ("18 epochs",),
}


def _optimizers(first: Sweep, nesterov: str) -> tuple[Sweep, ...]:
    """Return sweeps over Ranger21, its authors' code, AdamW (constant and Ranger21's schedule) and SGD."""
    return (
        {**first, "optimizer": ("ranger21", "ranger21_official", "adamw")},
        {**first, "optimizer": ("adamw",), "schedule": ("explore_exploit",)},
        {**first, "optimizer": ("nesterov",), "optimizer.lr": (nesterov,)},
    )


PRESETS = {
    "paper": Preset("ResNet50 and NF-ResNet50 on ImageNet, Ranger21 against AdamW, 60 epochs", 5, (PAPER,)),
    "fair": Preset(
        "paper, plus AdamW with Ranger21's schedule, SGD, the authors' code, and ResNet50 without norms",
        5,
        _optimizers({"experiment": ("paper",), "model": (*PAPER_MODELS, "resnet50_nobn")}, "0.025"),
    ),
    "ablation": Preset(
        "each ingredient of Ranger21 alone, added and removed, with ResNet50 on ImageNet",
        3,
        ({"experiment": ("ablation",), "ablation": ABLATION},),
    ),
    "batch_growth": Preset(
        "ResNet50 on ImageNet with SGD: the rate divided by 5, or the batch multiplied by 5 (Smith et al. 2018)",
        3,
        (
            {**SGD, "schedule": ("step",), "schedule.every": ("18 epochs",), "schedule.gamma": ("0.2",)},
            {**SGD, "schedule": ("constant",), "data.batch_size": ("8000",), **BATCH_TIMES_5},
        ),
    ),
    "strong": Preset(
        "a strong recipe for ResNet50 on ImageNet (56 epochs): SGD, AdamW, Lion, and Ranger21 with either schedule",
        5,
        (
            {"experiment": ("strong",), "optimizer": ("momentum", "adamw", "lion", "ranger21")},
            {"experiment": ("strong",), "optimizer": ("ranger21",), "schedule": ("explore_exploit",)},
        ),
        first_seed=100,
    ),
    "fashion_mnist": Preset(
        "for a CPU: five optimizers, ResNets of three depths without batch norm, and the ablation (3 seeds)",
        5,
        (
            *_optimizers({"experiment": ("fashion_mnist",)}, "0.05"),
            *_optimizers({"experiment": ("depth",), "model.name": DEPTHS}, "0.025"),
            {"experiment": ("ablation",), "ablation": ABLATION, **SMALL},
        ),
        fewer={"ablation": 3},
    ),
    "fair_cpu": Preset(
        "for a CPU: six optimizers, untuned and tuned with 16 trials, on four small workloads",
        5,
        ({"experiment": WORKLOADS, "optimizer": CONTESTANTS},),
        first_seed=100,
        trials=16,
    ),
    "imagenet100": Preset(
        "the same six, tuned with 8 trials, with ResNet50 on 100 classes of ImageNet: about a day on one GPU",
        5,
        ({"experiment": ("imagenet100",), "optimizer": CONTESTANTS},),
        first_seed=100,
        trials=8,
    ),
}
