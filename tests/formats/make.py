"""Makes the files of tests/test_formats.py with the code of a checkout; README.md beside this says when and how.

    cd CHECKOUT && OMP_NUM_THREADS=1 PYTHONPATH=$PWD python .../tests/formats/make.py NEW_FOLDER

It runs the checkout's own commands in NEW_FOLDER, with paths relative to it, and writes down what they answered.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from ranger21 import experiment, loop  # noqa: F401  (what takes long to import, once for all runs)

CHECKOUT = Path.cwd()
STOPPED, LAST = 7, 12  # steps: within an epoch, and between two merges of Lookahead
DATA = ["data=imagenet", "data.root=images", "data.resize=18", "data.crop=16", "data.batch_size=4", "data.workers=0"]
RUN = [*DATA, "trainer.log_every_steps=2", "trainer.device=cpu", "data.eval_batch_size=4"]
SMALL = [  # 20 tensors: what many optimizers are kept with
    "model=vit_tiny_patch16_224", "trainer.epochs=2",
    "+model.kwargs={img_size:16,patch_size:8,embed_dim:4,depth:1,num_heads:1,mlp_ratio:2,drop_rate:0.2}",
]  # fmt: skip
WITH_BUFFERS = [  # batch norms
    "model=resnet10t", "+model.kwargs={channels:[4,4,4,4],stem_width:4}", "trainer.epochs=12",
    "optimizer=momentum", "optimizer.lr=0.1", "data.brightness=0", "data.contrast=0", "data.saturation=0",
]  # fmt: skip
PLAIN = (
    "ranger21", "ranger21_official", "chain", "ranger", "rangerlars", "adamw", "adagrad", "gd", "momentum", "nesterov",
    "radam", "rmsprop", "sgdw", "lars", "lamb", "lion",
)  # fmt: skip
KINDS: dict[str, list[str]] = {name: [f"optimizer={name}"] for name in PLAIN} | {
    "ranger21-bare": ["optimizer=ranger21", "optimizer.lookahead_k=0", "optimizer.pnm=false"],
    "ranger21-compile": ["optimizer=ranger21", "optimizer.compile=true"],
    "ranger21_official-july": ["optimizer=ranger21_official", "optimizer.state=july2021", "optimizer.lookahead_k=0"],
    "chain-pnm": ["optimizer=chain", "optimizer.parts=[agc,centralize,pnm,second_moment,{name:decay,stable:layer}]"],
    "adamw-lookahead": ["optimizer=adamw", "optimizer.lookahead_k=5"],
    "momentum-lookahead": ["optimizer=momentum", "optimizer.lookahead_k=5"],
    "lamb-lookahead": ["optimizer=lamb", "optimizer.lookahead_k=5"],
    "adamw-fp16": ["optimizer=adamw", "trainer.precision=fp16"],
}


def train(*overrides: str, stop_at: int = 0) -> None:
    """One process of train.py; it sends itself SIGTERM at a step, if that is not 0, and saves a checkpoint after it."""
    process = os.fork()
    if not process:
        real = loop.take_step

        def take_step(*arguments: Any) -> Any:
            if arguments[-2] == stop_at:  # (…, step, clock), at every version
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments)

        loop.take_step = take_step
        sys.argv, sys.path[0] = ["train.py", *overrides], str(CHECKOUT)
        code: Any = 1
        try:
            runpy.run_path(str(CHECKOUT / "train.py"), run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == (143 if stop_at else 0), code


def script(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / name), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw_images() -> None:
    """Four classes, each a colour and noise, 6 + 2 images each; some grey, some PNG."""
    rng = np.random.default_rng(21)
    for split, count in (("train", 6), ("val", 2)):
        for label, colour in enumerate(((200, 60, 60), (60, 200, 60), (60, 60, 200), (180, 180, 60))):
            folder = Path("images", split, f"n9900001{label}")
            folder.mkdir(parents=True)
            for number in range(count):
                size = (int(rng.integers(14, 24)), int(rng.integers(14, 24)), 3)
                pixels = np.clip(np.array(colour) + rng.integers(-60, 60, size), 0, 255).astype(np.uint8)
                image = Image.fromarray(pixels)
                if number == 1:
                    image = image.convert("L")
                name = f"n9900001{label}_{number}" if split == "train" else f"val_{number * 4 + label:08d}"
                image.save(folder / f"{name}{'.png' if number == 5 else '.JPEG'}")


def model_of(directory: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{directory}/checkpoints/last.pt", weights_only=True)["model"]


def make_checkpoints() -> dict[str, torch.Tensor]:
    """Unfinished runs, KIND/checkpoints/last.pt; returns the weights that the same code ended with."""
    ends: dict[str, torch.Tensor] = {}
    for kind, overrides in KINDS.items():
        directory = f"checkpoints/{kind}"
        command = [*RUN, *SMALL, *overrides, "logger=none", f"run_dir={directory}"]
        train(*command, stop_at=STOPPED)
        for name in ("best.pt", "previous.pt"):
            Path(directory, "checkpoints", name).unlink()
        shutil.copytree(directory, "kept", symlinks=True)
        train(*command)
        ends |= {f"{kind}/{name}": tensor.contiguous() for name, tensor in model_of(directory).items()}
        shutil.rmtree(directory)
        Path("kept").rename(directory)
        for name in (".lock", "log.txt"):
            Path(directory, name).unlink()
    return ends


def make_runs() -> dict[str, torch.Tensor]:
    """Two finished runs, seeds of a group, one of them resumed; and one with W&B's fragment that is not finished."""
    command, runs = [*RUN, *WITH_BUFFERS, "outputs=runs"], Path("runs/paper")
    train(*command, "seed=0", stop_at=STOPPED)
    train(*command, "seed=0")
    train(*command, "seed=1", "logger=none")
    train(*command, "seed=2", stop_at=STOPPED)
    stopped = next(path for path in runs.iterdir() if "-s2" in path.name)
    shutil.copytree(stopped, "kept", symlinks=True)
    train(*command, "seed=2", "logger=none")
    ends = {f"stopped/{name}": tensor.contiguous() for name, tensor in model_of(str(stopped)).items()}
    shutil.rmtree(stopped)
    Path("kept").rename(stopped)
    for path in runs.rglob("*.pt"):
        if path.stem == "previous" or (path.stem == "best" and "-s0" not in str(path)):
            path.unlink()
    return ends


def tidy() -> None:
    """Takes out what only this machine understands, and files of W&B's that say nothing of the run."""
    for path in Path().rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        for session in manifest["sessions"]:
            session["command"] = ["python", "train.py", *session["command"][2:]]
            session["hardware"]["host"] = "somewhere"
        path.write_text(json.dumps(manifest, indent=2))
    for wandb in list(Path().rglob("runs/*/*/wandb")):
        for path in wandb.rglob("*"):
            if path.is_symlink() or (path.is_file() and path.suffix != ".wandb"):
                path.unlink()


def facts() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "wandb", "omegaconf")
    from importlib.metadata import version

    return {
        "commit": commit.stdout.strip(),
        "made": date.today().isoformat(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "checkpoints": {kind: [*RUN, *SMALL, *overrides, "logger=none"] for kind, overrides in KINDS.items()},
        "runs": [*RUN, *WITH_BUFFERS],
        "step": {"stopped": STOPPED, "last": LAST},
    }


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    os.chdir(folder)
    draw_images()
    time.sleep(3)  # a folder that has just changed is not cached
    ends = make_checkpoints() | make_runs()
    save_file(ends, "ends.safetensors")
    script("pack.py", "pack-jpeg", *DATA)
    script("pack.py", "pack-raw", *DATA, "--format", "raw")
    answers: dict[str, Any] = {}
    for name in sorted(path.name for path in Path("runs/paper").iterdir()):
        run = f"runs/paper/{name}"
        answers[name] = {
            "evaluate": json.loads(script("evaluate.py", run, "--json")),
            "evaluate from the raw pack": json.loads(script("evaluate.py", run, "data.pack=pack-raw", "--json")),
            "export": script("export.py", run, "weights.safetensors"),
            "exported": hashlib.sha256(Path("weights.safetensors").read_bytes()).hexdigest(),
        }
        Path("weights.safetensors").unlink()
    script("compare.py", "runs", "--out", "compared")
    answers["compare"] = Path("compared/table.csv").read_text()
    answers["sync"] = script("sync_wandb.py", "runs", "--dry-run").replace(f"{folder}/", "")
    shutil.rmtree("compared")
    for path in list(Path().rglob("offline-merged")):
        shutil.rmtree(path)
    tidy()
    Path("facts.json").write_text(json.dumps(facts() | {"answers": answers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
