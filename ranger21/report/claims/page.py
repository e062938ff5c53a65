"""claims.md: every claim of the paper with its figure, ours, and what follows."""

from __future__ import annotations

from collections.abc import Sequence

from ranger21.report.claims.claims import CLAIMS, HEADS, Finding, findings
from ranger21.report.claims.figures import CHANCE_MARGIN, FEWEST_AT_END
from ranger21.report.claims.judges import EPOCHS_TOLERANCE, MATCHED_AT, TOLERANCE
from ranger21.report.claims.rules import ENOUGH_FOR_A_SHARE, ENOUGH_VALIDATIONS, NOT_RUN
from ranger21.report.groups.comparisons import Comparison
from ranger21.report.groups.papers_runs import evidence
from ranger21.report.groups.protocols import told as told_protocol
from ranger21.report.statistics.ttests import ENOUGH_SEEDS
from ranger21.report.tables.text import escaped, table_lines

HEAD = f"""# The paper's claims, and what these runs say

Wright and Demeure, *Ranger21: a synergistic deep learning optimizer* (2021), section 4; one run each there, but for C6.
What counts as what, by rules of 2026-11-29. They were fixed before anyone trained ImageNet with this code, but after
the small runs of the project's own results/: for those they are no test that was planned beforehand.

- A verdict needs the whole 95 % interval (Student's, over seeds), never the mean alone.
- A size (C1, C2, C3b: within {TOLERANCE} points of the paper's; C4b: within {EPOCHS_TOLERANCE} epochs of epoch
  {MATCHED_AT}) is `reproduced` if the whole interval lies within these limits, `contradicted` if the whole of it lies
  outside. Sizes are asked at the paper's scale alone (ImageNet's 1,281,167 images, every setting of experiment=paper).
- A direction (C3a, C4a, C5, C7b) is `reproduced` if the interval excludes 0 on the claimed side, `contradicted` if on
  the other. C4a goes by the losses at the validation nearest to a sixth of the run, if that is no later than a quarter:
  AdamW is later if the lowest that it had until then is above Ranger21's, and not later if its loss there is below.
  C5 is of the logarithm of the roughness, C7b of the slope of top-1 over the last quarter of the validations
  ({FEWEST_AT_END} at least); runs with fewer than {ENOUGH_VALIDATIONS} validations say nothing of either.
- C6 and C7a say "always". They are `reproduced` if it is so for every seed, of {ENOUGH_FOR_A_SHARE} at least, which
  shows that it would be so for most (one-sided 95 % limit of Clopper and Pearson), `contradicted` if that limit shows
  that for most it would not. At chance is within {CHANCE_MARGIN:g} point of it, or what one of 740 runs at chance
  exceeds, if that is more; a run without an end counts from a sixth of its length on.
- In between it is `cannot tell`. A run that diverged, or ended in NaN, has failed. It counts as chance in C1 to C3: a
  size then has no interval and is `cannot tell`, and C3a goes by a test of ranks. C4 and C5, which compare finished
  runs, tell nothing where a single run failed, as the rest would flatter who lost it, and C7b if more than a fifth did.
- With fewer than {ENOUGH_SEEDS} seeds (C6, C7a: {ENOUGH_FOR_A_SHARE}) it is `too few seeds`.
- At any other scale the same rules say only `holds at this scale`, `fails at this scale` or `cannot tell`.

The contestants are optimizer=ranger21 and optimizer=adamw with nothing else chosen: all ingredients and its schedule
against a constant rate, both 3e-3. Each interval holds for its claim alone."""

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
    fixed = "\n".join(f"- {escaped(c.title)}: {escaped(told_protocol(c))}" for c in comparisons)
    parts += ["## What was fixed before the runs", fixed]
    drawn = "; ".join(f"{escaped(comparison.title)}: `{comparison.slug}/`" for comparison in comparisons)
    parts.append(f"C8, the figures: redrawn from these runs ({drawn}).")
    return "\n\n".join(parts) + "\n"


def table(found: Sequence[Finding]) -> str:
    """Findings as a table in Markdown."""
    return "\n".join(table_lines(HEADS, [(*finding.cells, f"**{finding.status}**") for finding in found]))
