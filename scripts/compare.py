#!/usr/bin/env python
"""Compare runs: tables, tests, the paper's claims and figures, and a page to explore them."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _installed

from ranger21.config.arguments import Parser, as_folder, as_input, as_positive, as_seconds
from ranger21.config.ending import ending_well
from ranger21.system.wording import counted, first_few, printable

if TYPE_CHECKING:
    from ranger21.meta.record import Composed
    from ranger21.report.groups.comparisons import GroupComparison
    from ranger21.report.write import Report
    from ranger21.tuning.record import Tuned

HELP = """\
Compare runs: is one optimizer better than another, by how much, and how sure are we?

Runs that differ only in their seed form a group, labelled by the settings that distinguish
it, such as the optimizer or stable_decay=global. Groups are compared with each other if all
settings of model, data and trainer are the same; otherwise they are kept apart. A run that
diverged is a result and counts as chance. Unfinished runs are marked and left out of means."""

EXAMPLES = """\
examples:
  every run of one experiment
    python scripts/compare.py outputs/optimizers

  runs selected by globs (quoted, or expanded by the shell)
    python scripts/compare.py "outputs/optimizers/*-adamw-s*" "outputs/optimizers/*-ranger21-s*"

  runs that are still running: write the page again every minute, until they have ended
    python scripts/compare.py outputs/demo --watch 60

  different batch sizes, which would otherwise be kept apart
    python scripts/compare.py outputs/batches --across data.batch_size

  winners of tuning next to the untuned defaults, with a report on the trials
    python scripts/compare.py outputs/fair_deep --tuned outputs/tuning/tuned.json

  what each ingredient of Ranger21 contributes, over the runs of experiment=ablation
    python scripts/compare.py --ablation outputs/ablation

  how many seeds are needed to detect a gap of 0.3 points, given the spread of these runs
    python scripts/compare.py outputs/paper --power 0.3

  from offline W&B files, if the run directories are not available
    python scripts/compare.py "wandb/offline-run-*/*.wandb"

written to --out:
  index.html            the page to open: interactive curves, tables and links; works offline
  claims.md             the paper's claims C1 to C8, and what these runs show
  table.md, table.csv   n, top-1, top-5, loss, time and images/s, mean ± standard deviation, 95 % interval
  pairs.csv             each pair of groups: difference, interval, tests after Holm's correction, and verdict
                        (better, worse, equivalent within the protocol's margin, or cannot tell)
  targets.md, .csv      time to target, if the runs' protocol has targets: how many runs reached them, and when
  workloads.md, .csv    if comparisons share optimizers: verdicts over all comparisons, scores, profiles, figures
  workloads_pairs.csv   each pair of optimizers over all comparisons
  ablation.md           with --ablation: what each ingredient contributes
  tuning.md             with --tuned: search spaces, trials, defaults against best of k, diverged trials
  compose.md            with --composed: the searches of scripts/compose.py, their winners, what helps with what
  power.md              with --power: how many seeds detect the gap, for each pair of groups
  COMPARISON/           the paper's figures 1 to 4 from these runs, and further figures, as PNG and SVG"""


def main() -> None:
    """Run the command."""
    options = parse()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # directory names can contain any bytes
    if options.watch:
        watch(options)
    compare(options)


def parse() -> argparse.Namespace:
    """Parse the command line."""
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
        help="allow this setting of model, data or trainer to differ within a comparison; can be repeated",
    )
    parser.add_argument(
        "--ablation", action="store_true", help="also write ablation.md: what each ingredient contributes"
    )
    parser.add_argument(
        "--tuned",
        action="append",
        default=[],
        type=as_input,
        metavar="FILE",
        help="also write tuning.md, on the trials and winners in this tuned.json; can be repeated",
    )
    parser.add_argument(
        "--composed",
        type=as_input,
        metavar="FILE",
        help="also write compose.md, on the searches in this composed.json and their winners",
    )
    parser.add_argument(
        "--power",
        type=as_positive,
        metavar="POINTS",
        help="also write power.md: how many seeds detect this gap in top-1, given the spread of the runs",
    )
    parser.add_argument(
        "--watch",
        type=as_seconds,
        metavar="SECONDS",
        help="write the comparison again at this interval until all runs have ended; an open page reloads itself",
    )
    return parser.parse_args()


def watch(options: argparse.Namespace) -> None:
    """Write the comparison at each interval, with a page that reloads itself, until every run has ended."""
    from ranger21.report.runs.run import RUNNING

    records = tuned_records(options)
    while True:
        report = examined(options)
        runs = [run for comparison in report.comparisons for run in comparison.runs]
        left = sum(run.status == RUNNING for run in runs)
        if not left:
            return
        page, *_ = write(report, records, options, options.watch)
        rest = f"{left} running or stopped; {page} is up to date (Ctrl-C ends this)"
        print(printable(f"{time.strftime('%H:%M:%S')}  {counted(len(runs), 'run')}, {rest}"), flush=True)
        time.sleep(options.watch)


def compare(options: argparse.Namespace) -> None:
    """Compare the runs, print the tables with notes and verdicts, write the report, and print the paths."""
    # Slow imports come late, so that --help and wrong arguments are answered at once.
    from ranger21.report.write import own_files

    records, report = tuned_records(options), examined(options)
    before = own_files(options.out)

    from ranger21.report.tables import table
    from ranger21.report.tables.results import terminal
    from ranger21.system.terminal import wide_console

    console = wide_console(200)
    for comparison in report.comparisons:
        console.print(terminal(comparison.rows, comparison.title, console))
        for sentence in (*table.notes(comparison.rows), *table.sentences(comparison.rows)):
            console.print(printable(f"- {sentence}"), markup=False, highlight=False)
    for sentence in report.overall.sentences if report.overall else ():
        console.print(printable(f"- {sentence}"), markup=False, highlight=False)
    for sentence in searched(report, options):
        console.print(printable(f"- {sentence}"), markup=False, highlight=False)
    for remark in report.remarks:
        console.print(printable(remark), markup=False, highlight=False)
    written = write(report, records, options, reload=None)
    if options.power is not None:
        written += show_power(report.comparisons, options.power, options.out)
    print()
    for path in written:
        print(printable(f"wrote {path}"))
    after = own_files(options.out)
    if old := sorted(name for name, files in before.items() if after.get(name) == files):
        said = f"{options.out} also holds files of another comparison: {first_few(old, 8)}."
        print(printable(f"\n{said} Delete them, or choose another --out."))


def examined(options: argparse.Namespace) -> Report:
    """Read and compare the runs; with --composed, the winners are labelled by their searches."""
    from ranger21.report.write import examine

    composed = composed_record(options)
    return examine(options.runs, options.across, composed.labels if composed else None)


def searched(report: Report, options: argparse.Namespace) -> list[str]:
    """Return the verdicts over searches, with --composed."""
    from ranger21.meta.standings import standings

    runs = [run for one in report.comparisons for run in one.runs]
    found = standings(composed, runs) if (composed := composed_record(options)) else []
    return [f"{one.experiment}, over searches: {sentence}" for one in found for sentence in one.sentences]


def composed_record(options: argparse.Namespace) -> Composed | None:
    """Return the content of the file given by --composed."""
    from ranger21.meta.record import read_composed

    return read_composed(options.composed) if options.composed else None


def tuned_records(options: argparse.Namespace) -> list[Tuned]:
    """Return the tunings of all files given by --tuned."""
    from ranger21.tuning.record import read_tuned

    return [record for path in options.tuned for record in read_tuned(path)]


def write(report: Report, records: list[Tuned], options: argparse.Namespace, reload: float | None) -> list[Path]:
    """Write the report, and the pages that --ablation, --tuned and --composed add. Return the paths, the page first."""
    from ranger21.report.write import write_report
    from ranger21.tuning.page import NAME as TUNING

    runs = [run for one in report.comparisons for run in one.runs]
    beside, sections, written = [TUNING] if records else [], [], list[Path]()
    if composed := composed_record(options):
        from ranger21.meta.page import write_compose

        written, section = write_compose(composed, runs, options.out)
        beside, sections = [*beside, written[0].name], [section]
    written = [*write_report(report, options.out, beside, reload, sections), *written]
    if options.ablation:
        from ranger21.report.ablation import write_ablation

        made = write_ablation(report.comparisons, options.out)
        if not made:
            print("\nno ablation.md: no two groups of Ranger21 differ in one ingredient only (see experiment=ablation)")
        written += made
    if records:
        from ranger21.tuning.page import write_tuning

        written += write_tuning(records, runs, options.out)
    return written


def show_power(comparisons: list[GroupComparison], gap: float, out: Path) -> list[Path]:
    """Print how many seeds detect a gap in each comparison, write power.md, and return its path if it was written."""
    from ranger21.report.tables.power_table import seed_plans, summary, write_power

    print()
    for comparison in comparisons:
        print(printable(f"- {comparison.title}: {summary(seed_plans(comparison, gap), gap)}"))
    made = write_power(comparisons, gap, out)
    if made is None:
        print("no power.md: no comparison has two groups with finished runs")
    return [made] if made else []


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
