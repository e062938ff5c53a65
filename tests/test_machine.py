"""check_machine.py: one real run of the command with a tiny model, and each check with something broken."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT
from support.slurm_cluster import Cluster
from support.training import TINY

from ranger21.config.compose import compose_config
from ranger21.machine import batch, data, golden, network, optimizer, record, services, training, worker
from ranger21.machine.check import FAILED, OK, WARNING, Machine
from ranger21.machine.listing import CHECKS
from ranger21.machine.places import working
from ranger21.machine.running import CheckProcess, CheckRequest, rows
from ranger21.system.errors import UserError

SCRIPT = ROOT / "scripts" / "check_machine.py"


def machine(place: Path, *overrides: str, quick: bool = True) -> Machine:
    """Return the Machine that a check receives."""
    words = ("logger=none", f"outputs={place / 'runs'}", *overrides)
    return Machine(compose_config(list(words)), words, quick, place)


def started(cwd: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start the command with a temporary folder of its own."""
    (cwd / "tmp").mkdir(exist_ok=True)
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(cwd / "tmp"), "WANDB_BASE_URL": "http://127.0.0.1:9", **more}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.Popen(command, cwd=cwd, env=os.environ | own, stdout=-1, stderr=-1, text=True)


@pytest.fixture(scope="module")
def real_run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, dict[str, Any]]:
    """Run all checks with a tiny model; return the working folder, exit code, table and machine.json."""
    place = tmp_path_factory.mktemp("machine")
    tiny = [*TINY, f"data.root={images}", "trainer.epochs=100", "data.workers=1", "logger=wandb"]
    process = started(place, *tiny, "outputs=there/runs", "--limit", "200")
    out, err = process.communicate(timeout=280)
    assert (place / "machine.json").is_file(), err
    return place, process.returncode, out, json.loads((place / "machine.json").read_text())


def test_every_check_has_a_row_and_leaves_no_files(real_run: tuple[Path, int, str, dict[str, Any]]) -> None:
    place, code, table, facts = real_run
    assert [check["check"] for check in facts["checks"]] == [check.name for check in CHECKS]
    failed = [check for check in facts["checks"] if check["state"] == FAILED]
    assert (code, failed) == (0, []), table
    for check in CHECKS:
        assert f"| {check.name} " in table
    assert sorted(path.name for path in place.rglob("*")) == ["machine.json", "tmp"]


def test_the_checks_measure_plausible_numbers(real_run: tuple[Path, int, str, dict[str, Any]]) -> None:
    numbers = {check["check"]: check["numbers"] for check in real_run[3]["checks"]}
    assert numbers["all-reduce"]["ranks"] == 2 and numbers["all-reduce"]["wrong"] == 0
    assert numbers["golden trajectories"]["trajectories"] == 10
    assert {"foreach", "one by one"} <= set(numbers["optimizer against reference"]["off"])
    assert all(off < 1e-5 for off in numbers["optimizer against reference"]["off"].values())
    assert numbers["killed and resumed"]["largest_difference"] == 0
    assert numbers["killed and resumed"]["moved"] > 1e-3
    assert numbers["killed and resumed"]["to_step"] - numbers["killed and resumed"]["from_step"] == 20
    assert numbers["training"]["killed"] and numbers["training"]["images_per_s"] > 0
    assert numbers["training"]["checkpoint_bytes"] < numbers["disk"]["checkpoint_bytes"] * 1.5
    assert numbers["largest batch"]["images"] == 32
    assert numbers["loader"]["workers"] == 1 and numbers["loader"]["eaten"] == numbers["training"]["images_per_s"]
    assert numbers["W&B"] == {"reachable": False, "online": False}


# Each broken thing fails its check


def test_broken_golden_files_fail_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(golden.FOLDER, tmp_path / "golden")
    broken = tmp_path / "golden" / "paper-all-on.npz"
    broken.write_bytes(broken.read_bytes()[:1000])
    (tmp_path / "golden" / "paper-no-pnm.npz").unlink()
    shutil.copyfile(golden.FOLDER / "paper-adamw.npz", tmp_path / "golden" / "paper-no-norm_loss.npz")
    monkeypatch.setattr(golden, "FOLDER", tmp_path / "golden")
    monkeypatch.setattr(golden, "PROJECT", tmp_path)
    monkeypatch.setattr(golden, "NAMES", ("paper-all-on", "paper-no-pnm", "paper-no-norm_loss"))
    monkeypatch.setattr(golden, "optimizer_of", _always_default(golden.optimizer_of))
    found = golden.goldens(machine(tmp_path))
    assert found.state == FAILED and found.numbers["trajectories"] == 0
    assert "paper-all-on.npz cannot be repeated" in found.seen
    assert "paper-no-pnm.npz cannot be repeated" in found.seen
    assert "paper-no-norm_loss is off by" in found.seen
    assert "git checkout golden" in found.remedy


def _always_default(build: Any) -> Any:
    """Build the default optimizer for every trajectory, as if the step computed another algorithm."""

    def wrong(name: str, golden: dict[str, Any], *rest: Any) -> Any:
        return build(name, golden | {"kwargs": json.dumps({"lr": 3e-3})}, *rest)

    return wrong


def test_the_check_covers_every_golden_file() -> None:
    assert {f"{name}.npz" for name in golden.NAMES} == {path.name for path in golden.FOLDER.glob("*.npz")}


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """Limit the size of the files that this process writes, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_unwritable_disk_fails_the_check(tmp_path: Path) -> None:
    place = Path("/proc/self")  # even root cannot create a folder here
    found, whole = worker.look("disk", machine(tmp_path, f"run_dir={place / 'runs'}"))
    assert (found.state, whole) == (FAILED, True)
    assert "cannot be written" in found.seen or "0.0 kB free" in found.seen
    with limited(1000):  # bytes per file, like a used-up quota
        found, whole = worker.look("disk", machine(tmp_path))
    assert (found.state, found.remedy, whole) == (FAILED, "choose outputs= on a writable disk", True)
    assert "cannot be written" in found.seen and "File too large" in found.seen
    assert not [path for path in tmp_path.iterdir() if "check-machine" in path.name]
    with working(machine(tmp_path, f"run_dir={place / 'runs'}").config, tmp_path) as work:
        assert work == tmp_path / "work"  # the other checks use another folder


def test_missing_packs_and_images_fail_the_checks_that_need_them(tmp_path: Path, images: Path) -> None:
    for name in ("data", "loader", "pack"):
        found, whole = worker.look(name, machine(tmp_path, f"data.pack={tmp_path / 'pack'}"))
        assert (found.state, whole) == (FAILED, True)
        assert f"data.pack={tmp_path / 'pack'} is not a pack" in found.seen or "pack" in found.seen
    found, _ = worker.look("data", machine(tmp_path, f"data.root={tmp_path / 'nowhere'}"))
    assert found.state == FAILED and "nowhere" in found.seen
    copy = shutil.copytree(images, tmp_path / "images")
    for path in copy.rglob("*.JPEG"):
        path.write_bytes(b"no image")
    found, _ = worker.look("data", machine(tmp_path, f"data.root={copy}"))
    assert found.state == FAILED and found.numbers["unreadable"] == found.numbers["decoded"] > 0


def test_a_check_that_raises_becomes_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(machine: Machine) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(optimizer, "speed", broken)
    found, whole = worker.look("optimizer speed", machine(tmp_path))
    assert not whole  # so the next check runs in a new process
    assert (found.state, found.seen) == (FAILED, "RuntimeError: CUDA error: an illegal memory access was encountered")
    assert "in broken" in found.numbers["traceback"]


def request(place: Path, limit: float, total: float | None = None) -> CheckRequest:
    (place / "temporary").mkdir(exist_ok=True)
    return CheckRequest(("experiment=demo",), True, limit, total, place, place / "temporary")


def test_a_check_that_hangs_or_dies_becomes_a_failed_row(tmp_path: Path) -> None:
    names: list[str] = []
    found = list(rows(request(tmp_path, 0.01), CHECKS[1:3], names.append))  # Python itself takes longer to start
    assert names == [row.check for row in found] == [check.name for check in CHECKS[1:3]]
    assert {(row.found.state, row.found.seen) for row in found} == {(FAILED, "nothing came within 0.01 s")}
    (late,) = rows(request(tmp_path, 600, 0.01), CHECKS[1:2], names.append)
    assert (late.found.state, late.found.remedy) == (WARNING, "run it without --quick")
    (left_out,) = rows(request(tmp_path, 600, 0.0), CHECKS[1:2], names.append)
    assert left_out.found.seen == "skipped because the 0 s of --quick are over"
    with CheckProcess(request(tmp_path, 600), {}) as dead:
        os.kill(dead.pid, signal.SIGKILL)
        found_dead, whole = dead.ask(CHECKS[1].name, 60)
    assert (found_dead.state, found_dead.seen, whole) == (
        FAILED,
        "the process of this check was killed by SIGKILL",
        False,
    )


def test_a_tmpdir_too_long_for_sockets_is_not_inherited(tmp_path: Path) -> None:
    for name, kept in (("s", True), ("l" * 90, False)):
        (tmp_path / name).mkdir()
        own = replace(request(tmp_path, 600), temporary=tmp_path / name)
        with CheckProcess(own, {}) as one:
            environ = Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0")
        assert (f"TMPDIR={own.temporary}".encode() in environ) == kept


def test_ctrl_c_leaves_no_files_or_processes(tmp_path: Path) -> None:
    process = started(tmp_path, "experiment=demo", "outputs=runs")
    assert process.stderr and process.stderr.readline().startswith("1/")
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "stopped: when run again, this command starts over" in process.stderr.read()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["tmp"]
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_file_of_another_kind_is_never_overwritten(tmp_path: Path) -> None:
    for number, content in enumerate((b'{"kind": "another"}', b"notes", b"[1]", b"")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not a machine\.json, so it is not overwritten"):
            record.require_place(path)
        assert path.read_bytes() == content
    with pytest.raises(UserError, match="cannot be written"):
        record.require_place(tmp_path / "missing" / "machine.json")


# Verdicts


def test_verdict_on_the_weights_of_a_resumed_training() -> None:
    assert training.verdict(0.0, 0.1, 20, 40, exact=True).state == OK
    assert training.verdict(1e-9, 0.1, 20, 40, exact=True).state == FAILED
    assert training.verdict(1e-4, 0.1, 20, 40, exact=False).state == OK
    assert training.verdict(0.1, 0.1, 20, 40, exact=False).state == FAILED
    assert training.verdict(math.inf, 0.1, 20, 40, exact=False).state == FAILED


def test_a_failed_training_check_quotes_the_error(tmp_path: Path) -> None:
    found, whole = worker.look("training", machine(tmp_path, f"data.root={tmp_path / 'nowhere'}"))
    assert (found.state, whole) == (FAILED, True)
    assert found.seen.startswith("train.py ended: ") and "nowhere" in found.seen
    found, _ = worker.look("killed and resumed", machine(tmp_path))
    assert found.state == WARNING and "no two checkpoints" in found.seen


def test_the_batch_size_search_doubles_until_memory_runs_out() -> None:
    assert batch.doubled(lambda images: images <= 100, 16, 1000) == (64, False)
    assert batch.doubled(lambda images: images <= 100, 16, 64) == (64, True)
    assert batch.doubled(lambda images: images <= 5, 16, 1000) == (4, False)
    assert batch.doubled(lambda images: False, 16, 1000) == (0, False)


def test_the_loader_check_tries_worker_counts_up_to_the_cores() -> None:
    assert data.tried(0, 2) == [0, 1, 2]
    assert data.tried(7, 16) == [1, 4, 7, 8, 16]


def test_a_wrong_sum_fails_the_all_reduce_check() -> None:
    numbers = {"backend": "NCCL", "ranks": 2, "bytes": 1 << 20, "bus_bytes_per_s": 1e9, "wrong": 1.0}
    assert network.told(numbers, False).state == FAILED
    assert network.told(numbers | {"wrong": 0.0}, True).state == OK


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def healthy() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_wandb_check_fails_only_if_an_online_run_needs_it(
    tmp_path: Path, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("logger=wandb", "logger.mode=online")
    monkeypatch.setenv("WANDB_BASE_URL", healthy)
    assert services.wandb(machine(tmp_path, *words)).state == OK
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    found = services.wandb(machine(tmp_path, *words))
    assert (found.state, found.numbers) == (FAILED, {"reachable": False, "online": True})
    assert services.wandb(machine(tmp_path, "logger=wandb")).state == OK
    assert services.wandb(machine(tmp_path)).seen == "the run does not use W&B"


def test_slurm_check_warns_inside_a_job_without_scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no scontrol here, as in a container
    for name, value in {"JOB_ID": "7", "JOB_NUM_NODES": "2", "CPUS_ON_NODE": "8"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = services.slurm(machine(tmp_path))
    assert found.state == WARNING and "job 7: nodes 2, cpus on node 8" in found.seen
    monkeypatch.delenv("SLURM_JOB_ID")
    assert services.slurm(machine(tmp_path)).seen == "not installed"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_checks_pass_on_two_slurm_nodes(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    tiny = [*TINY, f"data.root={images}", "trainer.epochs=100", f"outputs={tmp_path / 'runs'}"]
    look = [sys.executable, str(SCRIPT), *tiny, "--out", str(tmp_path / "machine.json"), "--limit", "200"]
    script = tmp_path / "job.sbatch"
    script.write_text(f"#!/bin/bash\nsrun --nodes=2 --ntasks=2 {shlex.join(look)}\n")
    job = cluster.sbatch("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", str(script))
    cluster.wait(job, "COMPLETED", "FAILED", seconds=400)
    assert cluster.job(job) == "COMPLETED", cluster.output(job)
    checks = json.loads((tmp_path / "machine.json").read_text())["checks"]
    seen = {check["check"]: check["seen"] for check in checks}
    assert seen["all-reduce"].startswith("gloo, 2 ranks over several nodes")
    assert seen["SLURM"].startswith(f"job {job}: nodes 2")
    assert "the same bits" in seen["killed and resumed"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".sbatch"] == ["machine.json"]
