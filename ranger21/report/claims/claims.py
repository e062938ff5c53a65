"""Test the paper's claims C1 to C7 against the runs. HEAD in page.py, the header of claims.md, defines each status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ranger21.report.claims import judges as judge
from ranger21.report.claims.rules import CONTRADICTED, FAILS, HOLDS, NOT_RUN, REPRODUCED, TOO_FEW, UNDECIDED
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.papers_runs import Evidence, evidence

# The statement of each claim, and the paper's figure. Direction and size of a claim have separate verdicts.
CLAIMS = {
    "C1": ("ResNet50: Ranger21's final top-1", "73.69 %, at the last iteration"),
    "C2": ("ResNet50: AdamW's best top-1", "71.08 %, at epoch 52"),
    "C3a": ("Ranger21's final top-1 is above AdamW's best", "above"),
    "C3b": ("The size of that difference", "2.61 points"),
    "C4a": (
        "AdamW takes longer to reach the validation loss that Ranger21 has after a sixth of the run (epoch 10 of 60)",
        "longer; the paper's loss of 0.03579 is interpreted as 2.29 / 64",
    ),
    "C4b": ("The epoch at which AdamW reaches that loss", "epoch 35 of 60"),
    "C5": (
        "Ranger21's validation loss is smoother (mean absolute second difference of its log, per epoch)",
        "none given",
    ),
    "C6": ("Without batch norm, AdamW stays at chance", "5 seeds of 5, stopped at 10 epochs"),
    "C7a": ("Without batch norm, Ranger21 trains", "Figure 4, one run"),
    "C7b": ("Without batch norm, Ranger21's top-1 still rises at the end", "Figure 4, one run"),
}
HEADS = ("claim", "paper", "these runs", "status")

Judge = Callable[[Evidence], tuple[str, str]]
OF_THE_PAPERS_SCALE: dict[str, Judge] = {"C1": judge.c1, "C2": judge.c2, "C3b": judge.c3_size, "C4b": judge.c4_size}
WITH_BATCH_NORM: dict[str, Judge] = {"C3a": judge.c3_direction, "C4a": judge.c4_direction, "C5": judge.c5}
COMPARED = {"C3a", "C3b", "C4a", "C4b", "C5"}  # claims that compare validations of both optimizers
UNLIKE = ("not comparable: some runs validated on a holdout, others on the official set", UNDECIDED)
WITHOUT_BATCH_NORM: dict[str, Judge] = {"C6": judge.c6, "C7a": judge.c7_trains, "C7b": judge.c7_rises}


@dataclass(frozen=True)
class ClaimResult:
    """One claim tested on one comparison.

    Attributes:
        claim: a key of CLAIMS.
        ours: the runs' figure, as text.
        status: the verdict, as defined in the header of claims.md.
    """

    claim: str
    ours: str = "–"
    status: str = NOT_RUN

    @property
    def cells(self) -> tuple[str, str, str]:
        """The cells of its row, without the last one, the status."""
        text, paper = CLAIMS[self.claim]
        return f"{self.claim} {text}", paper, self.ours


def claim_results(comparison: GroupComparison) -> list[ClaimResult]:
    """Test the claims that apply to a comparison: C1 to C5 with batch norm, C6 and C7 without.

    Claims about the paper's own figures (C1, C2, C3b, C4b) are only tested at the paper's scale.
    """
    found = evidence(comparison)
    judges = WITH_BATCH_NORM if found.has_batch_norm else WITHOUT_BATCH_NORM
    if found.has_batch_norm and found.at_papers_scale:
        judges = judges | OF_THE_PAPERS_SCALE
    unlike = len({run.watched for run in (*found.ranger21, *found.adamw)}) > 1
    told = [(claim, *(UNLIKE if unlike and claim in COMPARED else judges[claim](found))) for claim in sorted(judges)]
    return [ClaimResult(claim, ours, _in_words_of_its_scale(verdict, found)) for claim, ours, verdict in told]


def _in_words_of_its_scale(verdict: str, found: Evidence) -> str:
    if found.at_papers_scale:
        return verdict
    return {REPRODUCED: HOLDS, CONTRADICTED: FAILS, TOO_FEW: UNDECIDED}.get(verdict, verdict)
