"""claims.md: every claim of the paper with its figure, ours, and what follows."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.claims import (
    CHANCE_MARGIN,
    EPOCHS_TOLERANCE,
    MATCHED_AT,
    NOT_RUN,
    TOLERANCE,
    Finding,
    evidence,
    findings,
)
from ranger21.report.comparisons import Comparison
from ranger21.report.statistics import ENOUGH_SEEDS

HEAD = f"""# The paper's claims, and what these runs say

Wright and Demeure, *Ranger21: a synergistic deep learning optimizer* (2021), section 4, one run each.
What counts as what was fixed beforehand:

- at the paper's scale (ImageNet, 60 epochs, batch 64, its recipe): C1, C2 are `reproduced` if the mean is within
  {TOLERANCE} points of the paper's, C4 if it is within {EPOCHS_TOLERANCE} epochs of {MATCHED_AT}, `contradicted` if the
  whole 95 % interval lies outside; C3, C5 are `reproduced` if the interval of the difference excludes 0 on the claimed
  side, `contradicted` if on the other; C6 if all runs stay within {CHANCE_MARGIN:g} point of chance, C7 if all train
  and are best at their last validation; in between `cannot tell`; with fewer than {ENOUGH_SEEDS} seeds `too few seeds`;
- at any other scale the same rules say only `holds at this scale`, `fails at this scale` or `cannot tell`, C4 by
  whether AdamW arrives later than Ranger21 with an interval that excludes 0.

The contestants are Ranger21 with the paper's settings (all ingredients, lr 3e-3, its schedule) and AdamW with a
constant rate of 3e-3. Intervals are Student's, of means over seeds, and each claim's alone."""

PAPERS = (
    Finding("C1 ResNet50: Ranger21's final top-1", "73.69 %, at the last iteration", "–", NOT_RUN),
    Finding("C2 ResNet50: AdamW's best top-1", "71.08 %, at epoch 52", "–", NOT_RUN),
    Finding("C3 Ranger21's final top-1 above AdamW's best", "2.61 points", "–", NOT_RUN),
    Finding("C4 AdamW reaches Ranger21's validation loss of epoch 10 late", "at epoch 35", "–", NOT_RUN),
    Finding("C5 Ranger21's validation loss is smoother", "none given", "–", NOT_RUN),
    Finding("C6 without batch norm AdamW never leaves chance", "5 seeds of 5", "–", NOT_RUN),
    Finding("C7 without batch norm Ranger21 trains, still improving at the end", "Figure 4, one run", "–", NOT_RUN),
)
SMALL = """The paper itself warns (footnote 6) that sets as small as MNIST and CIFAR-10 do not tell optimizers apart.
What holds or fails here is a statement on this scale alone."""


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The whole of claims.md. Comparisons at the paper's scale come first; what nobody ran there is said."""
    large = [comparison for comparison in comparisons if evidence(comparison).at_papers_scale]
    parts = [HEAD, "## At the paper's scale"]
    told = [finding for comparison in large for finding in findings(comparison)]
    spoken = {finding.claim[:2] for finding in told}
    parts.append(_table(sorted(told + [f for f in PAPERS if f.claim[:2] not in spoken], key=lambda f: f.claim[:2])))
    parts += [f"Runs: {comparison.title}." for comparison in large]
    small = [comparison for comparison in comparisons if comparison not in large]
    for comparison in small:
        found = findings(comparison)
        if any(finding.status != NOT_RUN for finding in found):
            parts += [f"## At a reduced scale: {comparison.title}", _table(found)]
    parts += [SMALL] if small else []
    drawn = "; ".join(f"{comparison.title}: `{comparison.slug}/`" for comparison in comparisons)
    parts.append(f"C8, the figures: redrawn from these runs ({drawn}).")
    return "\n\n".join(parts) + "\n"


def _table(found: Sequence[Finding]) -> str:
    rows = [("claim", "the paper", "these runs", "status"), ("---",) * 4]
    rows += [(f.claim, f.paper, f.ours, f"**{f.status}**") for f in found]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
