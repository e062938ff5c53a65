#!/usr/bin/env python
"""Compare runs: a table and figures with means over seeds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranger21.errors import UserError

HELP = """\
Compare runs: group them over seeds, and write a table and figures.

Runs that differ in nothing but their seed form a group, named by the settings that
set it apart: the optimizer, or say stable_decay=global. Figures are over finished
runs; running and diverged ones are counted, marked, and left out of the means."""

EXAMPLES = """\
examples:
  every run of one experiment
    python scripts/compare.py outputs/optimizers

  some runs, chosen by a glob (quote it, or let the shell expand it)
    python scripts/compare.py "outputs/optimizers/*-adamw-s*" "outputs/optimizers/*-ranger21-s*"

  two runs, while they are still running
    python scripts/compare.py outputs/demo/resnet50-ranger21-s0 outputs/demo/resnet50-adamw-s0

  two experiments, with the results kept elsewhere
    python scripts/compare.py outputs/optimizers outputs/ablation --out docs/results

written to --out:
  table.md, table.csv   n, top-1, loss, time and images/s, mean ± standard deviation
  loss.png              training and validation loss against epochs
  accuracy.png          validation top-1 against epochs
  curves.png            both side by side"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 after a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog="python scripts/compare.py",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run directories, parents of them, or quoted globs")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/compare"), metavar="DIR", help="where to write (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        compare(options.runs, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(runs: list[str], out: Path) -> None:
    """Read the runs, print the table, write everything into `out`, and print the paths written."""
    # What takes long to import is imported where it is needed: --help and mistakes are told at once.
    from ranger21.report.groups import group_runs
    from ranger21.report.runs import find_runs

    groups = group_runs(find_runs(runs))

    from rich.console import Console

    from ranger21.report import table
    from ranger21.report.summary import summarise

    rows = summarise(groups)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table.terminal(rows))
    for note in table.notes(rows):
        console.print(note, markup=False, highlight=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "table.md").write_text(table.markdown(rows), encoding="utf-8")
        table.write_csv(rows, out / "table.csv")

        from ranger21.report.figures import write_figures

        written = [out / "table.md", out / "table.csv", *write_figures(groups, out)]
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
    print()
    for path in written:
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
