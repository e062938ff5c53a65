#!/usr/bin/env python
"""Compare runs: tables, tests, the paper's claims and figures, and a page to explore them."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _installed

from ranger21.config.arguments import Parser, as_folder, as_path, as_positive
from ranger21.config.ending import ending_well
from ranger21.system.wording import printable

if TYPE_CHECKING:
    from ranger21.report.groups.comparisons import Comparison

HELP = """\
Compare runs: is one optimizer better than another, by how much, and how sure are we?

Runs that differ in nothing but their seed form a group, named by the settings that
set it apart: the optimizer, or say stable_decay=global. Groups are compared with each
other if all settings of model, data and trainer agree; others are kept apart. A run that
diverged is a result: it counts as chance. Running ones are counted, marked, and left out."""

EXAMPLES = """\
examples:
  every run of one experiment
    python scripts/compare.py outputs/optimizers

  some runs, chosen by a glob (quote it, or let the shell expand it)
    python scripts/compare.py "outputs/optimizers/*-adamw-s*" "outputs/optimizers/*-ranger21-s*"

  two runs, while they are still running
    python scripts/compare.py outputs/demo/resnet50-ranger21-s0 outputs/demo/resnet50-adamw-s0

  batch sizes, which otherwise are different recipes
    python scripts/compare.py outputs/batches --across data.batch_size

  winners of a tuning beside the untuned defaults, and what their trials tried
    python scripts/compare.py outputs/fair_deep --tuned outputs/tuning/tuned.json

  what each ingredient of Ranger21 contributes, over the runs of experiment=ablation
    python scripts/compare.py --ablation outputs/ablation

  how many seeds it takes to find 0.3 points, by the spread of the runs that are there
    python scripts/compare.py outputs/paper --power 0.3

  from W&B's files, where the run directories are not at hand
    python scripts/compare.py "wandb/offline-run-*/*.wandb"

written to --out:
  index.html            the page to open: every curve to explore, tables, links; works offline
  claims.md             the paper's claims C1 to C8 beside what these runs say
  table.md, table.csv   n, top-1, top-5, loss, time and images/s, mean ± standard deviation, 95 % interval
  pairs.csv             each pair of groups: the difference, its interval, the tests after Holm's correction
                        (better, worse, equivalent within the protocol's margin, or cannot tell)
  targets.md, .csv      time to target, if the runs' protocol has targets: how many runs reached it, and when
  workloads.md, .csv    if comparisons share optimizers: one verdict over all of them, scores, profiles, figures;
  workloads_pairs.csv   each pair of optimizers
  tuning.md             with --tuned: spaces, trials, default against best of k, sensitivity, what diverged
  power.md              with --power: how many seeds find such a gap, for each pair of groups
  COMPARISON/           the paper's figures 1 to 4 from these runs, and more, as PNG and SVG"""


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUNS",
        help="run directories, parents of them, runs.jsonl.gz, quoted globs, or .wandb files",
    )
    parser.add_argument(
        "--out",
        type=as_folder,
        default=Path("outputs/compare"),
        metavar="DIR",
        help="where to write (default: %(default)s)",
    )
    parser.add_argument(
        "--across",
        action="append",
        default=[],
        metavar="KEY",
        help="a setting of model, data or trainer that may differ within a comparison; can be given again",
    )
    parser.add_argument(
        "--ablation", action="store_true", help="write also ablation.md: what each ingredient contributes"
    )
    parser.add_argument(
        "--tuned",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="write also tuning.md: what the trials of this tuned.json tried and chose; can be given again",
    )
    parser.add_argument(
        "--power",
        type=as_positive,
        metavar="POINTS",
        help="write also power.md: how many seeds find such a gap in top-1, by the spread seen in the runs",
    )
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever a directory's name holds
    compare(options)


def compare(options: argparse.Namespace) -> None:
    """Read the runs, print the tables and what they say, write everything into the folder, and print where."""
    # What takes long to import is imported where it is needed: --help and mistakes are told at once.
    from ranger21.report.write import examine, write_report
    from ranger21.tuning.page import NAME as TUNING
    from ranger21.tuning.record import read_tuned

    records = [record for path in options.tuned for record in read_tuned(path)]
    report, out = examine(options.runs, options.across), options.out

    from rich.console import Console

    from ranger21.report.tables import table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    for comparison in report.comparisons:
        console.print(table.terminal(comparison.rows, comparison.title))
        for sentence in (*table.notes(comparison.rows), *table.sentences(comparison.rows)):
            console.print(printable(f"- {sentence}"), markup=False, highlight=False)
    for sentence in report.overall.sentences if report.overall else ():
        console.print(printable(f"- {sentence}"), markup=False, highlight=False)
    for remark in report.remarks:
        console.print(printable(remark), markup=False, highlight=False)
    written = write_report(report, out, [TUNING] if records else [])
    if options.ablation:
        from ranger21.report.ablation import write_ablation

        made = write_ablation(report.comparisons, out)
        if not made:
            print("\nno ablation.md: no two groups of Ranger21 differ in one ingredient (run experiment=ablation)")
        written += made
    if records:
        from ranger21.tuning.page import write_tuning

        written += write_tuning(records, [run for one in report.comparisons for run in one.runs], out)
    if options.power is not None:
        written += show_power(report.comparisons, options.power, out)
    print()
    for path in written:
        print(printable(f"wrote {path}"))


def show_power(comparisons: list[Comparison], gap: float, out: Path) -> list[Path]:
    """Print how many seeds find a gap in each comparison; write power.md, and return its path if there is anything."""
    from ranger21.report.tables.power_table import plans, summary, write_power

    print()
    for comparison in comparisons:
        print(printable(f"- {comparison.title}: {summary(plans(comparison, gap), gap)}"))
    made = write_power(comparisons, gap, out)
    if made is None:
        print("no power.md: no two groups have finished runs")
    return [made] if made else []


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
