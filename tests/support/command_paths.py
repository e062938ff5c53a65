"""Runs, checkpoints, packs and images for wrong commands to name: intact, damaged, and of the wrong kind."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from support.project import FORMATS


def make_paths(top: Path) -> dict[str, Path]:
    """Write everything below `top`; return each path by the name that command lines use for it."""
    for name in ("images", "pack-raw"):
        shutil.copytree(FORMATS / name, top / name)
    runs = sorted((FORMATS / "runs" / "paper").iterdir())
    run = shutil.copytree(runs[1], top / "run")
    places = {"NOTHING": top / "nothing", "RUN": run, "CKPT": run / "checkpoints" / "last.pt", "IMAGES": top / "images"}
    places |= {"PACK": top / "pack-raw", "RUNS": run.parent}
    return places | files(top, places["CKPT"]) | folders(top) | damaged_runs(top, run) | damaged_packs(top)


def files(top: Path, checkpoint: Path) -> dict[str, Path]:
    """Write files of the wrong kind; return their paths."""
    written: dict[str, str | bytes] = {
        "TEXT": "not a checkpoint\n", "EMPTY": b"", "JSON": '{"model": 1}', "CUT": checkpoint.read_bytes()[:20_000],
        "BINARY": bytes(range(256)) * 4,
    }  # fmt: skip
    places = {name: top / f"{name.lower()}.pt" for name in written}
    for name, content in written.items():
        places[name].write_bytes(content.encode() if isinstance(content, str) else content)
    objects = {
        "FOREIGN": {"state_dict": {"weight": torch.zeros(2)}, "epoch": 3},
        "BARE": {"model": {"weight": torch.zeros(1)}},
        "LIST": [1, 2], "PICKLE": {"model": {}, "args": argparse.Namespace(lr=1)},
        "HOLLOW": {"model": {}, "config": {}, "data": {}}, "SHAPES": {"model": 1, "config": [], "data": "x"},
    }  # fmt: skip
    for name, value in objects.items():
        places[name] = top / f"{name.lower()}.pt"
        torch.save(value, places[name])
    places |= {"PICTURE": top / "picture.png", "FILE": top / "file"}
    Image.new("RGB", (8, 8), "red").save(places["PICTURE"])
    places["FILE"].write_text("a file\n")
    return places


def folders(top: Path) -> dict[str, Path]:
    """Make folders that are named like files, or whose names are hard to type; return their paths."""
    named = {
        "DIR": "folder",
        "DIRPT": "folder.pt",
        "DIRPNG": "folder.png",
        "SPACE": "a b",
        "ODD": "a=b,c",
        "BYTES": "\udcff",
    }
    for name in named.values():
        (top / name).mkdir()
    return {key: top / name for key, name in named.items()}


def damaged_runs(top: Path, run: Path) -> dict[str, Path]:
    """Copy a finished run, each time with one damaged file; return the copies."""
    picture = (top / "picture.png").read_bytes()
    damage: dict[str, tuple[str, str | bytes]] = {
        "BADCONFIG": ("config.yaml", picture), "LISTCONFIG": ("config.yaml", "- 1\n- 2\n"),
        "NOCONFIG": ("config.yaml", ""),
        "BADMETRICS": ("metrics.jsonl", picture), "NUMBERS": ("metrics.jsonl", '1\n"x"\n[]\nnull\n{"step": "x"}\n'),
        "BADMANIFEST": ("manifest.json", "[]"), "CUTMANIFEST": ("manifest.json", '{"data": {'),
        "BADRESULT": ("result.json", "[]"), "BADSTATUS": ("result.json", '{"status": 3}'),
    }  # fmt: skip
    places = {name: top / name.lower() for name in damage}
    for name, (file, content) in damage.items():
        shutil.copytree(run, places[name])
        (places[name] / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return places


def damaged_packs(top: Path) -> dict[str, Path]:
    """Copy a pack, each time damaged in one way; return the copies."""
    harm: dict[str, Callable[[Path], object]] = {
        "LISTPACK": lambda pack: (pack / "pack.json").write_text("[]"),
        "TEXTPACK": lambda pack: (pack / "pack.json").write_text("pack"),
        "NEWPACK": lambda pack: (pack / "pack.json").write_text(
            json.dumps(json.loads((pack / "pack.json").read_text()) | {"version": 99})
        ),
        "NOARCHIVE": lambda pack: (pack / "train-00000.tar").unlink(),
        "CUTARCHIVE": lambda pack: (pack / "train-00000.tar").write_bytes(b"x" * 100),
        "NOINDEX": lambda pack: (pack / "train.npz").unlink(),
        "BADINDEX": lambda pack: (pack / "train.npz").write_bytes(b"PK\x03\x04 nothing"),
    }
    places = {name: top / name.lower() for name in harm}
    for name, act in harm.items():
        act(Path(shutil.copytree(top / "pack-raw", places[name])))
    return places
