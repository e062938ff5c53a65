"""claims.md: every claim of the paper with its figure, ours, and what follows."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.claim_figures import CHANCE_MARGIN
from ranger21.report.claims import (
    CLAIMS,
    EPOCHS_TOLERANCE,
    HEADS,
    MATCHED_AT,
    NOT_RUN,
    TOLERANCE,
    Finding,
    findings,
)
from ranger21.report.comparisons import Comparison
from ranger21.report.papers_runs import evidence
from ranger21.report.text import escaped, table_lines
from ranger21.report.ttests import ENOUGH_SEEDS

HEAD = f"""# The paper's claims, and what these runs say

Wright and Demeure, *Ranger21: a synergistic deep learning optimizer* (2021), section 4; one run each there, but for C6.
What counts as what was fixed beforehand:

- at the paper's scale (ImageNet's 1,281,167 images, every setting of experiment=paper): C1, C2 are `reproduced` if the
  mean is within {TOLERANCE} points of the paper's, C4 if it is epoch {MATCHED_AT - EPOCHS_TOLERANCE} of 60 or later,
  `contradicted` if the whole 95 % interval lies outside; C3, C5 are `reproduced` if the interval of the difference
  excludes 0 on the claimed side, `contradicted` if on the other; C6 if all runs stay at chance (within
  {CHANCE_MARGIN:g} point, or three standard errors of the accuracy if that is more; a run without an end counts from a
  sixth of its length on), C7 if all train and are best at their last validation; in between `cannot tell`, and so where
  more than a fifth of a contestant's runs diverged (C1 to C5); with fewer than {ENOUGH_SEEDS} seeds `too few seeds`;
- at any other scale the same rules say only `holds at this scale`, `fails at this scale` or `cannot tell` (C1 and C2
  are not asked), C4 by whether AdamW arrives later than Ranger21 with an interval that excludes 0.

The contestants are optimizer=ranger21 and optimizer=adamw with nothing else chosen: all ingredients and its schedule
against a constant rate, both 3e-3. Intervals are Student's, of means over seeds, and each claim's alone."""

SMALL = """The paper itself warns (footnote 6) that sets as small as MNIST and CIFAR-10 do not tell optimizers apart.
What holds or fails here is a statement on this scale alone."""


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The whole of claims.md. Comparisons at the paper's scale come first; what nobody ran there is said."""
    large = [comparison for comparison in comparisons if evidence(comparison).at_papers_scale]
    told = {comparison.title: findings(comparison) for comparison in comparisons}
    parts = [HEAD]
    for comparison in large:
        parts += [f"## At the paper's scale: {escaped(comparison.title)}", table(told[comparison.title])]
    spoken = {finding.claim for comparison in large for finding in told[comparison.title]}
    if missing := [Finding(claim) for claim in CLAIMS if claim not in spoken]:
        parts += ["## At the paper's scale: not run", table(missing)]
    small = [c for c in comparisons if c not in large and any(f.status != NOT_RUN for f in told[c.title])]
    for comparison in small:
        parts += [f"## At a reduced scale: {escaped(comparison.title)}", table(told[comparison.title])]
    parts += [SMALL] if small else []
    drawn = "; ".join(f"{escaped(comparison.title)}: `{comparison.slug}/`" for comparison in comparisons)
    parts.append(f"C8, the figures: redrawn from these runs ({drawn}).")
    return "\n\n".join(parts) + "\n"


def table(found: Sequence[Finding]) -> str:
    """Findings as a table in Markdown."""
    return "\n".join(table_lines(HEADS, [(*finding.cells, f"**{finding.status}**") for finding in found]))
