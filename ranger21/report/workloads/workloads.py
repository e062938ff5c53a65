"""Compare optimizers over several workloads (networks and datasets) together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.statistics.interquartile import estimate_interquartile
from ranger21.report.statistics.pairs import Estimate
from ranger21.report.statistics.superiority import Superiority, superiority
from ranger21.report.statistics.ttests import ENOUGH_SEEDS, holm
from ranger21.report.statistics.verdicts import Verdict, after_holm
from ranger21.report.workloads.contestants import Meeting, meet
from ranger21.report.workloads.profiles import PerformanceProfile, profiles
from ranger21.report.workloads.scores import Scores, scores
from ranger21.system.wording import counted, first_few

LEVEL = 0.05  # the probability of any false "better" or "worse" among all pairs
MANY_PAIRS = 15


@dataclass(frozen=True)
class OverallPair:
    """Two contestants compared over all workloads.

    Attributes:
        few: the workloads on which one of them has fewer than ENOUGH_SEEDS seeds.
        p_adjusted: p after Holm's correction over all pairs with enough seeds; None if there are too few seeds.
        family: the number of pairs that the correction covers.
        titles: the titles of all workloads.
        against: both means in per cent, if their order contradicts that of the ranks.
        lost: whether a run of either failed.
    """

    a: str
    b: str
    found: Superiority
    few: tuple[str, ...]
    p_adjusted: float | None
    family: int
    titles: tuple[str, ...]
    against: tuple[float, float] | None = None
    lost: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict on `a`. A contestant whose mean is lower because it lost more runs is never "better"."""
        if self.p_adjusted is None or self.p_adjusted >= LEVEL or (self.against and self.lost):
            return "cannot tell"
        return "better" if self.found.probability > 0.5 else "worse"

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        where = f"over these {len(self.titles)} workloads"
        chance = f"the probability that a run of {self.a} is better is {self.found.probability:.2f}"
        interval = f"95 % interval {self.found.low:.2f} to {self.found.high:.2f}"
        if self.p_adjusted is None:
            doubt = f"Too few seeds to tell whether {self.a} is better than {self.b} {where}"
            return f"{doubt} (at least {ENOUGH_SEEDS} needed on {first_few(self.few)}): {chance}."
        apart = self.found.low > 0.5 or self.found.high < 0.5
        interval += " for this pair alone" if apart and self.p_adjusted >= LEVEL else ""
        how = f"{interval}, {after_holm(self.p_adjusted, self.family)}"
        if self.verdict == "cannot tell":
            return f"Cannot tell whether {self.a} is better than {self.b} {where}: {chance} ({how}){self._turned}."
        return f"{self.a} is {self.verdict} than {self.b} {where}: {chance} ({how}){self._turned}.{self._against}"

    @property
    def _turned(self) -> str:
        """A clause if the means contradict the ranks."""
        if not self.against or (self.verdict == "cannot tell" and not self.lost):
            return ""
        means = "{:.2f} % against {:.2f} %".format(*self.against)
        return f", but the means{' with diverged runs at chance' if self.lost else ''} say otherwise ({means})"

    @property
    def _against(self) -> str:
        """A sentence on the workloads where the opposite holds."""
        sign = 1 if self.verdict == "better" else -1
        against = [
            f"{title} (probability {each:.2f})"
            for title, each in zip(self.titles, self.found.each, strict=True)
            if sign * (each - 0.5) < 0
        ]
        return f" The opposite holds on {first_few(against)}." if against else ""


@dataclass(frozen=True)
class Overall:
    """The comparison over several workloads: scores on each workload and over all, and verdicts on pairs."""

    meeting: Meeting

    @cached_property
    def scores(self) -> dict[str, list[Scores | None]]:
        """The results of each contestant on each workload; None where it was not run."""
        return {
            name: [
                scores(w.groups[name], w.comparison.runs) if name in w.groups else None for w in self.meeting.workloads
            ]
            for name in self.meeting.contestants
        }

    @cached_property
    def means(self) -> dict[str, Estimate]:
        """The interquartile mean of each contestant that has scores on every workload."""
        found = {}
        for name in self.meeting.everywhere:
            strata = [each.normalised for each in self.scores[name] if each]
            if mean := estimate_interquartile([values for values in strata if values]) if all(strata) else None:
                found[name] = mean
        return found

    @cached_property
    def order(self) -> list[str]:
        """The contestants, highest interquartile mean first; those without one come last."""
        means = self.means
        return sorted(
            self.meeting.contestants, key=lambda name: (-means[name].mean if name in means else math.inf, name)
        )

    @cached_property
    def pairs(self) -> list[OverallPair]:
        """Every pair of contestants that have an ended run on all workloads."""
        return judge({name: self.scores[name] for name in self.order}, [w.title for w in self.meeting.workloads])

    @cached_property
    def profiles(self) -> dict[str, PerformanceProfile]:
        """The performance profiles of time to target; empty without targets."""
        return profiles(self.meeting)

    @property
    def sentences(self) -> list[str]:
        """The verdict on each pair; of many pairs, those without a verdict are listed for the first optimizer only."""
        told, unsaid = [], 0
        for pair in self.pairs:
            if len(self.pairs) > MANY_PAIRS and pair.verdict == "cannot tell" and pair.a != self.pairs[0].a:
                unsaid += 1
            else:
                told.append(pair.sentence)
        return told + (
            [f"No verdict on {counted(unsaid, 'further pair')} either (see workloads_pairs.csv)."] if unsaid else []
        )


def over_workloads(comparisons: Sequence[GroupComparison]) -> Overall | None:
    """Compare optimizers over all comparisons together; None if no two comparisons share two optimizers."""
    meeting = meet(comparisons)
    return Overall(meeting) if meeting.workloads else None


def judge(found: Mapping[str, Sequence[Scores | None]], titles: Sequence[str]) -> list[OverallPair]:
    """Test every pair of contestants that have a result on each of the workloads."""
    complete = {name: [each for each in row if each and each.n] for name, row in found.items()}
    names = [name for name, row in complete.items() if len(row) == len(titles)]
    judged = []
    for a, b in combinations(names, 2):
        both = list(zip(complete[a], complete[b], strict=True))
        few = tuple(title for title, two in zip(titles, both, strict=True) if min(s.n for s in two) < ENOUGH_SEEDS)
        over = superiority([(x.ranked, y.ranked) for x, y in both])
        lost = any(found.failed for two in both for found in two)
        judged.append((a, b, over, few, _against(over, both), lost))
    adjusted = iter(holm([found.p for _, _, found, few, *_ in judged if not few]))
    family = sum(not few for _, _, _, few, *_ in judged)
    return [
        OverallPair(a, b, found, few, None if few else next(adjusted), family, tuple(titles), against, lost)
        for a, b, found, few, against, lost in judged
    ]


def _against(over: Superiority, both: Sequence[tuple[Scores, Scores]]) -> tuple[float, float] | None:
    """Return both means over the workloads if the contestant that ranks higher does not have the higher mean."""
    a, b = (math.fsum(two[side].counted for two in both) / len(both) for side in (0, 1))
    return (a, b) if (a - b) * (over.probability - 0.5) <= 0 and over.probability != 0.5 else None
