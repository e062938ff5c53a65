"""The comparisons that can be run as a whole, each as sweeps over the choices of train.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Sweep = Mapping[str, Sequence[str]]  # a choice and the values it takes, as on the command line


@dataclass(frozen=True)
class Preset:
    """Sweeps whose every combination is run with each of `seeds` seeds."""

    about: str
    seeds: int
    sweeps: tuple[Sweep, ...]
    fewer: Mapping[str, int]  # experiments with fewer seeds than the rest

    def runs(self, seeds: int | None = None) -> Iterator[list[str]]:
        """The overrides of every run; seeds change last, so that what is cut short is even over the configurations."""
        for seed in range(seeds or self.seeds):
            for sweep in self.sweeps:
                for values in itertools.product(*sweep.values()):
                    chosen = dict(zip(sweep, values, strict=True))
                    if seed < self.fewer.get(chosen["experiment"], seeds or self.seeds) or seeds:
                        yield [*(f"{key}={value}" for key, value in chosen.items()), f"seed={seed}"]


PAPER_MODELS = ("resnet50", "nf_resnet50")
INGREDIENTS = ("agc", "centralize", "pnm", "stable_decay", "norm_loss")
LADDER = ("0_adamw", "1_schedule", "2_agc", "3_centralize", "4_pnm", "5_stable_decay", "6_norm_loss", "7_lookahead")
ABLATION = (
    *LADDER,
    "minus_schedule",  # without lookahead it is 6_norm_loss; with the schedule alone 1_schedule
    *(f"minus_{name}" for name in INGREDIENTS),
    *(f"only_{name}" for name in (*INGREDIENTS, "lookahead")),
)
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

PAPER: Sweep = {"experiment": ("paper",), "model": PAPER_MODELS, "optimizer": ("ranger21", "adamw")}


def _optimizers(first: Sweep, nesterov: str) -> tuple[Sweep, ...]:
    """Five contestants: Ranger21, its authors' code, AdamW with a constant rate and with Ranger21's, SGD."""
    return (
        {**first, "optimizer": ("ranger21", "ranger21_official", "adamw")},
        {**first, "optimizer": ("adamw",), "schedule": ("explore_exploit",)},
        {**first, "optimizer": ("nesterov",), "optimizer.lr": (nesterov,)},
    )


PRESETS = {
    "paper": Preset("ResNet50 and NF-ResNet50 on ImageNet, Ranger21 against AdamW, 60 epochs", 5, (PAPER,), {}),
    "fair": Preset(
        "the paper's and what it lacks: AdamW with Ranger21's schedule, SGD, the authors' code, ResNet50 without norms",
        5,
        _optimizers({"experiment": ("paper",), "model": (*PAPER_MODELS, "resnet50_nobn")}, "0.025"),
        {},
    ),
    "ablation": Preset(
        "each ingredient of Ranger21, alone and given the others, with ResNet50 on ImageNet",
        3,
        ({"experiment": ("ablation",), "ablation": ABLATION},),
        {},
    ),
    "fashion_mnist": Preset(
        "at the size of a CPU: five optimizers, ResNets without batch norm of growing depth, the ablation (3 seeds)",
        5,
        (
            *_optimizers({"experiment": ("fashion_mnist",)}, "0.05"),
            *_optimizers({"experiment": ("depth",), "model.name": DEPTHS}, "0.025"),
            {"experiment": ("ablation",), "ablation": ABLATION, **SMALL},
        ),
        {"ablation": 3},
    ),
}
