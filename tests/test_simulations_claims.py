"""How often verdicts on the paper's claims are wrong, in simulated experiments with known truth.

`pytest tests/test_simulations_claims.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ranger21.report.claims import judges as judges
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.papers_runs import Evidence
from ranger21.report.runs.metrics import Metrics
from ranger21.report.runs.run import RecordedRun

EXPERIMENTS = 500
VALIDATIONS = 24

Array = NDArray[np.float64]
Record = Callable[[str, object], None]
# Draws the runs of Ranger21 and of AdamW with n seeds.
Draw = Callable[[np.random.Generator, int], tuple[list[RecordedRun], list[RecordedRun]]]


def run(seed: int, top1: Array, loss: Array | None = None) -> RecordedRun:
    """Return a finished run with these validations, one per epoch."""
    steps = np.arange(1, len(top1) + 1, dtype=float)
    everywhere = np.arange(len(top1), dtype=np.int32)
    columns = {"epoch": (everywhere, steps), "val/acc1": (everywhere, top1)}
    if loss is not None:
        columns["val/loss_smoothed"] = (everywhere, loss)
    manifest = {"data": {"classes": 1000, "val_images": 50_000}}
    config = {"seed": seed, "trainer.epochs": len(top1)}
    return RecordedRun(Path(str(seed)), config, "finished", {}, Metrics(steps, columns), manifest)


def ends(values: Iterable[float], lost_below: float = -math.inf) -> list[RecordedRun]:
    """Return a run with one validation for each value; those below a limit diverge."""
    runs = [run(seed, np.array([value])) for seed, value in enumerate(values)]
    lost = [run.final("val/acc1") < lost_below for run in runs]
    return [replace(run, status="diverged") if gone else run for run, gone in zip(runs, lost, strict=True)]


def falling(random: np.random.Generator, n: int, noise: float = 0.05, start: float = 1.0) -> list[RecordedRun]:
    """Return runs whose loss falls, with different noise for each seed."""
    epochs = np.arange(1, VALIDATIONS + 1)
    curves = start / epochs * np.exp(random.normal(0, noise, (n, VALIDATIONS)))
    return [run(seed, np.full(VALIDATIONS, 50.0), curve) for seed, curve in enumerate(curves)]


def level(random: np.random.Generator, n: int, slope: float = 0.0) -> list[RecordedRun]:
    """Return runs whose top-1 changes by `slope` per epoch, with noise."""
    curves = 60.0 + slope * np.arange(VALIDATIONS) + random.normal(0, 0.3, (n, VALIDATIONS))
    return [run(seed, curve) for seed, curve in enumerate(curves)]


def training(random: np.random.Generator, n: int, share: float) -> list[RecordedRun]:
    """Return runs that each train with probability `share`, or else stay at chance."""
    return ends(np.where(random.random(n) < share, 60.0, 0.1))


def rates(judge: Callable[[Evidence], tuple[str, str]], draw: Draw, n: int) -> dict[str, float]:
    """Return how often each verdict occurs in simulated experiments."""
    random, nothing = np.random.default_rng(n), GroupComparison("", "", {}, [])
    found = [judge(Evidence(nothing, True, *draw(random, n)))[1] for _ in range(EXPERIMENTS)]
    return {verdict: found.count(verdict) / EXPERIMENTS for verdict in set(found)}


def at_most(share: float) -> float:
    """Return a share plus three binomial standard deviations for EXPERIMENTS experiments."""
    return share + 3 * math.sqrt(share * (1 - share) / EXPERIMENTS)


# The truth is exactly at the limit of each claim, so both verdicts are wrong.
EDGES = {
    "C1 half a point off": (judges.c1, lambda r, n: (ends(r.normal(73.19, 0.2, n)), [])),
    "C2 half a point off": (judges.c2, lambda r, n: ([], ends(r.normal(71.58, 0.2, n)))),
    "C3a equal": (judges.c3_direction, lambda r, n: (ends(r.normal(72, 0.2, n)), ends(r.normal(72, 0.2, n)))),
    "C3a equal, AdamW loses its worst fifth": (
        judges.c3_direction,
        lambda r, n: (ends(r.normal(72, 0.2, n)), ends(r.normal(72, 0.2, n), lost_below=72 - 0.2 * 0.8416)),
    ),
    "C3b half a point off": (judges.c3_size, lambda r, n: (ends(r.normal(74.11, 0.2, n)), ends(r.normal(71, 0.2, n)))),
    "C4a equal": (judges.c4_direction, lambda r, n: (falling(r, n), falling(r, n))),
    "C5 equal": (judges.c5, lambda r, n: (falling(r, n), falling(r, n))),
    "C6 a coin": (judges.c6, lambda r, n: ([], training(r, n, 0.5))),
    "C7a a coin": (judges.c7_trains, lambda r, n: (training(r, n, 0.5), [])),
    "C7b level": (judges.c7_rises, lambda r, n: (level(r, n), [])),
}


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("claim", EDGES)
def test_a_claim_at_its_limit_rarely_gets_a_verdict(claim: str, n: int, record_property: Record) -> None:
    judge, draw = EDGES[claim]
    found = rates(judge, draw, n)
    for verdict in ("reproduced", "contradicted"):
        record_property(verdict, found.get(verdict, 0.0))
        assert found.get(verdict, 0.0) <= at_most(0.05 if claim.startswith(("C6", "C7a")) else 0.025)


# Clear cases must get their verdict with five seeds; otherwise the rates above would mean nothing.
CLEAR = {
    "C1 so": (judges.c1, lambda r, n: (ends(r.normal(73.69, 0.1, n)), []), "reproduced"),
    "C1 not so": (judges.c1, lambda r, n: (ends(r.normal(72.5, 0.1, n)), []), "contradicted"),
    "C3a so": (
        judges.c3_direction,
        lambda r, n: (ends(r.normal(74, 0.2, n)), ends(r.normal(71, 0.2, n))),
        "reproduced",
    ),
    "C3b so": (judges.c3_size, lambda r, n: (ends(r.normal(73.61, 0.1, n)), ends(r.normal(71, 0.1, n))), "reproduced"),
    "C4a so": (judges.c4_direction, lambda r, n: (falling(r, n), falling(r, n, start=2.0)), "reproduced"),
    "C4a not so": (judges.c4_direction, lambda r, n: (falling(r, n, start=2.0), falling(r, n)), "contradicted"),
    "C5 so": (judges.c5, lambda r, n: (falling(r, n), falling(r, n, noise=0.2)), "reproduced"),
    "C6 so": (judges.c6, lambda r, n: ([], training(r, n, 0.0)), "reproduced"),
    "C6 not so": (judges.c6, lambda r, n: ([], training(r, n, 1.0)), "contradicted"),
    "C7b so": (judges.c7_rises, lambda r, n: (level(r, n, 0.5), []), "reproduced"),
}


@pytest.mark.parametrize("claim", CLEAR)
def test_a_clear_case_gets_its_verdict(claim: str, record_property: Record) -> None:
    judge, draw, wanted = CLEAR[claim]
    found = rates(judge, draw, 5)
    record_property(wanted, found.get(wanted, 0.0))
    assert found.get(wanted, 0.0) > 0.8
