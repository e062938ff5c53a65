"""The paper's claims C1 to C8 beside what the runs say. What would count as what is fixed here, before any run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ranger21.report import claim_figures as figures
from ranger21.report.comparisons import Comparison
from ranger21.report.groups import Group
from ranger21.report.runs import DIVERGED, FINISHED, Run
from ranger21.report.statistics import ENOUGH_SEEDS, Estimate, by_seed, difference, estimate

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "cannot tell"
TOO_FEW, NOT_RUN = "too few seeds", "not run"
HOLDS, FAILS = "holds at this scale", "fails at this scale"

RANGER21_TOP1, ADAMW_TOP1, TOLERANCE = 73.69, 71.08, 0.5  # per cent; points
MATCHED_EPOCH, MATCHED_AT, EPOCHS_TOLERANCE = 10, 35, 5  # of 60
CHANCE_MARGIN = 1.0  # points above chance that still are chance

# What tells the paper's two contestants from all others: its section 4 and Algorithms 1 and 4.
RANGER21: dict[str, Any] = {
    "optimizer.name": "ranger21",
    "optimizer.agc_clipping": 1e-2,
    "optimizer.centralize": True,
    "optimizer.pnm": True,
    "optimizer.stable_decay": "layer",
    "optimizer.norm_loss": True,
    "optimizer.lookahead_k": 5,
    "optimizer.lr": 3e-3,
    "schedule.name": "explore_exploit",
}
ADAMW: dict[str, Any] = {"optimizer.name": "adamw", "optimizer.lr": 3e-3, "schedule.name": "constant"}
PAPER: dict[str, Any] = {
    "data.name": "imagenet",
    "trainer.epochs": 60,
    "trainer.steps": None,
    "trainer.label_smoothing": 0.1,
    "data.batch_size": 64,
    "data.fraction": 1.0,
    "data.classes": None,
}


@dataclass(frozen=True)
class Finding:
    """One claim in one comparison: what the paper says, what the runs say, and what follows."""

    claim: str
    paper: str
    ours: str
    status: str


@dataclass(frozen=True)
class Evidence:
    """The runs of a comparison that speak to the claims."""

    comparison: Comparison
    at_papers_scale: bool
    ranger21: list[Run]  # all, whatever their status
    adamw: list[Run]

    @property
    def has_batch_norm(self) -> bool:
        """Whether the model has, as far as its name and settings tell."""
        recipe = self.comparison.recipe
        name = str(recipe.get("model.name", ""))
        return not recipe.get("model.remove_batch_norm") and not name.startswith(("nf_", "nfnet", "dm_nfnet"))

    def status(self, verdict: str) -> str:
        """A verdict in the words of the scale at which it was reached."""
        if self.at_papers_scale:
            return verdict
        return {REPRODUCED: HOLDS, CONTRADICTED: FAILS, TOO_FEW: UNDECIDED}.get(verdict, verdict)


def evidence(comparison: Comparison) -> Evidence:
    """The runs of the paper's two contestants in a comparison."""
    recipe = comparison.recipe
    model = recipe.get("model.name") in ("resnet50", "nf_resnet50")
    scale = model and all(key in recipe and recipe[key] == value for key, value in PAPER.items())
    return Evidence(comparison, scale, *(_contestant(comparison.groups, mark) for mark in (RANGER21, ADAMW)))


def findings(comparison: Comparison) -> list[Finding]:
    """The claims that a comparison can speak to: C1 to C5 with batch norm, C6 and C7 without."""
    found = evidence(comparison)
    judges: tuple[Callable[[Evidence], Finding], ...] = (_c6, _c7)
    if found.has_batch_norm:
        judges = (_c1, _c2, _c3, _c4, _c5) if found.at_papers_scale else (_c3, _c4, _c5)
    return [judge(found) for judge in judges]


def _contestant(groups: Sequence[Group], marks: dict[str, Any]) -> list[Run]:
    """The runs of the groups with exactly these settings."""
    mine = [group for group in groups if all(group.settings.get(key) == value for key, value in marks.items())]
    plain = [group for group in mine if not group.settings.get("optimizer.lookahead_k") or marks is RANGER21]
    return [run for group in plain for run in group.runs]


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.status == FINISHED]


def _near(claim: str, paper: str, target: float, values: list[float], found: Evidence, detail: str) -> Finding:
    """A mean against the paper's figure: within TOLERANCE, outside with its whole interval, or neither."""
    ours = estimate(values)
    if ours is None:
        return Finding(claim, paper, "–", NOT_RUN)
    verdict = _verdict(ours, target - TOLERANCE, target + TOLERANCE)
    return Finding(claim, paper, f"{_shown(ours, ' %')}{detail}", found.status(verdict))


def _verdict(ours: Estimate, low: float, high: float) -> str:
    """Whether a mean lies between two limits; contradicted only if its whole interval lies outside."""
    if ours.n < ENOUGH_SEEDS or ours.low is None or ours.high is None:
        return TOO_FEW
    if low <= ours.mean <= high:
        return REPRODUCED
    return CONTRADICTED if ours.high < low or ours.low > high else UNDECIDED


def _sign(ours: Estimate | None, positive: bool = True) -> str:
    """Whether the interval excludes 0 on the claimed side, on the other, or not at all."""
    if ours is None:
        return NOT_RUN
    if ours.n < ENOUGH_SEEDS or ours.low is None or ours.high is None:
        return TOO_FEW
    low, high = (ours.low, ours.high) if positive else (-ours.high, -ours.low)
    return REPRODUCED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


def _shown(ours: Estimate, unit: str, digits: int = 2) -> str:
    spread = "" if ours.low is None else f" (95 % interval {ours.low:.{digits}f} to {ours.high:.{digits}f})"
    return f"{ours.mean:.{digits}f}{unit}{spread}, n = {ours.n}"


def _c1(found: Evidence) -> Finding:
    runs = _finished(found.ranger21)
    values = [value for run in runs if (value := run.last("val/acc1")) is not None]
    at_end = sum(figures.best_is_last(run) for run in runs)
    detail = f"; best at the last validation in {at_end} of {len(runs)} runs"
    claim = "C1 ResNet50: Ranger21's final top-1"
    return _near(claim, "73.69 %, at the last iteration", RANGER21_TOP1, values, found, detail)


def _c2(found: Evidence) -> Finding:
    bests = [figures.best(run) for run in _finished(found.adamw)]
    reached = estimate(epoch for _, epoch in bests if epoch is not None)
    detail = f"; at epoch {reached.mean:.1f}" if reached else ""
    values = [top1 for top1, _ in bests if top1 is not None]
    return _near("C2 ResNet50: AdamW's best top-1", "71.08 %, at epoch 52", ADAMW_TOP1, values, found, detail)


def _c3(found: Evidence) -> Finding:
    a = _by_seed(_finished(found.ranger21), lambda run: run.last("val/acc1"))
    b = _by_seed(_finished(found.adamw), lambda run: figures.best(run)[0])
    claim, paper = "C3 Ranger21's final top-1 above AdamW's best", "2.61 points"
    gap = difference(a, b)
    if gap is None:
        return Finding(claim, paper, "–", NOT_RUN)
    ours = Estimate(gap.mean, None, gap.low, gap.high, min(gap.n_a, gap.n_b))
    return Finding(claim, paper, _shown(ours, " points"), found.status(_sign(ours)))


def _c4(found: Evidence) -> Finding:
    claim = "C4 AdamW reaches Ranger21's validation loss of a sixth of the run (epoch 10 of 60) late"
    paper = "at epoch 35 of 60; the loss, 0.03579, is taken for 2.29 / 64 (an inference)"
    pairs, never = figures.catching_up(_finished(found.ranger21), _finished(found.adamw))
    ours = estimate(later / early * MATCHED_EPOCH for early, later in pairs)
    if ours is None:
        return Finding(claim, paper, "–", NOT_RUN)
    lost = f"; in {never} of them AdamW never does (counted as the end of the run)" if never else ""
    text = f"at epoch {_shown(ours, ' of 60', 1)}{lost}"
    if found.at_papers_scale:
        verdict = _verdict(ours, MATCHED_AT - EPOCHS_TOLERANCE, MATCHED_AT + EPOCHS_TOLERANCE)
    else:
        verdict = _sign(estimate(later - early for early, later in pairs))
    return Finding(claim, paper, text, found.status(verdict))


def _c5(found: Evidence) -> Finding:
    claim = "C5 Ranger21's validation loss is smoother (mean |second difference| of its log, per epoch)"
    a, b = (_by_seed(_finished(runs), figures.roughness) for runs in (found.ranger21, found.adamw))
    gap = difference(a, b)
    if gap is None:
        return Finding(claim, "none given", "–", NOT_RUN)
    means = [estimate(values.values()) for values in (a, b)]
    text = " against ".join(f"{mean.mean:.4f}" for mean in means if mean) + f", n = {gap.n_a} and {gap.n_b}"
    ours = Estimate(gap.mean, None, gap.low, gap.high, min(gap.n_a, gap.n_b))
    return Finding(claim, "none given", text, found.status(_sign(ours, positive=False)))


def _c6(found: Evidence) -> Finding:
    claim, paper = "C6 without batch norm AdamW never leaves chance", "5 seeds of 5, stopped at 10 epochs"
    told = [left for run in found.adamw if (left := figures.leaves_chance(run, CHANCE_MARGIN)) is not None]
    if not told:
        return Finding(claim, paper, "–", NOT_RUN)
    stuck, diverged = told.count(False), sum(run.status == DIVERGED for run in found.adamw)
    text = f"{stuck} of {len(told)} runs at chance" + (f", {diverged} of them diverged" if diverged else "")
    verdict = REPRODUCED if stuck == len(told) else CONTRADICTED if stuck == 0 else UNDECIDED
    return Finding(claim, paper, text, found.status(verdict if len(told) >= ENOUGH_SEEDS else TOO_FEW))


def _c7(found: Evidence) -> Finding:
    claim, paper = "C7 without batch norm Ranger21 trains, still improving at the end", "Figure 4, one run"
    ended = [run for run in found.ranger21 if run.status in (FINISHED, DIVERGED)]
    if not ended:
        return Finding(claim, paper, "–", NOT_RUN)
    trained = [run for run in ended if run.status == FINISHED and figures.leaves_chance(run, CHANCE_MARGIN)]
    improving = sum(figures.best_is_last(run) for run in trained)
    text = f"{len(trained)} of {len(ended)} runs train, {improving} of them best at the last validation"
    verdict = REPRODUCED if improving == len(ended) else CONTRADICTED if not trained else UNDECIDED
    return Finding(claim, paper, text, found.status(verdict if len(ended) >= ENOUGH_SEEDS else TOO_FEW))


def _by_seed(runs: Sequence[Run], figure: Callable[[Run], float | None]) -> dict[int, float]:
    return by_seed((run.seed or 0, value) for run in runs if (value := figure(run)) is not None)
