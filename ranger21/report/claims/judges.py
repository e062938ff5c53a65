"""Judge each claim on the runs of a comparison: return a clause with the figures, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.claims import figures as figures
from ranger21.report.claims.rules import (
    CONTRADICTED,
    ENOUGH_VALIDATIONS,
    NOT_RUN,
    REPRODUCED,
    TOO_FEW,
    UNDECIDED,
    always,
    shown,
    sign,
    unless,
    within,
)
from ranger21.report.groups.papers_runs import Evidence
from ranger21.report.groups.resolution import quantum
from ranger21.report.groups.summary import best, best_top1, final_top1, last_top1, mean_of, seed_of, seeds
from ranger21.report.runs.run import DIVERGED, FINISHED, RecordedRun, Seed
from ranger21.report.statistics.pairs import difference, estimate
from ranger21.report.statistics.ranks import Outcomes
from ranger21.report.statistics.ttests import ENOUGH_SEEDS
from ranger21.report.statistics.verdicts import Difference
from ranger21.system.wording import counted
from ranger21.tracking.splits import OFFICIAL

RANGER21_TOP1, ADAMW_TOP1, GAP, TOLERANCE = 73.69, 71.08, 2.61, 0.5  # per cent; points
MATCHED_AT, EPOCHS_TOLERANCE, EPOCHS = 35, 5, 60

BY_RANKS = {"better": REPRODUCED, "worse": CONTRADICTED}

Judged = tuple[str, str]


def c1(found: Evidence) -> Judged:
    """Compare Ranger21's final top-1 with the paper's."""
    finished = [run for run in found.ranger21 if run.status == FINISHED]
    at_end = sum(figures.best_is_last(run) for run in finished)
    detail = f"; best at the last validation in {at_end} of {len(finished)} runs"
    return _near(seeds(found.ranger21, final_top1), RANGER21_TOP1, detail, found, found.ranger21)


def c2(found: Evidence) -> Judged:
    """Compare AdamW's best top-1 with the paper's."""
    reached = estimate(seeds(found.adamw, lambda run: best(run)[1]).values())
    detail = f"; at epoch {reached.mean:.1f}" if reached else ""
    return _near(seeds(found.adamw, best_top1), ADAMW_TOP1, detail, found, found.adamw)


def _near(values: Outcomes, target: float, detail: str, found: Evidence, runs: Sequence[RecordedRun]) -> Judged:
    """Compare a mean over seeds with the paper's figure."""
    ours = mean_of(values, quantum(runs))
    if ours is None:
        return "–", NOT_RUN
    lost = found.lost(runs, counted=True)
    text = f"{shown(ours.mean, ours.low, ours.high, ' %')}, n = {ours.n}{detail}{lost}"
    return text, within(ours.low, ours.high, ours.n, target - TOLERANCE, target + TOLERANCE)


def c3_direction(found: Evidence) -> Judged:
    """Judge whether Ranger21's final top-1 is above AdamW's best; with the rank test if a run diverged."""
    gap, text = _gap(found)
    if gap and any(gap.failed) and min(gap.n_a, gap.n_b) >= ENOUGH_SEEDS:
        return text, BY_RANKS.get(gap.verdict, UNDECIDED)
    return text, sign(gap.low, gap.high, min(gap.n_a, gap.n_b)) if gap else NOT_RUN


def c3_size(found: Evidence) -> Judged:
    """Judge whether Ranger21's lead over AdamW has the paper's size."""
    gap, text = _gap(found)
    if gap is None:
        return text, NOT_RUN
    return text, within(gap.low, gap.high, min(gap.n_a, gap.n_b), GAP - TOLERANCE, GAP + TOLERANCE)


def _gap(found: Evidence) -> tuple[Difference | None, str]:
    runs = [*found.ranger21, *found.adamw]
    step = max(quantum(runs, split) for split in {run.watched for run in runs} or {OFFICIAL})
    gap = difference(seeds(found.ranger21, last_top1), seeds(found.adamw, best_top1), quantum=step)
    if gap is None:
        return None, "–"
    lost = found.lost(found.ranger21, found.adamw, counted=True)
    where = "" if runs[0].watched == OFFICIAL else ", both on the holdout"
    return gap, f"{shown(gap.mean, gap.low, gap.high, ' points')}{where}, n = {gap.n_a} and {gap.n_b}{lost}"


def c4_direction(found: Evidence) -> Judged:
    """Judge whether AdamW reaches Ranger21's early loss later, by the losses at the early validation.

    AdamW is later if its lowest loss so far is above Ranger21's loss, and not later if its loss there is below it.
    """
    mine, theirs = seeds(found.ranger21, figures.early_loss), seeds(found.adamw, figures.early_loss)
    there, lowest = difference(theirs, mine), difference(seeds(found.adamw, figures.lowest_early_loss), mine)
    if there is None or lowest is None:
        both = all(any(run.status == FINISHED for run in runs) for runs in (found.ranger21, found.adamw))
        return ("the first validation is too late to judge this", UNDECIDED) if both else ("–", NOT_RUN)
    runs, n = (found.ranger21, found.adamw), min(there.n_a, there.n_b)
    epoch, end = figures.early_epoch(found.ranger21)
    amount = shown(there.mean, there.low, there.high, "", 3)
    text = f"at epoch {epoch:g} of {end:g} AdamW's loss minus Ranger21's: {amount}, n = {there.n_a} and {there.n_b}"
    if pairs := [theirs[seed] <= mine[seed] for seed in mine if seed in theirs]:
        text += f"; AdamW's is not higher in {sum(pairs)} of {counted(len(pairs), 'seed')}"
    late, early = sign(lowest.low, lowest.high, n), sign(there.low, there.high, n)
    verdict = late if late in (REPRODUCED, TOO_FEW) else early if early == CONTRADICTED else UNDECIDED
    return text + found.lost(*runs), unless(verdict, found.failed(*runs))


def c4_size(found: Evidence) -> Judged:
    """Judge whether AdamW reaches that loss at the paper's epoch. Runs that never reach it count with their end."""
    pairs, never = figures.catching_up(found.ranger21, found.adamw)
    step = EPOCHS * figures.between_validations(found.adamw)
    ours = estimate((EPOCHS * later for _, later in pairs.values()), quantum=step)
    if ours is None:
        return "–", NOT_RUN
    lost = f"; {counted(never, 'seed')} never reached it, counted as the end of the run" if never else ""
    lost += found.lost(found.ranger21, found.adamw)
    text = f"at epoch {shown(ours.mean, ours.low, ours.high, f' of {EPOCHS}', 1)}, n = {ours.n}{lost}"
    verdict = within(ours.low, ours.high, ours.n, MATCHED_AT - EPOCHS_TOLERANCE, MATCHED_AT + EPOCHS_TOLERANCE)
    return text, unless(verdict, found.failed(found.ranger21, found.adamw))


def c5(found: Evidence) -> Judged:
    """Judge whether Ranger21's curves are smoother, by the logarithm of the roughness, as the roughness is skewed."""
    runs = (found.ranger21, found.adamw)
    gap = difference(seeds(found.adamw, figures.log_roughness), seeds(found.ranger21, figures.log_roughness))
    means = [estimate(seeds(each, figures.roughness).values()) for each in runs]
    if gap is None:
        return "–", NOT_RUN
    text = " against ".join(f"{mean.mean:.4f}" for mean in means if mean) + f", n = {gap.n_b} and {gap.n_a}"
    few = _too_few_validations([*found.ranger21, *found.adamw])
    verdict = UNDECIDED if few else sign(gap.low, gap.high, min(gap.n_a, gap.n_b))
    return text + few + found.lost(*runs), unless(verdict, found.failed(*runs))


def c6(found: Evidence) -> Judged:
    """Judge whether AdamW stays at chance with every seed."""
    known = _leaving(found.adamw)
    if not known:
        return "–", NOT_RUN
    stuck = [seed for seed, runs in known.items() if not any(left for _, left in runs)]
    diverged = sum(any(run.status == DIVERGED for run, _ in known[seed]) for seed in stuck)
    how = f", {diverged} of them diverged" if diverged else ""
    text = f"{len(stuck)} of {counted(len(known), 'seed')} at chance{how}"
    return text, always(len(stuck), len(known))


def c7_trains(found: Evidence) -> Judged:
    """Judge whether Ranger21 leaves chance and does not fail, with every seed."""
    known = _leaving([run for run in found.ranger21 if run.status in (FINISHED, DIVERGED)])
    if not known:
        return "–", NOT_RUN
    trained = [seed for seed, runs in known.items() if all(left and run.status == FINISHED for run, left in runs)]
    return f"{len(trained)} of {counted(len(known), 'seed')} trained", always(len(trained), len(known))


def c7_rises(found: Evidence) -> Judged:
    """Judge whether Ranger21's top-1 still rises at the end, by its slope over the last validations."""
    finished = [run for run in found.ranger21 if run.status == FINISHED]
    if not finished:
        return "–", NOT_RUN
    if few := _too_few_validations(finished):
        return few.removeprefix("; "), UNDECIDED
    ours = estimate(seeds(finished, figures.last_slope).values())
    if ours is None:
        return "–", NOT_RUN
    text = f"{shown(ours.mean, ours.low, ours.high, ' points per epoch', 3)}, n = {ours.n}{found.lost(found.ranger21)}"
    return text, unless(sign(ours.low, ours.high, ours.n), found.flattered(found.ranger21))


def _too_few_validations(runs: Sequence[RecordedRun]) -> str:
    """Return a clause if a finished run has too few validations to judge its curve, else an empty string."""
    fewest = min((figures.validations(run) for run in runs if run.status == FINISHED), default=0)
    if fewest >= ENOUGH_VALIDATIONS:
        return ""
    return f"; {counted(fewest, 'validation')} per run, but at least {ENOUGH_VALIDATIONS} are needed to judge this"


def _leaving(runs: Sequence[RecordedRun]) -> dict[Seed, list[tuple[RecordedRun, bool]]]:
    """Return, by seed, whether each run left chance; runs for which that is unknown are left out."""
    known: dict[Seed, list[tuple[RecordedRun, bool]]] = {}
    for run in runs:
        if (left := figures.leaves_chance(run)) is not None:
            known.setdefault(seed_of(run), []).append((run, left))
    return known
