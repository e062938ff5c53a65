#!/usr/bin/env python
"""Measure the time and memory that scripts/compare.py needs for large runs.

python scripts/bench_compare.py                      50 runs of 100,000 logged lines, as in docs/compare.md
python scripts/bench_compare.py --runs 5 --lines 1000
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _installed

from ranger21.config.arguments import Parser, as_whole
from ranger21.config.ending import ending_well
from ranger21.system.wording import counted

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 60
OPTIMIZERS = ("ranger21", "adamw", "nesterov", "lamb", "lion")


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=as_whole(), default=50, help="number of runs, of five optimizers (default: %(default)s)"
    )
    parser.add_argument("--lines", type=as_whole(), default=100_000, help="logged lines per run (default: %(default)s)")
    options = parser.parse_args()
    with ending_well("starts over"):
        measure(options.runs, options.lines)


def measure(runs: int, lines: int) -> None:
    """Generate runs in a temporary folder, compare them, and print time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        size = sum(draw(Path(folder) / "runs" / str(i), config_of(i), i, lines) for i in range(runs))
        print(f"{counted(runs, 'run')} of {counted(lines, 'line')}, {size / 2**20:,.0f} MiB of metrics.jsonl")
        command = [sys.executable, str(ROOT / "scripts/compare.py"), f"{folder}/runs", "--out", f"{folder}/out"]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.1)
        spent = time.perf_counter() - begin
        if process.returncode:
            sys.exit(process.returncode)  # compare.py has printed the reason
        page = (Path(folder) / "out/index.html").stat().st_size
    print(f"{spent:.1f} s, at most {peak / 2**20:,.0f} MiB over all processes; index.html has {page / 2**20:.1f} MiB")


def config_of(number: int) -> dict[str, Any]:
    """Return the configuration of a run: the optimizers in turn, each with seeds 0, 1, 2, …"""
    return {
        "seed": number // len(OPTIMIZERS),
        "model": {"name": "resnet50"},
        "optimizer": {"name": OPTIMIZERS[number % len(OPTIMIZERS)]},
        "data": {"name": "imagenet"},
        "trainer": {"epochs": EPOCHS},
    }


def draw(path: Path, config: dict[str, Any], number: int, lines: int) -> int:
    """Write a run with one logged line per step and a validation after each epoch. Return the bytes written.

    Args:
        number: gives the noise.
    """
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    (path / "result.json").write_text(json.dumps({"status": "finished"}))
    rate = config["optimizer"].get("lr", 3e-3)
    noise, an_epoch = random.Random(number), max(1, lines // config["trainer"]["epochs"])
    with open(path / "metrics.jsonl", "w") as file:
        for step in range(1, lines + 1):
            row = {"step": step, "epoch": step / an_epoch, "images_seen": 64 * step, "time": 0.1 * step}
            row |= {"train/loss": 7 * math.exp(-3 * step / lines) + noise.random(), "train/acc1": 70 * step / lines}
            row |= {"lr": rate * min(1.0, 4 * (1 - step / lines)), "grad_norm": noise.random()}
            row |= {"perf/images_per_s": 600 + noise.random(), "perf/data_wait": noise.random() / 50}
            if step % an_epoch == 0:
                row |= {"val/loss": 7 * math.exp(-3 * step / lines), "val/loss_smoothed": 2.0, "val/acc5": 90.0}
                row["val/acc1"] = 70 * step / lines + noise.random()
            file.write(json.dumps(row) + "\n")
    return (path / "metrics.jsonl").stat().st_size


def memory(pid: int) -> int:
    """Return the bytes of a process and its descendants; shared pages are divided among their users. Linux only."""
    total, waiting = 0, [pid]
    while waiting:
        this = waiting.pop()
        try:
            rollup = Path(f"/proc/{this}/smaps_rollup").read_text()
            for task in Path(f"/proc/{this}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # the process has ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


if __name__ == "__main__":
    main()
