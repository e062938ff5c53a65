"""The result of a run: result.json, and the table on the console."""

import logging
from pathlib import Path
from typing import Any

from rich.table import Table

from ranger21.engine.boundary import Ending
from ranger21.engine.parts import Progress
from ranger21.engine.plan import Plan
from ranger21.system.project import command
from ranger21.system.terminal import console, duration
from ranger21.tracking.jsonl import rounded
from ranger21.tracking.splits import AVERAGED, HOLDOUT, OFFICIAL, VALIDATED

log = logging.getLogger("ranger21")
SHOWN = {HOLDOUT: "holdout", OFFICIAL: "official set"}
SHOWN |= {averaged: f"{SHOWN[split]}, average of weights" for split, averaged in AVERAGED.items()}


def summarize(ending: Ending, progress: Progress, plan: Plan, skipped: int, first_bad: int | None) -> dict[str, Any]:
    """Return the contents of result.json: accuracies in per cent, `time` in seconds of running."""
    result: dict[str, Any] = {
        "status": ending,
        "step": progress.step,
        "total_steps": plan.total_steps,
        "epoch": plan.course.epoch(progress.step),
        "images_seen": plan.course.seen(progress.step),
        "time": round(progress.seconds, 2),
        "final": {name: rounded(value) for name, value in progress.last.items()},
        "best": {name: rounded(value) for name, value in progress.best.items()},
    }
    if skipped:
        result["skipped_steps"] = skipped
    if ending == "diverged":
        result["diverged_at_step"] = first_bad if first_bad is not None else progress.step
        result["last_checkpoint_step"] = progress.saved_step
    return result


def show_result(result: dict[str, Any], directory: Path) -> None:
    """Print a table of the final and the best validation, and the files of the run."""
    if result["status"] == "diverged":
        log.warning(
            "Diverged: the loss was not finite at step %d. The last good checkpoint, of step %d, is kept.",
            result["diverged_at_step"],
            result["last_checkpoint_step"],
        )
    table = Table(title=f"{result['status']} after {duration(result['time'])}, {result['images_seen']:,} images")
    for column in ("validation", "top-1 %", "top-5 %", "loss", "epoch", "step"):
        table.add_column(column, justify="left" if column == "validation" else "right")
    for name in ("final", "best"):
        row = result[name]
        splits = [split for split in VALIDATED if f"{split}/acc1" in row]
        for split in splits:
            loss = row[f"{split}/loss"]
            numbers = [f"{row[f'{split}/{key}']:.2f}" for key in ("acc1", "acc5")]
            numbers += ["not finite" if loss is None else f"{loss:.4f}", f"{row['epoch']:.1f}", str(row["step"])]
            table.add_row(name if split == OFFICIAL and len(splits) == 1 else f"{name}, {SHOWN[split]}", *numbers)
    console.print(table)
    console.print("Written:")
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and "wandb" not in path.relative_to(directory).parts:
            console.print(f"  {path}", soft_wrap=True)
    if (directory / "wandb").is_dir():
        console.print(f"  {directory / 'wandb'}  (W&B)", soft_wrap=True)
    if result["status"] == "finished":
        console.print("Next:")
        for line in next_steps(directory):
            console.print(f"  {line}", soft_wrap=True)


def next_steps(directory: Path) -> list[str]:
    """Return what to type after a finished run, with comments: the commands to compare and evaluate it."""
    out = Path("outputs") / f"{directory.parent.name or 'runs'}-comparison"
    return [
        f"# compare all runs in this folder; then open {out / 'index.html'}",
        command("python", "scripts/compare.py", directory.parent, "--out", out),
        "# evaluate the best checkpoint",
        command("python", "scripts/evaluate.py", directory),
    ]
