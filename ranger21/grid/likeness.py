"""Whether the runs that are there already are those that a grid means, and of the code that would run the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ranger21.config import DataConfig
from ranger21.data.identity import Agreement, compare
from ranger21.grid.jobs import Job
from ranger21.records import code
from ranger21.records.directory import RunDirectory
from ranger21.records.manifest import Manifest, read_manifest, told_place
from ranger21.system.errors import UserError


def require_these(jobs: Sequence[Job]) -> list[str]:
    """Sentences on ended runs whose data cannot be compared with the command's.

    Raises a UserError for an ended run, which would be left alone, with another configuration or on other data.
    """
    doubts: dict[str, str] = {}
    data: dict[str, dict[str, Any] | str] = {}
    for job in jobs:
        if not job.ended:  # train.py looks at the others
            continue
        place = RunDirectory(job.directory)
        if place.config.exists():  # compare.py says what is missing
            place.require_same(job.config)
        recorded = _manifest(job).get("data")
        if not recorded:
            continue
        mark = repr(job.config.data)
        if mark not in data:
            data[mark] = _now(job.config.data, job.config.seed_of_data)
        now = data[mark]
        if isinstance(now, str):
            doubts[now] = f"Cannot check whether the runs that have ended used these images: {now}"
        elif (found := compare(recorded, now)).agreement is Agreement.DIFFERENT:
            raise UserError(
                f"{job.directory} has ended, on other images than this command's ({found.why}): {told_place(recorded)} "
                f"then, {told_place(now)} now. Choose another outputs=."
            )
    return list(doubts.values())


def other_code(jobs: Sequence[Job]) -> str | None:
    """The sentence that warns of runs that were made, or begun, by other code than this; None without any."""
    found: dict[str, int] = {}
    for job in jobs:
        manifest = _manifest(job)
        sessions = manifest.get("sessions")
        then = code.recorded_code(manifest, sessions[-1]) if sessions else None
        if told := code.change(then, code.own_code()):
            found[told] = found.get(told, 0) + 1
    if not found:
        return None
    counts = "; ".join(f"{count} ({told})" for told, count in sorted(found.items(), key=lambda pair: -pair[1])[:3])
    return f"some runs that are there were made by other code than this: {counts}. The comparison would mix both."


def _manifest(job: Job) -> Manifest:
    try:
        return read_manifest(RunDirectory(job.directory).manifest)
    except UserError:  # there is none, or compare.py says what is wrong with it
        return {}


def _now(config: DataConfig, seed: int) -> dict[str, Any] | str:
    """Return what the manifest of a run that began now would say of its data, or why that is unknown."""
    from ranger21.data.build import build_if_there  # torch takes seconds to import
    from ranger21.data.facts import data_facts

    try:
        return data_facts(config, build_if_there(config, seed))
    except UserError as error:
        return str(error)
