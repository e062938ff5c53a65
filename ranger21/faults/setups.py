"""The parts of a campaign: its legs, and the setups of runs, which must not change the result."""

from __future__ import annotations

from dataclasses import dataclass

EPOCH, EVAL_EVERY = 5, 10  # steps


@dataclass(frozen=True)
class Setup:
    """Settings that differ between runs; `{pack}`, `{stage}`, `{drawn}` and `{images}` stand for folders."""

    name: str
    overrides: tuple[str, ...]
    alone: bool = False  # whether only faults that name this setup are possible

    def of(self, **folders: object) -> list[str]:
        return [override.format(**folders) for override in self.overrides]


PLAIN = Setup("plain", ("data.workers=0", "logger=none", "data.root={images}"))
LOADERS = Setup("workers", ("data.workers=2", "logger=none", "data.root={images}"))
OFFLINE = Setup("W&B offline", ("data.workers=0", "logger=wandb", "logger.mode=offline", "data.root={images}"))
ONLINE = Setup("W&B online", ("data.workers=0", "logger=wandb", "logger.mode=online", "data.root={images}"))
STAGED = Setup("staged pack", (*PLAIN.overrides, "data.pack={pack}", "data.stage={stage}"))
DRAWN = Setup("drawn by the run", ("data.workers=0", "logger=none", "data.root={drawn}"), alone=True)


@dataclass(frozen=True)
class Leg:
    """A part of the campaign: runs that are compared with the same undisturbed run.

    Attributes:
        ranks: numbers of ranks, used in turn by the sessions of a run.
        overrides: arguments of the command.
        steps: number of steps of every run.
        setups: used in turn by the runs.
        weight: its share of the faults, relative to the other legs.
        tolerance: largest allowed absolute difference of a weight; 0 requires everything to be bit-identical.
    """

    name: str
    ranks: tuple[int, ...]
    overrides: tuple[str, ...]
    steps: int
    setups: tuple[Setup, ...]
    weight: float
    tolerance: float = 0.0

    @property
    def undisturbed(self) -> Setup:
        """The setup of the undisturbed run."""
        return self.setups[0] if self.setups[0].alone else PLAIN

    def setup(self, run: int) -> Setup:
        """Return the setup of a run."""
        return self.setups[run % len(self.setups)]


DEMO = (
    "experiment=demo", "data.resize=36", "data.crop=32", "data.batch_size=16", "trainer.epochs=400",
    "trainer.log_every_steps=1", "trainer.device=cpu", "trainer.checkpoint_every_steps=5",
)  # fmt: skip
TINY = (*DEMO, "data=imagenet", f"trainer.eval_every_epochs={EVAL_EVERY // EPOCH}")
SMALL = "+model.kwargs={channels:[8,16,16,16],stem_width:8,drop_rate:%s}"
DROPOUT = (*TINY, SMALL % 0.2)
# The number of ranks must not matter: no batch statistics and no random numbers of a rank. In double precision, because
# float32 rounding sometimes moves the input of a ReLU across 0, which changes its gradient.
RANKLESS = (*TINY, SMALL % 0.0, "model.remove_batch_norm=true", "trainer.precision=fp64")
DRAWING = (*DEMO, "data=sample", SMALL % 0.2)

SETUPS = (LOADERS, OFFLINE, STAGED, ONLINE)
LEGS = (
    Leg("1 rank", (1,), DROPOUT, 120, SETUPS, weight=2.5),
    Leg("2 ranks", (2,), DROPOUT, 120, SETUPS, weight=2.5),
    Leg("1 → 2 → 1 ranks", (1, 2), RANKLESS, 60, (PLAIN,), weight=1, tolerance=1e-10),
    Leg("1 rank, images drawn", (1,), DRAWING, 20, (DRAWN,), weight=0.2),
)
CHOICES = {"1": LEGS[:1], "2": LEGS[1:2], "both": LEGS}


def shares(faults: int, legs: tuple[Leg, ...]) -> list[int]:
    """Distribute a number of faults over the legs by their weights."""
    weights = [leg.weight for leg in legs]
    ends = [round(faults * sum(weights[: i + 1]) / sum(weights)) for i in range(len(legs))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
