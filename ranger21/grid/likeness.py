"""Checks that existing runs have the settings, data and code of the grid that they are part of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ranger21.config import DataConfig
from ranger21.data.identity import DataMatch, compare
from ranger21.grid.jobs import PlannedRun
from ranger21.records import code
from ranger21.records.directory import RunDirectory
from ranger21.records.manifest import Manifest, read_manifest, told_place
from ranger21.system.errors import UserError


def require_same_runs(jobs: Sequence[PlannedRun]) -> list[str]:
    """Raise a UserError if a run that has ended, and will not run again, has a different configuration or data.

    Returns a sentence for each dataset that cannot be compared.
    """
    doubts: dict[str, str] = {}
    data: dict[str, dict[str, Any] | str] = {}
    for job in jobs:
        if not job.ended:  # train.py checks the others
            continue
        place = RunDirectory(job.directory)
        if place.config.exists():  # compare.py reports missing files
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
        elif (found := compare(recorded, now)).match is DataMatch.DIFFERENT:
            raise UserError(
                f"{job.directory} has ended, but used different images from this command's ({found.why}): "
                f"{told_place(recorded)} then, {told_place(now)} now. Choose another outputs=."
            )
    return list(doubts.values())


def missing_data(jobs: Iterable[PlannedRun]) -> str | None:
    """Return what is wrong with the data of the runs that have not ended, by its names only; None if it is there."""
    for config in {repr(job.config.data): job.config.data for job in jobs if not job.ended}.values():
        try:
            config.require()
        except UserError as error:
            return str(error)
    return None


def other_classes(jobs: Iterable[PlannedRun]) -> list[str]:
    """Return a warning for each dataset whose classes are not those of the dataset that the runs are named after."""
    found = [config.other_classes() for config in {repr(job.config.data): job.config.data for job in jobs}.values()]
    return [f"{clause}: no result of these runs is one on ImageNet." for clause in dict.fromkeys(found) if clause]


def other_code(jobs: Sequence[PlannedRun]) -> str | None:
    """Return a warning about runs that different code produced or started; None if there are none."""
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
    return f"some existing runs were made by different code: {counts}. The comparison would mix both."


def _manifest(job: PlannedRun) -> Manifest:
    try:
        return read_manifest(RunDirectory(job.directory).manifest)
    except UserError:  # missing or damaged; compare.py reports it
        return {}


def _now(config: DataConfig, seed: int) -> dict[str, Any] | str:
    """Return the data's entry in the manifest of a run started now, or why it is unknown."""
    from ranger21.data.build import build_if_there  # torch takes seconds to import
    from ranger21.data.facts import data_facts

    try:
        return data_facts(config, build_if_there(config, seed))
    except UserError as error:
        return str(error)
