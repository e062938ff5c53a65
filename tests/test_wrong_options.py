"""Wrong options of the scripts (missing, unknown, out of range) are refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_runner import CommandRunner

REQUIRED = [
    ("evaluate.py", "required: source"),
    ("export.py", "required: source, target"),
    ("export.py $RUN", "required: target"),
    ("landscape.py", "required: CHECKPOINT"),
    ("compare.py", "required: RUNS"),
    ("sync_wandb.py", "required: RUNS"),
    ("pack.py", "required: target"),
    ("prepare_imagenet.py", "required: source, target"),
    ("verify_imagenet.py", "required: root"),
    ("reproduce.py", "required: --preset"),
    ("screenshot_page.py", "required: PAGE.html, OUT.png"),
]
UNKNOWN = [
    ("export.py $RUN x.pth y", "unrecognized arguments: y"),
    ("prepare_imagenet.py $DIR t --nosuch", "unrecognized arguments: --nosuch"),
    ("reproduce.py --preset paper -m", "unrecognized arguments: -m"),
    ("wandb_workspace.py extra", "unrecognized arguments: extra"),
    ("reproduce.py --preset papr", "Did you mean paper?"),
    ("reproduce.py --preset nosuch", "--preset: invalid choice: 'nosuch'"),
    ("wandb_workspace.py --spread sd", "--spread: invalid choice: 'sd'"),
    ("wandb_workspace.py --group", "--group: expected at least one argument"),
    ("verify_imagenet.py $IMAGES --expect all", "--expect: invalid choice: 'all'"),
    ("pack.py p data.root=$IMAGES --format webp", "--format: invalid choice: 'webp'"),
    ("pack.py p data.root=$IMAGES --subsampling 4:1:1", "--subsampling: invalid choice: '4:1:1'"),
    ("fault_campaign.py --ranks 3", "--ranks: invalid choice: '3'"),
    ("landscape.py $RUN --directions up", "--directions: invalid choice: 'up'"),
    ("rosenbrock.py --start 1", "--start: expected 2 arguments"),
]
NUMBERS = [
    ("pack.py p --quality 0", "--quality: invalid choice: 0"),
    ("pack.py p --quality 101", "--quality: invalid choice: 101"),
    ("pack.py p --quality nan", "--quality: "),
    ("pack.py p --processes 1e3", "--processes: invalid int value: '1e3'"),
    ("prepare_imagenet.py $DIR t --processes x", "--processes: invalid int value: 'x'"),
    ("sync_wandb.py $RUN --timeout x", "--timeout: x is invalid: it must be a number of seconds"),
    ("find_lr.py --low 0", "--low: 0 is invalid: it must be a finite number above 0"),
    ("find_lr.py --low -1", "--low: -1 is invalid"),
    ("find_lr.py --low nan", "--low: nan is invalid"),
    ("find_lr.py --low 1e-320", "--low: 1e-320 is invalid"),
    ("find_lr.py --high inf", "--high: inf is invalid"),
    ("find_lr.py --high nan", "--high: nan is invalid"),
    ("find_lr.py --high 1e300", "--high: 1e300 is invalid"),
    ("find_lr.py --steps 1.5", "--steps: "),
    ("find_lr.py --steps 1000000000000", "--steps: 1000000000000 is invalid"),
    ("show_schedule.py --images 0", "--images: 0 is invalid"),
    ("show_schedule.py --images -1", "--images: -1 is invalid"),
    ("show_schedule.py --images nan", "--images: "),
    ("show_schedule.py --images 100000000000000", "--images: 100000000000000 is invalid"),  # was a MemoryError
    ("tune.py --trials 0", "--trials: 0 is invalid"),
    ("tune.py --trials 1025", "--trials: 1025 is invalid"),
    ("tune.py --halving 1", "--halving: 1 is invalid"),
    ("tune.py --seed -1", "--seed: -1 is invalid"),
    ("tune.py --at-once 0", "--at-once: 0 is invalid"),
    ("rosenbrock.py --steps 0", "--steps: 0 is invalid"),
    ("rosenbrock.py --steps -1", "--steps: -1 is invalid"),
    ("rosenbrock.py --search-steps 0", "--search-steps: 0 is invalid"),
    ("rosenbrock.py --jobs 0", "--jobs: 0 is invalid"),
    ("fault_campaign.py --seed -1", "--seed: -1 is invalid"),
    ("bench_data.py --images 0", "--images: 0 is invalid"),
    ("bench_data.py --rounds 0", "--rounds: 0 is invalid"),
    ("bench_data.py --workers -1", "--workers: -1 is invalid"),
    ("bench_data.py --seconds nan", "--seconds: nan is invalid"),
    ("bench_data.py --seconds -1", "--seconds: -1 is invalid"),
    ("bench_index.py --images 0", "--images: 0 is invalid"),
    ("bench_index.py --rounds 0", "--rounds: 0 is invalid"),
    ("bench_index.py --touched -1", "--touched: -1 is invalid"),
    ("bench_loop.py --ranks 0", "--ranks: 0 is invalid"),
    ("bench_loop.py --steps 0", "--steps: 0 is invalid"),
    ("bench_loop.py --pairs -1", "--pairs: -1 is invalid"),
    ("bench_loop.py --batch 0", "--batch: 0 is invalid"),
    ("bench_loop.py --size 0", "--size: 0 is invalid"),
    ("bench_loop.py --profile -1", "--profile: -1 is invalid"),
    ("bench_optimizer.py --rounds 0", "--rounds: 0 is invalid"),
    ("bench_optimizer.py --threads 0", "--threads: 0 is invalid"),
    ("bench_optimizer.py --group-size 0", "--group-size: 0 is invalid"),
    ("bench_page.py --runs 0", "--runs: 0 is invalid"),
    ("bench_pack.py --images 0", "--images: 0 is invalid"),
    ("bench_pack.py --rounds 0", "--rounds: 0 is invalid"),
]
PATHS = [
    ("export.py $RUN ''", "target: the path is empty"),
    ("compare.py $RUN --out ''", "--out: the path is empty"),  # used to write into the current folder
    ("compare.py $RUN --out $FILE", "--out: '$FILE' is not a folder"),
    ("compare.py $RUN --out $FILE/x", "--out: '$FILE' is not a folder"),
    ("bench_data.py --json $FILE/x", "--json: '$FILE' is not a folder"),  # used to fail only after the measurement
    ("find_lr.py --out $FILE/x.png", "--out: '$FILE' is not a folder"),
    ("show_schedule.py --out $FILE/x.png", "--out: '$FILE' is not a folder"),
    ("compare.py $RUN --out $RUN", "--out: '$RUN' is a run directory: choose another folder"),
    ("landscape.py $RUN --out $FILE", "--out: '$FILE' is not a folder"),
    ("landscape.py $RUN --out $RUN", "--out: '$RUN' is a run directory"),
    ("pack.py ''", "target: the path is empty"),
    ("prepare_imagenet.py '' t", "source: the path is empty"),
    ("prepare_imagenet.py $DIR ''", "target: the path is empty"),
    ("verify_imagenet.py ''", "root: the path is empty"),
    ("verify_imagenet.py $IMAGES --json ''", "--json: the path is empty"),
    ("verify_imagenet.py '~nobodyknown/x'", "~nobodyknown/x: this home folder does not exist"),
    ("find_lr.py --out ''", "--out: the path is empty"),
    ("find_lr.py --out $DIRPNG", "--out: '$DIRPNG' is a folder: name a file"),
    ("find_lr.py --out x.json", "--out: 'x.json' does not end in .png or"),
    ("find_lr.py --out x", "--out: 'x' does not end in .png or"),
    ("show_schedule.py --out ''", "--out: the path is empty"),  # used to write a file named .png
    ("show_schedule.py --out x.nosuch", "--out: 'x.nosuch' does not end in .png or"),  # was a traceback
    ("show_schedule.py --out $DIRPNG", "--out: '$DIRPNG' is a folder: name a file"),
    ("rosenbrock.py --out ''", "--out: the path is empty"),
    ("rosenbrock.py --out $FILE", "--out: '$FILE' is not a folder"),
    ("reproduce.py --preset paper --out $FILE --dry-run", "--out: '$FILE' is not a folder"),
    ("reproduce.py --preset paper --record $RUN --dry-run", "--record: '$RUN' is a run directory"),
    ("fault_campaign.py --out $FILE", "--out: '$FILE' is not a folder"),
    ("fault_campaign.py --work ''", "--work: the path is empty"),
    ("fault_campaign.py --work $RUN", "--work: '$RUN' is a run directory"),
    ("screenshot_page.py $FILE ''", "OUT.png: the path is empty"),
    ("bench_data.py --json $DIR", "--json: '$DIR' is a folder: name a file"),
    ("bench_optimizer.py --out $FILE", "--out: '$FILE' is not a folder"),
]
CASES = [*REQUIRED, *UNKNOWN, *NUMBERS, *PATHS]


@pytest.mark.parametrize(("line", "words"), CASES, ids=[line for line, _ in CASES])
def test_a_wrong_option_is_refused(commands: CommandRunner, places: dict[str, Path], line: str, words: str) -> None:
    commands.refuses(line, 2, words, places)
