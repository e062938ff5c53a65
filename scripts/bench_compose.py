#!/usr/bin/env python
"""Measure the searches of scripts/compose.py on a simulated task: the committed ablation, with the noise of its seeds.

The task has 20 arms: the ablation's configurations of Ranger21 on Fashion-MNIST, each with the mean top-1 of its runs.
A trial observes that mean plus normal noise of the pooled standard deviation between seeds. The regret is the
difference in true mean between the best arm and the arm that looks best after the search, in points. The script needs
no training, and prints mean regrets with 95 % intervals, and how often the best arm was chosen. Searches with the same
seed share their first four trials, so their differences are paired.

  python scripts/bench_compose.py
  python scripts/bench_compose.py --repeats 20 --first-seed 5000

With --replay, it prints instead how often Thompson sampling proposes a learning rate at an end of its range, given the
trials of the random searches in a composed.json after one, two and all brackets.

  python scripts/bench_compose.py --replay results/compose/composed.json
"""

import argparse
from pathlib import Path

import _installed
import numpy as np

from ranger21.config.arguments import Parser, as_input, as_whole
from ranger21.config.ending import ending_well
from ranger21.meta.arms import Arms
from ranger21.meta.propose import SEARCHES
from ranger21.meta.record import RUNGS, read_composed
from ranger21.meta.results import observations
from ranger21.meta.simulated import simulate, simulated
from ranger21.report.runs.finding import find_runs
from ranger21.report.statistics.pairs import estimate
from ranger21.system.project import TOP
from ranger21.system.wording import counted

RUNS = TOP / "results" / "fashion_mnist"
BRACKETS, ARMS = 4, 4
RATE, PROPOSED = "optimizer.lr", 8


def main() -> None:
    """Run the searches and print the table."""
    options = parse()
    if options.replay:
        replay(options.replay)
        return
    task = simulated(find_runs([str(options.runs)]).runs)
    print(f"{len(task.means)} arms, noise {task.noise:.2f} points; {options.repeats} searches each")
    regrets = {}
    for name in SEARCHES:
        seeds = range(options.first_seed, options.first_seed + options.repeats)
        best = [simulate(task, name, BRACKETS, ARMS, seed) for seed in seeds]
        regrets[name] = np.array([[task.regret(arm) for arm in found] for found in best])
    for bracket in range(BRACKETS):
        print(f"\nafter {(bracket + 1) * ARMS} trials")
        for name, found in regrets.items():
            print(f"  {name:9} regret {told(found[:, bracket])}, best arm {(found[:, bracket] == 0).mean():.0%}")
        for name in ("thompson", "tpe") if bracket else ():
            print(f"  {name} - random: {told((regrets[name] - regrets['random'])[:, bracket])}")


def replay(path: Path) -> None:
    """Print how many arms Thompson sampling proposes at the ends of the range of the learning rate."""
    composed, space = read_composed(path), Arms().space
    rates = list(composed.space[RATE])
    for brackets in (1, 2, composed.budget // RUNGS):
        proposed = []
        for one in composed.searches:
            if one.search == "random":
                seen = observations([trial for trial in one.trials if trial.round < brackets], composed.chance)
                proposed += [arm[RATE] for arm in SEARCHES["thompson"](space, RUNGS, seen, PROPOSED, brackets)]
        ends = sum(rate in (rates[0], rates[-1]) for rate in proposed)
        print(
            f"after {counted(brackets, 'bracket')}: {ends} of {len(proposed)} at {rates[0]} or {rates[-1]}", flush=True
        )


def told(values: np.ndarray) -> str:
    """Return a mean with its 95 % interval."""
    found = estimate(map(float, values))
    assert found is not None
    limits = "" if found.low is None or found.high is None else f" ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.mean:+.3f}{limits}"


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats",
        type=as_whole(2, 100_000),
        default=200,
        metavar="N",
        help="searches of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--first-seed",
        type=as_whole(0),
        default=1000,
        metavar="N",
        help="seed of the first search (default: %(default)s)",
    )
    parser.add_argument(
        "--runs", type=Path, default=RUNS, metavar="PATH", help="the ablation's runs (default: %(default)s)"
    )
    parser.add_argument(
        "--replay", type=as_input, metavar="FILE", help="print the learning rates proposed after these trials instead"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
