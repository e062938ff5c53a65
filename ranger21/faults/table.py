"""The table of a campaign's results and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from ranger21.faults.listing import BY_ITSELF, KINDS
from ranger21.faults.setups import Leg
from ranger21.faults.verdict import Judged, Likeness, spread
from ranger21.report.tables.text import table_lines
from ranger21.system.files import write_atomically

COLUMNS = ("runs on", "fault", "injected", "recovered", "steps repeated, median / max", "weights", "metrics.jsonl")


@dataclass(frozen=True)
class CampaignResult:
    """The results of a campaign."""

    legs: tuple[Leg, ...]
    judged: list[Judged]
    likenesses: dict[tuple[str, int], Likeness]
    skipped: dict[str, str] = field(default_factory=dict)  # kinds impossible on this machine, with the reason

    def good(self) -> bool:
        """Return whether every fault was recovered and every run agrees with the undisturbed one."""
        return not any(fault.mistake for fault in self.judged) and all(
            self.likenesses[leg.name, run].same(leg.tolerance) for leg in self.legs for run in self.runs(leg)
        )

    def runs(self, leg: Leg) -> list[int]:
        return [run for name, run in self.likenesses if name == leg.name]

    def rows(self) -> Iterator[tuple[str, ...]]:
        for leg in self.legs:
            own = [fault for fault in self.judged if fault.leg == leg.name]
            for kind in (*(kind.name for kind in KINDS), BY_ITSELF):
                if some := [fault for fault in own if fault.kind == kind]:
                    yield self._row(leg, kind, some)
        yield self._row(None, "all", self.judged)
        for kind, reason in self.skipped.items():
            yield ("all", kind, "skipped", reason, "", "", "")

    def _row(self, leg: Leg | None, kind: str, faults: list[Judged]) -> tuple[str, ...]:
        tolerances = {leg.name: leg.tolerance for leg in self.legs}
        likenesses = [(self.likenesses[fault.leg, fault.run], tolerances[fault.leg]) for fault in faults]
        recovered = sum(not fault.mistake and one.finished for fault, (one, _) in zip(faults, likenesses, strict=True))
        weights = sum(one.weights <= most and (one.state or most > 0) for one, most in likenesses)
        metrics = sum(one.metrics for one, _ in likenesses)
        words = "as undisturbed" if not leg else "identical" if not leg.tolerance else f"within {leg.tolerance:g}"
        return (
            leg.name if leg else "all", kind, str(len(faults)), str(recovered), spread([f.repeated for f in faults]),
            f"{weights} of {len(faults)} {words}", f"{metrics} of {len(faults)}",
        )  # fmt: skip

    def remarks(self) -> list[str]:
        """Return sentences on what went wrong, and on the largest difference in legs with a tolerance."""
        found = [f"{f.leg}, run {f.run}, step {f.step}: {f.kind}: **{f.mistake}**" for f in self.judged if f.mistake]
        for leg in self.legs:
            for run in self.runs(leg):
                one = self.likenesses[leg.name, run]
                if not one.same(leg.tolerance):
                    found.append(f"{leg.name}, run {run}: **differs from the undisturbed run**: {asdict(one)}")
            if leg.tolerance and (runs := self.runs(leg)):
                largest = max(self.likenesses[leg.name, run].weights for run in runs)
                found.append(
                    f"{leg.name}: the largest difference of a weight from the undisturbed run's is {largest:.2g}; "
                    f"the tolerance was set beforehand to {leg.tolerance:g}."
                )
        return found

    def terminal(self) -> Table:
        table = Table(title="Injected faults and their results")
        for number, column in enumerate(COLUMNS):
            table.add_column(column, justify="left" if number < 2 else "right")
        for row in self.rows():
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        return "\n".join([*table_lines(COLUMNS, self.rows()), "", *(f"- {remark}" for remark in self.remarks()), ""])

    def write(self, folder: Path, facts: dict[str, Any]) -> list[Path]:
        """Write table.md and faults.json to a folder and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        head = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        runs = [{"leg": leg, "run": run} | asdict(one) for (leg, run), one in self.likenesses.items()]
        content = facts | {
            "good": self.good(),
            "skipped": self.skipped,
            "runs": runs,
            "faults": [asdict(fault) for fault in self.judged],
        }
        paths = folder / "table.md", folder / "faults.json"
        write_atomically(paths[0], f"# Faults\n\n{head}\n\n{self.markdown()}")
        write_atomically(paths[1], json.dumps(content, indent=1).replace("Infinity", '"infinite"') + "\n")
        return list(paths)
