"""The paper's claims C1 to C7 beside what the runs say. What would count as what is fixed here, before any run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ranger21.report import claim_figures as figures
from ranger21.report.comparisons import Comparison
from ranger21.report.papers_runs import Evidence, evidence
from ranger21.report.resolution import quantum
from ranger21.report.runs import DIVERGED, FINISHED, Run
from ranger21.report.statistics import Estimate, difference, estimate
from ranger21.report.summary import best, final_top1, seeds
from ranger21.report.ttests import ENOUGH_SEEDS, Seeds

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "cannot tell"
TOO_FEW, NOT_RUN = "too few seeds", "not run"
HOLDS, FAILS = "holds at this scale", "fails at this scale"

RANGER21_TOP1, ADAMW_TOP1, TOLERANCE = 73.69, 71.08, 0.5  # per cent; points
MATCHED_AT, EPOCHS_TOLERANCE, EPOCHS = 35, 5, 60

# What each claim says, and the paper's figure.
CLAIMS = {
    "C1": ("ResNet50: Ranger21's final top-1", "73.69 %, at the last iteration"),
    "C2": ("ResNet50: AdamW's best top-1", "71.08 %, at epoch 52"),
    "C3": ("Ranger21's final top-1 above AdamW's best", "2.61 points"),
    "C4": (
        "AdamW reaches the validation loss that Ranger21 has after a sixth of the run (epoch 10 of 60) late",
        "at epoch 35 of 60; the loss, 0.03579, is taken for 2.29 / 64 (an inference)",
    ),
    "C5": (
        "Ranger21's validation loss is smoother (mean absolute second difference of its log, per epoch)",
        "none given",
    ),
    "C6": ("without batch norm AdamW never leaves chance", "5 seeds of 5, stopped at 10 epochs"),
    "C7": ("without batch norm Ranger21 trains, still improving at the end", "Figure 4, one run"),
}
HEADS = ("claim", "the paper", "these runs", "status")


@dataclass(frozen=True)
class Finding:
    """One claim in one comparison: what the runs say, and what follows."""

    claim: str  # a key of CLAIMS
    ours: str = "–"
    status: str = NOT_RUN

    @property
    def cells(self) -> tuple[str, str, str]:
        """What stands beneath the HEADS but the last, the status."""
        text, paper = CLAIMS[self.claim]
        return f"{self.claim} {text}", paper, self.ours


def findings(comparison: Comparison) -> list[Finding]:
    """The claims that a comparison can speak to: C1 to C5 with batch norm, C6 and C7 without.

    C1 and C2 are asked at the paper's scale alone.
    """
    found = evidence(comparison)
    judges: dict[str, Callable[[Evidence], tuple[str, str]]] = {"C6": _c6, "C7": _c7}
    if found.has_batch_norm:
        judges = {"C3": _c3, "C4": _c4, "C5": _c5}
        judges = ({"C1": _c1, "C2": _c2} if found.at_papers_scale else {}) | judges
    told = [(claim, *judge(found)) for claim, judge in judges.items()]
    return [Finding(claim, ours, _in_words_of_its_scale(verdict, found)) for claim, ours, verdict in told]


def _in_words_of_its_scale(verdict: str, found: Evidence) -> str:
    if found.at_papers_scale:
        return verdict
    return {REPRODUCED: HOLDS, CONTRADICTED: FAILS, TOO_FEW: UNDECIDED}.get(verdict, verdict)


def _within(ours: Estimate, low: float, high: float) -> str:
    """Whether a mean lies between two limits; contradicted only if its whole interval lies outside."""
    if ours.n < ENOUGH_SEEDS:
        return TOO_FEW
    if ours.low is None or ours.high is None:
        return UNDECIDED
    if low <= ours.mean <= high:
        return REPRODUCED
    return CONTRADICTED if ours.high < low or ours.low > high else UNDECIDED


def _sign(low: float | None, high: float | None, n: int) -> str:
    """Whether an interval excludes 0 on the claimed side (above), on the other, or not at all."""
    if n < ENOUGH_SEEDS:
        return TOO_FEW
    if low is None or high is None:
        return UNDECIDED
    return REPRODUCED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


def _shown(mean: float, low: float | None, high: float | None, unit: str, digits: int = 2) -> str:
    spread = "" if low is None or high is None else f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
    return f"{mean:.{digits}f}{unit}{spread}"


def _near(values: Seeds, target: float, step: float, detail: str) -> tuple[str, str]:
    """A mean over seeds of values that move in steps of `step`, against the paper's figure."""
    ours = estimate(values.values(), quantum=step)
    if ours is None:
        return "–", NOT_RUN
    text = f"{_shown(ours.mean, ours.low, ours.high, ' %')}, n = {ours.n}{detail}"
    return text, _within(ours, target - TOLERANCE, target + TOLERANCE)


def _c1(found: Evidence) -> tuple[str, str]:
    finished = [run for run in found.ranger21 if run.status == FINISHED]
    at_end = sum(figures.best_is_last(run) for run in finished)
    detail = f"; best at the last validation in {at_end} of {len(finished)} runs{found.lost(found.ranger21)}"
    text, verdict = _near(seeds(found.ranger21, final_top1), RANGER21_TOP1, quantum(found.ranger21), detail)
    return text, _unless_flattered(verdict, found.flattered(found.ranger21))


def _c2(found: Evidence) -> tuple[str, str]:
    reached = estimate(seeds(found.adamw, lambda run: best(run)[1]).values())
    detail = (f"; at epoch {reached.mean:.1f}" if reached else "") + found.lost(found.adamw)
    text, verdict = _near(seeds(found.adamw, lambda run: best(run)[0]), ADAMW_TOP1, quantum(found.adamw), detail)
    return text, _unless_flattered(verdict, found.flattered(found.adamw))


def _c3(found: Evidence) -> tuple[str, str]:
    step = quantum([*found.ranger21, *found.adamw])
    gap = difference(seeds(found.ranger21, final_top1), seeds(found.adamw, lambda run: best(run)[0]), quantum=step)
    if gap is None:
        return "–", NOT_RUN
    counts = f", n = {gap.n_a} and {gap.n_b}{found.lost(found.ranger21, found.adamw)}"
    verdict = _sign(gap.low, gap.high, min(gap.n_a, gap.n_b))
    text = _shown(gap.mean, gap.low, gap.high, " points") + counts
    return text, _unless_flattered(verdict, found.flattered(found.ranger21, found.adamw))


def _c4(found: Evidence) -> tuple[str, str]:
    pairs, never = figures.catching_up(found.ranger21, found.adamw)
    step = figures.between_validations(found.adamw)
    ours = estimate((EPOCHS * later for _, later in pairs.values()), quantum=EPOCHS * step)
    if ours is None:
        enough = any(run.status == FINISHED for run in found.ranger21) and any(
            run.status == FINISHED for run in found.adamw
        )
        return ("the first validation comes too late for this", UNDECIDED) if enough else ("–", NOT_RUN)
    lost = f"; with {never} of the seeds never, which counts as the end of the run" if never else ""
    lost += found.lost(found.ranger21, found.adamw)
    text = f"at epoch {_shown(ours.mean, ours.low, ours.high, f' of {EPOCHS}', 1)}, n = {ours.n}{lost}"
    if found.at_papers_scale:
        verdict = _within(ours, MATCHED_AT - EPOCHS_TOLERANCE, EPOCHS)
    else:
        delay = estimate((later - early for early, later in pairs.values()), quantum=step)
        verdict = _sign(delay.low, delay.high, delay.n) if delay else NOT_RUN
    return text, _unless_flattered(verdict, found.flattered(found.ranger21, found.adamw))


def _c5(found: Evidence) -> tuple[str, str]:
    a, b = (seeds(runs, figures.roughness) for runs in (found.ranger21, found.adamw))
    gap, means = difference(b, a), [estimate(values.values()) for values in (a, b)]
    if gap is None:
        return "–", NOT_RUN
    text = " against ".join(f"{mean.mean:.4f}" for mean in means if mean) + f", n = {gap.n_b} and {gap.n_a}"
    verdict = _sign(gap.low, gap.high, min(gap.n_a, gap.n_b))
    return text + found.lost(found.ranger21, found.adamw), _unless_flattered(
        verdict, found.flattered(found.ranger21, found.adamw)
    )


def _c6(found: Evidence) -> tuple[str, str]:
    known = _leaving(found.adamw)
    if not known:
        return "–", NOT_RUN
    stuck = [run for run, left in known if not left]
    diverged = sum(run.status == DIVERGED for run in stuck)
    text = f"{len(stuck)} of {len(known)} runs at chance" + (f", {diverged} of them diverged" if diverged else "")
    verdict = REPRODUCED if len(stuck) == len(known) else CONTRADICTED if not stuck else UNDECIDED
    return text, verdict if _seeds([run for run, _ in known]) >= ENOUGH_SEEDS else TOO_FEW


def _c7(found: Evidence) -> tuple[str, str]:
    known = _leaving([run for run in found.ranger21 if run.status in (FINISHED, DIVERGED)])
    if not known:
        return "–", NOT_RUN
    trained = [run for run, left in known if left and run.status == FINISHED]
    improving = sum(figures.best_is_last(run) for run in trained)
    text = f"{len(trained)} of {len(known)} runs train, {improving} of them best at the last validation"
    verdict = REPRODUCED if improving == len(known) else CONTRADICTED if not trained else UNDECIDED
    return text, verdict if _seeds([run for run, _ in known]) >= ENOUGH_SEEDS else TOO_FEW


def _unless_flattered(verdict: str, flattered: bool) -> str:
    return UNDECIDED if flattered and verdict in (REPRODUCED, CONTRADICTED) else verdict


def _leaving(runs: list[Run]) -> list[tuple[Run, bool]]:
    """The runs of which it can be said whether they left chance, and whether they did."""
    return [(run, left) for run in runs if (left := figures.leaves_chance(run)) is not None]


def _seeds(runs: list[Run]) -> int:
    return len({run.seed for run in runs})
