"""Write a winner as a configuration of optimizer=composed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from ranger21.config.compose import compose_config
from ranger21.meta.record import Composed, Searched
from ranger21.system.files import write_atomically
from ranger21.system.project import command
from ranger21.tuning.space import PARTS

HEAD = """# @package _global_
# Composed by scripts/compose.py for experiment={experiment}: the winner of {name}, a search with the budget of
# {budget} full runs, with {top1:.2f} % on the holdout. It has not been chosen for any other task.
#
#   {line}
"""


def best_search(composed: Composed) -> Searched | None:
    """Return the search whose winner is the best on the holdout; random search only if there is no other."""
    won = [one for one in composed.searches if one.winner]
    won = [one for one in won if one.search != "random"] or won
    return max(won, key=lambda one: (one.winner and one.winner.objective) or 0.0, default=None)


def write_config(composed: Composed, out: Path) -> Path | None:
    """Write `optimizer/composed.yaml` in `out` and return its path; None if no search has a winner."""
    one = best_search(composed)
    if one is None or one.winner is None:
        return None
    ours = [word for word in composed.arguments if word.lstrip("+~").startswith(PARTS)]
    others = [word for word in composed.arguments if word not in ours]
    config = compose_config([f"experiment={composed.experiment}", "optimizer=chain", *ours, *one.winner.overrides])
    content = {
        "defaults": [{"override /schedule": config.schedule.name}, {"override /lr_scaling": config.lr_scaling.name}],
        "optimizer": asdict(config.optimizer),
        "lr_scaling": asdict(config.lr_scaling),
        "schedule": asdict(config.schedule),  # with its name, so that an experiment with another schedule is refused
    }
    words = ("--config-dir", str(out), f"experiment={composed.experiment}", *others, "optimizer=composed")
    head = HEAD.format(
        experiment=composed.experiment,
        name=one.name,
        budget=composed.budget,
        top1=one.winner.objective or 0.0,
        line=command("python", "train.py", *words),
    )
    path = out / "optimizer" / "composed.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, head + yaml.safe_dump(content, sort_keys=False, width=110))
    return path
