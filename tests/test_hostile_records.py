"""Hostile and odd runs beside good ones in a folder, through every command that reads records of runs."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.hostile_files import HostileFiles
from support.run_directories import config_of, logged_lines

from ranger21.report.tables.text import table_lines
from ranger21.system.wording import defused, one_line

LEFT_OUT: dict[str, tuple[str, str]] = {  # run: (file, content for which the run is left out)
    "bomb": ("config.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))),
    "tag": ("config.yaml", "seed: !!python/object/apply:os.mkdir [../canary]\n"),
    "deep": ("config.yaml", "model: " + "[" * 50_000),
    "large": ("config.yaml", "model:\n" + "  x: 1\n" * 50_000),
    "huge": ("config.yaml", "seed: " + "9" * 100_000 + "\n"),
    "list": ("config.yaml", "[1, 2]\n"),
    "names": ("config.yaml", "seed: 0\nmodel: {name: [1, 2]}\n"),
    "later": ("manifest.json", '{"format": "\\u001b[2J"}'),
    "line": ("metrics.jsonl", '{"step": ' + "1" * (1 << 21) + "}\n"),
}  # fmt: skip
NAMES = {  # hostile names of settings
    "markup": "\\[/x] [bold]", "escape": "\x1b[2J\x1b]0;x\x07", "bidi": "a\u202ecod.exe", "html": "<script>x()</script>",  # noqa: E501
    "markdown": "[x](http://x) ![y](z) `c` | *b*", "mathtext": "$\\frac{", "latex": "\\input{/etc/passwd}",
    "formula": "=cmd|' /C calc'!A0", "lines": "a\n\nb\r# c", "long": "l" * 100_000,
}  # fmt: skip
TOGETHER = (("markup", "escape", "html", "bidi", "markdown"), ("mathtext", "latex", "formula", "lines"), ("long",))
RECORDS: dict[str, dict[str, str]] = {  # files of runs that are compared nevertheless
    "fingerprint": {"manifest.json": '{"data": {"fingerprint": ["a"], "train_images": 1e400}, "sessions": [[], 7]}'},
    "numbers": {"metrics.jsonl": '{"step": 5, "val/acc1": NaN, "epoch": 1e400, "x": %s}\n{"step": -1}\n{"step": 1e300}\n'  # noqa: E501
                                 '{"step": 10, "epoch": 1, "val/acc1": 1e308, "val/loss": -1e308}\n' % ("9" * 5000)},
    "nested": {"metrics.jsonl": "[" * 100_000, "result.json": "[" * 100_000},
    "result": {"result.json": '{"status": "\\u001b[2J", "final": [1], "diverged_at_step": "\\u001b[2J"}'},
}  # fmt: skip


def write(path: Path, name: str, seed: int = 0, labels: Sequence[str] = ()) -> Path:
    path /= name
    path.mkdir(parents=True)
    config: Any = config_of("adamw", seed, 2, path)
    config["optimizer"] |= dict.fromkeys(labels, 1) | {"note": "".join(labels)} if labels else {}
    (path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=False).replace("!!python", ""))
    (path / "metrics.jsonl").write_text("".join(logged_lines((50.0, 60.0 + seed))))
    (path / "result.json").write_text(json.dumps({"status": "finished", "step": 20}))
    return path


def write_all(folder: Path) -> int:
    """Write two good runs and many hostile or odd ones; return the number of the latter."""
    for seed in (0, 1):
        write(folder, f"good-{seed}", seed)
    for name, (file, content) in LEFT_OUT.items():
        (write(folder, name) / file).write_text(content)
    for names in TOGETHER:
        write(folder, names[0], labels=[NAMES[name] for name in names])
    for name, files in RECORDS.items():
        for file, content in files.items():
            (write(folder, name) if not (folder / name).exists() else folder / name).joinpath(file).write_text(content)
    for file in ("config.yaml", "metrics.jsonl", "result.json", "manifest.json"):
        place = write(folder, f"pipe-{file}") / file
        place.unlink(missing_ok=True)
        os.mkfifo(place)
    os.truncate(write(folder, "zeros") / "metrics.jsonl", 1 << 40)
    write(folder, "\x1b[2J [/x] $x$ \n=1")
    return len(list(folder.iterdir())) - 2


def test_compare_leaves_out_hostile_runs_and_compares_the_others(hostile: HostileFiles) -> None:
    assert write_all(hostile.files / "runs") >= 15
    answer = hostile.refuses("compare.py $FILES/runs --out $WORK/out", "is left out", ("work/out",), code=0)
    said = " ".join((answer.out + answer.err).split())
    for name in [*LEFT_OUT, "pipe-config.yaml", "pipe-metrics.jsonl", "zeros"]:
        assert f"{name} is left out: " in said, name
    text = (hostile.work / "out" / "table.md").read_text()
    assert not re.search(r"(?<!\\)<script|(?<!\\)\]\(http|[\x1b\u202e]", text)
    with (hostile.work / "out" / "table.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert all(defused(cell) == cell for cell in cells) and "60.0" in " ".join(cells)
    assert "<script>x()" not in (hostile.work / "out" / "index.html").read_text()


COMMANDS: dict[str, Callable[[str], str]] = {
    "sync": lambda name: "sync_wandb.py $FILES/runs --dry-run",
    "landscape": lambda name: f"landscape.py $FILES/runs/{name} --out $WORK/x",
    "evaluate": lambda name: f"evaluate.py $FILES/runs/{name}",
    "export": lambda name: f"export.py $FILES/runs/{name} $WORK/x.pth",
    "train": lambda name: (
        f"train.py run_dir=$FILES/runs/{name} data=fashion_mnist data.root=$FILES/none trainer.device=cpu"
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_other_commands_refuse_a_hostile_run(hostile: HostileFiles, command: str) -> None:
    write_all(hostile.files / "runs")
    for name in ("bomb", "pipe-manifest.json", "pipe-config.yaml", "zeros", "nested")[
        : 1 if command == "sync" else None
    ]:
        hostile.refuses(COMMANDS[command](name), "error: ", ("work/x", f"files/runs/{name}/.lock"))


def test_status_accepts_runs_with_hostile_records(hostile: HostileFiles) -> None:
    line = "reproduce.py --preset fashion_mnist --seeds 1 --only optimizer=adamw --status"
    runs = hostile.work / "outputs" / "fashion_mnist"
    for name, content in {"ranger21-s0": '{"status": "\\u001b[2J"}', "ranger21_official-s0": "[" * 100_000}.items():
        (write(runs, f"resnet10t-{name}") / "result.json").write_text(content)
    pipes = write(runs, "resnet10t-adamw-s0")
    for file in ("result.json", "manifest.json", "metrics.jsonl"):
        (pipes / file).unlink(missing_ok=True)
        os.mkfifo(pipes / file)
    (pipes / "launcher.txt").write_text("error: \\[/x] \x1b[2J\n")
    hostile.refuses(line, "runs: ", ("work",), code=0)


def test_names_become_one_printable_line_and_stay_distinct() -> None:
    shown = [one_line(text) for text in (*NAMES.values(), "l" * 99_999 + "m")]
    assert len(set(shown)) == len(shown)
    assert all(text.isprintable() and len(text) < 250 for text in shown)


@pytest.mark.parametrize("text", ["=1", "+a", "-a", "@a", "\ta", "\ra", "-1+cmd", "=HYPERLINK()"])
def test_text_that_spreadsheets_would_calculate_is_defused(text: str) -> None:
    assert defused(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "-1e-5", "+3", "nan", "-inf", "a=b", ""])
def test_numbers_and_words_are_not_defused(text: str) -> None:
    assert defused(text) == text


def test_markup_in_markdown_cells_is_escaped() -> None:
    assert table_lines(["a"], [["[x](y) <b> `c` stable_decay _i_"]])[2] == (
        "| \\[x\\](y) \\<b\\> \\`c\\` stable_decay \\_i\\_ |"
    )
