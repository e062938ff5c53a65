"""Sentences on runs that diverged: what they count as, how often it happens, and the mean of the finished runs."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.groups.chance import chance
from ranger21.report.groups.failures import failed, top1_of_failed
from ranger21.report.groups.summary import GroupSummary, failure_pairs
from ranger21.report.runs.run import RecordedRun
from ranger21.system.wording import counted

MANY_PAIRS = 15
COUNTED = (
    "Mean ± sample standard deviation over the n seeds that have ended. Accuracies, loss and best epoch come from "
    "validation. A diverged run is a result: it counts as chance in accuracies and loss, and ranks below all "
    "others. Best epoch, time and images/s are over finished runs only."
)


def what_counts(rows: Sequence[GroupSummary]) -> str | None:
    """Return the sentence that explains the means; None if no run failed."""
    return COUNTED if any(row.failures.count for row in rows) else None


def counts_as(run: RecordedRun) -> str:
    """Return a clause that says what a failed run counts as."""
    why = "chance" if chance(run) else "the worst value, as the number of classes is unknown"
    return f"counts as {top1_of_failed(run):.3g} % top-1 ({why})"


def failure_notes(rows: Sequence[GroupSummary]) -> list[str]:
    """Return a sentence for each group with failed seeds: how many, the share's interval, the finished runs' mean."""
    said = []
    for row in rows:
        if row.failures.count:
            lost, interval = row.failures, f"Clopper and Pearson's 95 % interval: {row.failures.percent}"
            share = f"{lost.count} of {counted(lost.n, 'seed')}"
            said.append(f"{row.group.label}: {share} diverged ({interval}). {_finished(row)}")
    return said


def _finished(row: GroupSummary) -> str:
    runs = sum(not failed(run) for run in row.group.runs)
    if row.finished_top1 is None:
        return "None finished." if not runs else "No other run has a final top-1."
    spread = "" if row.finished_top1.sd is None else f" ± {row.finished_top1.sd:.2f}"
    alone = f"Its finished runs alone reach {row.finished_top1.mean:.2f}{spread} % (n = {row.finished_top1.n})"
    return f"{alone}, which flatters the group and is used for no verdict."


def failure_sentences(rows: Sequence[GroupSummary]) -> list[str]:
    """Return a sentence on which group of each pair diverges more often; of many pairs, only those with a verdict."""
    found = failure_pairs(rows)
    told = [each for each in found if len(found) <= MANY_PAIRS or each[2].verdict != "cannot tell"]
    said = [contrast.sentence(a, b, "diverges") for a, b, contrast in told]
    unsaid = len(found) - len(told)
    other = counted(unsaid, "other pair")
    return said + ([f"Cannot tell which group diverges more often in {other}."] if unsaid else [])
