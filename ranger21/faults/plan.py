"""Which faults hit which process of which run: pure functions of the campaign's seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

SIGKILL, SIGTERM, SIGUSR1 = "SIGKILL", "SIGTERM", "SIGUSR1"
RANK_KILLED, DISK_FULL = "one rank killed", "disk full"
WORKER_KILLED, WANDB_KILLED = "loader process killed", "wandb process killed"
CUT, FLIPPED, TORN = "checkpoint cut short", "checkpoint: a byte flipped", "metrics.jsonl torn"
RANKS_CHANGED = "number of ranks changed"
ENDED = "none: it ended by itself"  # what no session may do
KINDS = (
    SIGKILL, SIGTERM, SIGUSR1, RANK_KILLED, DISK_FULL, WORKER_KILLED, WANDB_KILLED, CUT, FLIPPED, TORN, RANKS_CHANGED,
    ENDED,
)  # fmt: skip
DAMAGES = (CUT, FLIPPED, TORN)
DAMAGED, TEARS = 0.6, 0.35  # of the sessions begin with a damaged checkpoint, with a torn metrics.jsonl
WHILE_STARTING = 0.15  # of the signals come before the first step


@dataclass(frozen=True)
class Fault:
    kind: str
    after: int  # steps of its session; 0: before the process begins, or (a signal) while it starts
    where: float  # in [0, 1): which process, which byte, which moment


@dataclass(frozen=True)
class Leg:
    """A part of the campaign: runs that are compared with one undisturbed run."""

    name: str
    ranks: tuple[int, ...]  # of its sessions, in turn
    endings: tuple[str, ...]
    overrides: tuple[str, ...]  # of the command
    steps: int
    tolerance: float = 0.0  # of the weights' largest absolute difference; 0: bit for bit, and all the rest too
    varied: bool = True  # loader processes in every second run, wandb in the others

    def of_run(self, run: int) -> tuple[str, ...]:
        """The overrides that differ from run to run and must change nothing."""
        if not self.varied:
            return ("data.workers=0", "logger=none")
        return ("data.workers=0", "logger=wandb") if run % 2 else ("data.workers=2", "logger=none")


SAVE_EVERY = 5
EPOCH, EVAL_EVERY = 5, 20  # steps; loader processes of the validation are missed only when it is due
NOTICED = 6  # steps after which a process that is gone must have been noticed: batches are made ahead
TINY = (
    "experiment=demo", "data=imagenet", "data.resize=36", "data.crop=32", "data.batch_size=16", "trainer.epochs=400",
    "trainer.log_every_steps=1", "trainer.device=cpu",
    f"trainer.checkpoint_every_steps={SAVE_EVERY}", f"trainer.eval_every_epochs={EVAL_EVERY // EPOCH}",
)  # fmt: skip
SMALL = "+model.kwargs={channels:[8,16,16,16],stem_width:8,drop_rate:%s}"
DROPOUT = (*TINY, SMALL % 0.2)
# What a rank sees must not matter: no statistics over its part of the batch, no random numbers of its own. In double
# precision, since a rounding of float32 sometimes puts a ReLU on its other side, and its gradient is then another one.
RANKLESS = (*TINY, SMALL % 0.0, "model.remove_batch_norm=true", "trainer.precision=fp64")
SIGNALS = (SIGKILL, SIGTERM, SIGUSR1)

LEGS = (
    Leg("1 rank", (1,), (*SIGNALS, DISK_FULL), DROPOUT, steps=120),
    Leg("2 ranks", (2,), (*SIGNALS, DISK_FULL, RANK_KILLED, RANK_KILLED), DROPOUT, steps=120),
    Leg("1 → 2 → 1 ranks", (1, 2), (SIGKILL, SIGTERM), RANKLESS, steps=60, tolerance=1e-10, varied=False),
)
CHOICES = {"1": LEGS[:1], "2": LEGS[1:2], "both": LEGS}


def shares(faults: int, legs: tuple[Leg, ...]) -> list[int]:
    """How many of the faults each leg gets: the changes of the number of ranks a sixth, the others the rest."""
    weights = [1 if len(leg.ranks) > 1 else 2.5 for leg in legs]
    ends = [round(faults * sum(weights[: i + 1]) / sum(weights)) for i in range(len(legs))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def plan(seed: int, leg: Leg, run: int, session: int) -> list[Fault]:
    """The faults of one session (one start of the command), in their order; the last one ends it."""
    rng = random.Random(f"{seed}/{leg.name}/{run}/{session}")
    faults, step = list[Fault](), 0
    if session and rng.random() < DAMAGED:
        faults.append(Fault(_turn(seed, leg, run, session, (CUT, FLIPPED)), 0, rng.random()))
    if session and rng.random() < TEARS:
        faults.append(Fault(TORN, 0, rng.random()))
    ending = _turn(seed, leg, run, session, leg.endings)
    if ending in SIGNALS and rng.random() < WHILE_STARTING:
        return [*faults, Fault(ending, 0, rng.random())]
    if leg.varied:
        kind, most = (WANDB_KILLED, 1) if run % 2 else (WORKER_KILLED, 2)
        for _ in range(rng.randint(1, most)):
            step += rng.randint(2, 7)
            faults.append(Fault(kind, step, rng.random()))
    # A loader process that is replaced when the disk is full would have no room for shared memory either.
    return [*faults, Fault(ending, step + rng.randint(NOTICED + 1, 14), rng.random())]


def _turn(seed: int, leg: Leg, run: int, session: int, kinds: tuple[str, ...]) -> str:
    """Each of the kinds once, in a random order, then again: so that none is rare."""
    turn, place = divmod(100 * run + session, len(kinds))
    return random.Random(f"{seed}/{leg.name}/{turn}").sample(kinds, len(kinds))[place]
