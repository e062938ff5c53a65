"""Write claims.md: the figure of each of the paper's claims, the runs' figure, and the status."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.claims.claims import CLAIMS, HEADS, ClaimResult, claim_results
from ranger21.report.claims.figures import CHANCE_MARGIN, FEWEST_AT_END
from ranger21.report.claims.judges import EPOCHS_TOLERANCE, MATCHED_AT, TOLERANCE
from ranger21.report.claims.rules import ENOUGH_FOR_A_SHARE, ENOUGH_VALIDATIONS, NOT_RUN
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.papers_runs import evidence
from ranger21.report.groups.protocols import protocol_summary
from ranger21.report.statistics.ttests import ENOUGH_SEEDS
from ranger21.report.tables.text import escaped, table_lines

HEAD = f"""# The paper's claims, and what these runs show

The claims are from Wright and Demeure, *Ranger21: a synergistic deep learning optimizer* (2021), section 4, which
reports one run for each, except for C6. The optimizers compared are optimizer=ranger21 and optimizer=adamw with default
settings: all of Ranger21's ingredients and its schedule, against AdamW with a constant learning rate, both 3e-3.

## What each status means

A verdict depends on the 95 % confidence interval over seeds (Student's), never on the mean alone.

| status | at the paper's scale |
|---|---|
| `reproduced` | the interval, as a whole, agrees with the claim |
| `contradicted` | the interval, as a whole, disagrees with the claim |
| `cannot tell` | the interval does neither, or a failed run prevents a verdict |
| `too few seeds` | fewer than {ENOUGH_SEEDS} seeds (C6 and C7a: {ENOUGH_FOR_A_SHARE}) |
| `not run` | no run tests the claim |

At any other scale, the statuses are `holds at this scale` instead of `reproduced`, `fails at this scale` instead of
`contradicted`, and `cannot tell`. The paper's scale is every setting of experiment=paper, on ImageNet's 1,281,167
training images. Each interval is for its claim alone, without a correction for the number of claims.

## How each claim is judged

- **Sizes** (C1, C2, C3b, C4b) are judged at the paper's scale only. The limits are {TOLERANCE} points around the
  paper's figure for C1, C2 and C3b, and {EPOCHS_TOLERANCE} epochs around epoch {MATCHED_AT} for C4b. A size is
  reproduced if the whole interval lies within the limits, and contradicted if all of it lies outside.
- **Directions** (C3a, C4a, C5, C7b) are reproduced if the interval lies on the claimed side of 0, and contradicted if
  it lies on the other side.
  - C4a compares losses at the validation nearest to a sixth of the run, if that is within the first quarter. AdamW is
    later if its lowest loss up to there is above Ranger21's loss, and not later if its loss there is below it.
  - C5 compares the logarithm of the roughness. C7b tests the slope of top-1 over the last quarter of the validations
    (at least {FEWEST_AT_END}). Both need runs with at least {ENOUGH_VALIDATIONS} validations.
- **"Always"** (C6, C7a) is reproduced if all seeds, at least {ENOUGH_FOR_A_SHARE}, agree: this shows that most seeds
  would (one-sided 95 % limit of Clopper and Pearson). It is contradicted if that limit shows that most seeds would not.
  A run is at chance if its top-1 never exceeds chance by more than {CHANCE_MARGIN:g} point, or by more than one in 740
  runs at chance would, whichever is larger. A run that has not ended counts once it has passed a sixth of its length.
- **Failed runs** diverged, or ended with NaN. They count as chance in C1 to C3: sizes then have no interval, so the
  status is `cannot tell`, and C3a uses a rank test. C4 and C5 compare finished runs, so a single failed run prevents a
  verdict, because the remaining runs would flatter the optimizer that lost it. C7b allows up to a fifth of failed runs.

These rules date from 2026-11-29. They were fixed before ImageNet was trained with this code, but after the small runs
in this project's results/, for which they are therefore not a test that was planned in advance."""

SMALL = """The paper itself warns (footnote 6) that datasets as small as MNIST and CIFAR-10 do not distinguish between
optimizers. What holds or fails here is a statement about this scale only."""


def markdown(comparisons: Sequence[GroupComparison]) -> str:
    """Return the text of claims.md, comparisons at the paper's scale first, then the claims not run at that scale."""
    large = [comparison for comparison in comparisons if evidence(comparison).at_papers_scale]
    told = {comparison.title: claim_results(comparison) for comparison in comparisons}
    parts = [HEAD]
    for comparison in large:
        parts += [f"## At the paper's scale: {escaped(comparison.title)}", table(told[comparison.title])]
    spoken = {finding.claim for comparison in large for finding in told[comparison.title]}
    if missing := [ClaimResult(claim) for claim in CLAIMS if claim not in spoken]:
        parts += ["## At the paper's scale: not run", table(missing)]
    small = [c for c in comparisons if c not in large and any(f.status != NOT_RUN for f in told[c.title])]
    for comparison in small:
        parts += [f"## At a reduced scale: {escaped(comparison.title)}", table(told[comparison.title])]
    parts += [SMALL] if small else []
    fixed = "\n".join(f"- {escaped(c.title)}: {escaped(protocol_summary(c))}" for c in comparisons)
    parts += ["## What was fixed before the runs", fixed]
    drawn = "; ".join(f"{escaped(comparison.title)}: `{comparison.slug}/`" for comparison in comparisons)
    parts.append(f"C8, the paper's figures, redrawn from these runs: {drawn}.")
    return "\n\n".join(parts) + "\n"


def table(found: Sequence[ClaimResult]) -> str:
    """Return the results as a table in Markdown."""
    return "\n".join(table_lines(HEADS, [(*finding.cells, f"**{finding.status}**") for finding in found]))
