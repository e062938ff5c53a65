"""Users' mistakes, made with the real command: each gives one error message and exit code 1, and loses nothing."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.command_runner import CommandRunner
from support.commands import command, train, wait_for_line
from support.training import last_checkpoint, result, run_ranks


@pytest.fixture
def refused(commands: CommandRunner) -> Callable[..., str]:
    """Run train.py, which must fail; return its error message."""

    def run(*overrides: str) -> str:
        done = commands.complete("train.py", *overrides)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done.stderr.strip().splitlines()[-1]

    return run


def test_missing_imagenet_is_reported_within_five_seconds(refused, tmp_path):
    begin = time.monotonic()
    done = train("run_dir=" + str(tmp_path / "run"), env={"IMAGENET_DIR": ""})
    assert time.monotonic() - begin < 5
    assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
    sentence = done.stdout.strip().splitlines()[-1]
    assert all(word in sentence for word in ("data.root", "IMAGENET_DIR", "experiment=demo"))
    assert "data.root" in refused("data.root=/nowhere")


def test_unsorted_or_differing_validation_classes_are_refused(refused, images, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(images, root)
    moved = next((root / "val").iterdir())
    moved.rename(root / "val" / "n00000001")
    sentence = refused("data=imagenet", f"data.root={root}")
    assert "differ" in sentence and "n00000001" in sentence and moved.name in sentence
    for folder in list((root / "val").iterdir()):
        for image in folder.iterdir():
            shutil.copy(image, root / "val")
        shutil.rmtree(folder)
    assert "class folders" in refused("data=imagenet", f"data.root={root}")


def test_a_hidden_folder_is_not_a_class(images, tiny, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(images, root)
    shutil.copytree(next((root / "train").iterdir()), root / "train" / ".thumbs")
    overrides = [o for o in tiny if not o.startswith("data.root")]
    assert run_ranks([*overrides, f"data.root={root}", "trainer.steps=1"], tmp_path / "run", 1) == [0]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]["classes"] == 10


def test_an_error_on_one_rank_ends_every_rank(images, tiny, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(images, root)
    for broken in (root / "train").rglob("*.JPEG"):
        if broken.stem.endswith(("1", "3")):
            broken.write_bytes(broken.read_bytes()[:200])
    overrides = [o for o in tiny if not o.startswith("data.root")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    begin = time.monotonic()
    done = train(*overrides, f"data.root={root}", f"run_dir={tmp_path / 'run'}", launcher=launcher)
    assert done.returncode == 1 and "cannot be read" in done.stdout, done.stdout
    assert time.monotonic() - begin < 90


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_is_named(refused, workers, images, tiny, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(images, root)
    broken = sorted((root / "train").rglob("*.JPEG"))[17]
    broken.write_bytes(broken.read_bytes()[:200])
    overrides = [o for o in tiny if not o.startswith(("data.root", "data.workers"))]
    sentence = refused(*overrides, f"data.root={root}", f"data.workers={workers}", f"run_dir={tmp_path / 'run'}")
    assert f"The image {broken} cannot be read (" in sentence
    assert sentence.endswith(f"to find all such images, run python scripts/verify_imagenet.py {root} --expect none.")


def test_impossible_batch_sizes_are_refused(refused, tiny, tmp_path):
    run_dir = f"run_dir={tmp_path / 'run'}"
    assert "81" in (sentence := refused(*tiny, "data.batch_size=81", run_dir)) and "80 images" in sentence
    sentence = refused(*tiny, "trainer.accumulate=3", run_dir)
    assert "data.batch_size=16" in sentence and "trainer.accumulate=3" in sentence


def test_a_directory_with_a_different_run_is_refused(refused, tiny, tmp_path):
    run_dir = f"run_dir={tmp_path / 'run'}"
    assert run_ranks(tiny, tmp_path / "run", 1) == [0]
    sentence = refused(*tiny, "optimizer=adamw", run_dir)
    assert "optimizer.name" in sentence and "adamw" in sentence and "ranger21" in sentence
    assert "model.name" in refused(*tiny, "model=resnet18", run_dir)
    assert "resume=never" in refused(*tiny, "resume=never", run_dir)


def test_a_full_disk_keeps_the_old_checkpoint(tiny, tmp_path):
    """A limit on file size simulates a full disk: the checkpoint of the second epoch does not fit."""
    directory = tmp_path / "run"
    short = [*tiny, "trainer.checkpoint_every_steps=null"]
    stopped = subprocess.Popen(**command(*short, "trainer.log_every_steps=1", f"run_dir={directory}"))
    wait_for_line(directory / "metrics.jsonl", stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 143
    before = last_checkpoint(directory)["progress"]["step"]
    limited = command(*short, f"run_dir={directory}")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    done = subprocess.run(**limited, preexec_fn=limit, timeout=120)
    assert done.returncode == 1 and "could not be written" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert last_checkpoint(directory)["progress"]["step"] == before
    assert run_ranks(short, directory, 1) == [0]
    assert result(directory)["status"] == "finished"


def test_two_processes_cannot_share_a_run(refused, tiny, tmp_path):
    overrides = [*tiny, "trainer.epochs=400", f"run_dir={tmp_path / 'run'}"]
    first = subprocess.Popen(**command(*overrides))
    wait_for_line(tmp_path / "run" / "metrics.jsonl", first)
    sentence = refused(*overrides)
    assert f"process {first.pid}" in sentence and "run_dir=" in sentence
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 143


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(tiny, tmp_path):
    directory = tmp_path / "run"
    endless = [*tiny, "trainer.epochs=400", f"run_dir={directory}"]
    first = subprocess.Popen(**command(*endless))
    wait_for_line(directory / "metrics.jsonl", first)
    while not (directory / "checkpoints" / "previous.pt").exists():
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 143
    last = directory / "checkpoints" / "last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    again = subprocess.Popen(**command(*endless))
    while "Resumed" not in (directory / "log.txt").read_text():
        assert again.poll() is None
        time.sleep(0.05)
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) == 143
    assert "damaged" in (directory / "log.txt").read_text()


def test_a_killed_run_takes_its_loader_processes_with_it(tiny, tmp_path):
    """Loader processes survive SIGHUP, end with the run, and leave no ranger21 files in TMPDIR."""
    short = Path(tempfile.mkdtemp(dir="/tmp"))  # loader processes create sockets there; long paths fail
    long = ["trainer.epochs=400", "trainer.eval_every_epochs=400"]  # validation would start loader processes of its own
    overrides = [*tiny, *long, "data.workers=2", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(**command(*overrides, env={"TMPDIR": str(short)}))
    wait_for_line(tmp_path / "run" / "metrics.jsonl", process)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    for pid in workers:
        os.kill(int(pid), signal.SIGHUP)
    time.sleep(0.2)
    assert all(state(pid) != "Z" for pid in workers)
    process.kill()
    process.wait()
    assert not [*short.glob("*ranger21*")]
    shutil.rmtree(short, ignore_errors=True)
    for _ in range(100):
        alive = [pid for pid in workers if Path(f"/proc/{pid}").exists() and "Z" not in state(pid)]
        if not alive:
            return
        time.sleep(0.05)
    for pid in alive:
        os.kill(int(pid), signal.SIGKILL)
    raise AssertionError(f"{alive} live on")


def state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def script(commands: CommandRunner) -> Callable[..., tuple[int, str]]:
    """Run scripts/NAME with arguments; return the exit code and the last line on standard error."""

    def run(name: str, *args: str) -> tuple[int, str]:
        done = commands.complete(name, *args)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evaluate.py nothing", "nothing"),
        ("export.py nothing x.pth", "nothing"),
        ("compare.py nothing", "nothing"),
        ("landscape.py nothing", "nothing"),
        ("screenshot_page.py nothing x.png", "nothing scripts/compare.py"),
        ("screenshot_page.py nothing x.gif", "x.gif .png"),
        ("screenshot_page.py nothing x.png --width 0", "--width=0 1"),
        ("bench_landscape.py trainer.device=nope", "trainer.device=nope cpu"),
    ],
)
def test_scripts_refuse_impossible_arguments(script, line, words, tmp_path):
    name, *args = line.split()
    places = {"nothing": str(tmp_path / "nothing")}
    code, sentence = script(name, *(places.get(word, word) for word in args))
    assert code == 1 and sentence.startswith("error: ") and all(word in sentence for word in words.split()), sentence


@pytest.mark.parametrize("line", ["evaluate.py bare", "export.py bare x.pth", "landscape.py bare"])
def test_weights_without_a_run_are_refused(script, line, tmp_path):
    bare = tmp_path / "bare.pt"
    torch.save({"model": {"weight": torch.zeros(1)}}, bare)
    name, _, *target = line.split()
    code, sentence = script(name, str(bare), *(str(tmp_path / word) for word in target))
    assert code == 1 and sentence.startswith(f"error: {bare} has weights but does not record the run that made them"), (
        sentence
    )
    assert "Give a checkpoint that train.py wrote" in sentence and list(tmp_path.iterdir()) == [bare]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: apt-get install chromium")
def test_screenshot_of_an_unknown_panel_names_the_panels_of_the_page(script, tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text('<figure data-metric="lr"><div class="plot">0.003</div></figure>')
    code, sentence = script("screenshot_page.py", str(page), str(picture), "--hover", "loss")
    assert code == 1 and "--hover=loss is invalid" in sentence and sentence.endswith("which shows lr.")
    assert not picture.exists()
    assert script("screenshot_page.py", str(page), str(picture), "--width", "99999999")[0] == 1
