"""What is said of runs that diverged: what each counts as, how often it happens, and what the others alone came to."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.groups.chance import chance
from ranger21.report.groups.failures import failed, top1_of_failed
from ranger21.report.groups.summary import Row, failure_pairs
from ranger21.report.runs.run import Run

MANY_PAIRS = 15
COUNTED = (
    "Mean ± sample standard deviation over n seeds that have ended; all but time and images/s are of validation. "
    "A diverged run is a result: it counts as chance in the accuracies, as the loss of guessing in the loss, and ranks "
    "below every other. Best epoch, time and images/s are of finished runs."
)


def what_counts(rows: Sequence[Row]) -> str | None:
    """The sentence on what the means hold; None where no run failed."""
    return COUNTED if any(row.failures.count for row in rows) else None


def counts_as(run: Run) -> str:
    """The clause on what a failed run counts as."""
    why = "chance" if chance(run) else "the worst, as the count of classes is not known"
    return f"counts as {top1_of_failed(run):.3g} % top-1 ({why})"


def failure_notes(rows: Sequence[Row]) -> list[str]:
    """A sentence on each group that lost seeds: how many, the share's interval, and the mean of the others."""
    said = []
    for row in rows:
        if row.failures.count:
            lost, interval = row.failures, f"95 % interval {row.failures.percent}, Clopper and Pearson's"
            said.append(f"{row.group.label}: {lost.count} of {lost.n} seeds diverged ({interval}). {_finished(row)}")
    return said


def _finished(row: Row) -> str:
    runs = sum(not failed(run) for run in row.group.runs)
    if row.finished_top1 is None:
        return "None finished." if not runs else "No other run has a final top-1."
    spread = "" if row.finished_top1.sd is None else f" ± {row.finished_top1.sd:.2f}"
    alone = f"Its finished runs alone have {row.finished_top1.mean:.2f}{spread} % (n = {row.finished_top1.n})"
    return f"{alone}, which flatters it: no verdict rests on that."


def failure_sentences(rows: Sequence[Row]) -> list[str]:
    """Which group of each pair diverges more often; of many pairs, those that can be told."""
    found = failure_pairs(rows)
    told = [each for each in found if len(found) <= MANY_PAIRS or each[2].verdict != "cannot tell"]
    said = [contrast.sentence(a, b, "diverges") for a, b, contrast in told]
    unsaid = len(found) - len(told)
    return said + ([f"Of the other {unsaid} pairs we cannot tell which diverges more often."] if unsaid else [])
