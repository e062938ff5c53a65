"""One verdict for all workloads together: which optimizer is better over several networks and data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ranger21.report.groups.comparisons import Comparison
from ranger21.report.statistics.interquartile import estimate_interquartile
from ranger21.report.statistics.pairs import Estimate
from ranger21.report.statistics.superiority import Superiority, superiority
from ranger21.report.statistics.ttests import ENOUGH_SEEDS, holm
from ranger21.report.statistics.verdicts import Verdict, show_p
from ranger21.report.workloads.contestants import Meeting, meet
from ranger21.report.workloads.profiles import Profile, profiles
from ranger21.report.workloads.scores import Scores, scores
from ranger21.system.wording import first_few

LEVEL = 0.05  # the chance of any false "better" or "worse" among all pairs
MANY_PAIRS = 15


@dataclass(frozen=True)
class OverallPair:
    """Two contestants on all workloads, and what can be said of the first; no p and no verdict with too few seeds."""

    a: str
    b: str
    found: Superiority
    few: tuple[str, ...]  # workloads on which one of them has fewer than ENOUGH_SEEDS seeds
    p_adjusted: float | None  # Holm's, over all pairs with enough seeds
    family: int
    titles: tuple[str, ...]
    against: tuple[float, float] | None = None  # both means in per cent, where their order is not that of the ranks
    lost: bool = False  # whether a run of either failed

    @property
    def verdict(self) -> Verdict:
        """On `a`. None in favour of one whose mean is not higher, as it lost more runs."""
        if self.p_adjusted is None or self.p_adjusted >= LEVEL or (self.against and self.lost):
            return "cannot tell"
        return "better" if self.found.probability > 0.5 else "worse"

    @property
    def sentence(self) -> str:
        """What to tell a reader."""
        where = f"over these {len(self.titles)} workloads"
        chance = f"a run of the first is the better one with a probability of {self.found.probability:.2f}"
        interval = f"95 % interval {self.found.low:.2f} to {self.found.high:.2f}"
        if self.p_adjusted is None:
            doubt = f"Whether {self.a} is better than {self.b} {where} we cannot tell with too few seeds"
            return f"{doubt} (at least {ENOUGH_SEEDS} are needed, also on {first_few(self.few)}): {chance}."
        holm_of = f" after Holm over {self.family} pairs" if self.family > 1 else ""
        apart = self.found.low > 0.5 or self.found.high < 0.5
        interval += " for this pair alone" if apart and self.p_adjusted >= LEVEL else ""
        how = f"{interval}, {show_p(self.p_adjusted)}{holm_of}"
        if self.verdict == "cannot tell":
            return f"Whether {self.a} is better than {self.b} {where} we cannot tell: {chance} ({how}){self._turned}."
        return f"{self.a} is {self.verdict} than {self.b} {where}: {chance} ({how}){self._turned}.{self._against}"

    @property
    def _turned(self) -> str:
        """The clause on means that say something else than the ranks."""
        if not self.against or (self.verdict == "cannot tell" and not self.lost):
            return ""
        means = "{:.2f} % against {:.2f} %".format(*self.against)
        return f", but{' with diverged runs at chance' if self.lost else ''} the means say otherwise ({means})"

    @property
    def _against(self) -> str:
        """On which workloads it is the other way round."""
        sign = 1 if self.verdict == "better" else -1
        against = [
            f"{title} ({each:.2f})"
            for title, each in zip(self.titles, self.found.each, strict=True)
            if sign * (each - 0.5) < 0
        ]
        return f" Not so on {first_few(against)}." if against else ""


@dataclass(frozen=True)
class Overall:
    """Several workloads: the contestants' scores on each, over all of them, and of each pair who is better."""

    meeting: Meeting

    @cached_property
    def scores(self) -> dict[str, list[Scores | None]]:
        """Of each contestant on each workload; None where it is missing."""
        return {
            name: [
                scores(w.groups[name], w.comparison.runs) if name in w.groups else None for w in self.meeting.workloads
            ]
            for name in self.meeting.contestants
        }

    @cached_property
    def means(self) -> dict[str, Estimate]:
        """The interquartile mean of the scores of each contestant that has some on every workload."""
        found = {}
        for name in self.meeting.everywhere:
            strata = [each.normalised for each in self.scores[name] if each]
            if mean := estimate_interquartile([values for values in strata if values]) if all(strata) else None:
                found[name] = mean
        return found

    @cached_property
    def order(self) -> list[str]:
        """The contestants, the highest interquartile mean first, those without one last."""
        means = self.means
        return sorted(
            self.meeting.contestants, key=lambda name: (-means[name].mean if name in means else math.inf, name)
        )

    @cached_property
    def pairs(self) -> list[OverallPair]:
        """Every pair of contestants that have a run on all workloads."""
        return judge({name: self.scores[name] for name in self.order}, [w.title for w in self.meeting.workloads])

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """Of time to target; empty without targets."""
        return profiles(self.meeting)

    @property
    def sentences(self) -> list[str]:
        """The verdict on each pair; of many those that cannot be told apart are named only beside the first."""
        told, unsaid = [], 0
        for pair in self.pairs:
            if len(self.pairs) > MANY_PAIRS and pair.verdict == "cannot tell" and pair.a != self.pairs[0].a:
                unsaid += 1
            else:
                told.append(pair.sentence)
        return told + (
            [f"The other {unsaid} pairs cannot be told apart either (workloads_pairs.csv)."] if unsaid else []
        )


def over_workloads(comparisons: Sequence[Comparison]) -> Overall | None:
    """What the comparisons say together; None where no two of them share two optimizers."""
    meeting = meet(comparisons)
    return Overall(meeting) if meeting.workloads else None


def judge(found: Mapping[str, Sequence[Scores | None]], titles: Sequence[str]) -> list[OverallPair]:
    """Every pair of contestants that have a value on each of the workloads of these titles."""
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
    """The means over workloads of two, if the one that ranks higher has not the higher mean."""
    a, b = (math.fsum(two[side].counted for two in both) / len(both) for side in (0, 1))
    return (a, b) if (a - b) * (over.probability - 0.5) <= 0 and over.probability != 0.5 else None
