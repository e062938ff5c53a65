"""Signals, ranks, meters and evaluation."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
import torch
from support.distributed import WORLD
from torch import nn

from ranger21.data.images import ImageBatch
from ranger21.data.on_device import ToInput
from ranger21.engine.evaluation import evaluate
from ranger21.engine.meters import GIVE_UP_AFTER, Meter, NonFinite
from ranger21.engine.precision import Precision
from ranger21.system.distributed import Agreement
from ranger21.system.errors import UserError
from ranger21.system.ranks import environment, first_host, tasks_of_node
from ranger21.system.stopping import StopFlag

SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT]


@pytest.mark.parametrize(("number", "code"), [*zip(SIGNALS, [143, 143, 129, 130], strict=True)])
def test_a_signal_only_sets_the_stop_flag(number: int, code: int) -> None:
    with StopFlag() as stop:
        assert stop.code == 0
        os.kill(os.getpid(), number)
        assert stop.code == code


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with StopFlag() as stop:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.code == 130


def test_an_ignored_sighup_stays_ignored() -> None:
    """`nohup` ignores SIGHUP. Shells ignore SIGINT for background commands, but the flag must handle it."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)]
    try:
        with StopFlag() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.code == 0
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.code == 130
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)


def test_signal_handlers_are_restored_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), StopFlag() as stop:
        assert [signal.getsignal(number) for number in SIGNALS] == [stop._caught] * 4
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signals_need_the_main_thread() -> None:
    result: list[str] = []

    def enter() -> None:
        try:
            with StopFlag():
                result.append("entered")
        except UserError as error:
            result.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert result == ["Start the run in the main thread, because Python handles signals only there."]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[07-09,12]", "node07"),
        ("node[12]", "node12"),
        ("alpha,beta[1-4]", "alpha"),
        ("rack1-gpu[001-004],other5", "rack1-gpu001"),
        ("gpu[3,5]-ib", "gpu3-ib"),
        ("gpu.cluster.example", "gpu.cluster.example"),
    ],
)
def test_first_host_parses_slurm_node_lists(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


SLURM = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "node07", "MASTER_PORT": "29500"}


def ranks(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> dict[str, int] | None:
    """Return what `environment` finds with only these variables set."""
    for name in {*SLURM, *TORCHRUN, "MASTER_ADDR", "MASTER_PORT", "SLURM_TASKS_PER_NODE", "SLURM_NODEID"}:
        monkeypatch.setenv(name, "")  # registers the variable, so that monkeypatch restores it
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return environment()


def test_ranks_are_read_from_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"rank": 3, "size": 4, "local_rank": 1, "local_size": 2}
    assert ranks(monkeypatch, TORCHRUN) == expected
    assert ranks(monkeypatch, TORCHRUN | SLURM) == expected  # torchrun inside srun
    assert os.environ["MASTER_PORT"] == "29500"


def test_ranks_are_read_from_sruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks(monkeypatch, SLURM) == {"rank": 5, "size": 8, "local_rank": 1, "local_size": 4}
    assert os.environ["MASTER_ADDR"] == "node07"
    port = os.environ["MASTER_PORT"]
    ranks(monkeypatch, SLURM | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert os.environ["MASTER_PORT"] == port  # every rank gets the same port
    for other in ({"SLURM_JOB_ID": "4243"}, {"SLURM_STEP_ID": "1"}, {"SLURM_JOB_ID": "99999999"}):
        ranks(monkeypatch, SLURM | other)
        assert 1024 < int(os.environ["MASTER_PORT"]) < 65536 and os.environ["MASTER_PORT"] != port
    ranks(monkeypatch, SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "1234")
    one_node = {"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_STEP_NODELIST": "node07"}
    ranks(monkeypatch, SLURM | one_node)
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"  # so that other nodes cannot connect


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK does not say which rank this process is: unset it, or start"),
        ({"RANK": "0"}, "RANK=0 without WORLD_SIZE does not say"),
        (SLURM | {"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK does not say"),
        (TORCHRUN | {"RANK": "1", "WORLD_SIZE": "1"}, "RANK=1 is out of range for WORLD_SIZE=1: ranks count from 0"),
        (TORCHRUN | {"RANK": "4"}, "RANK=4 is out of range for WORLD_SIZE=4"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "RANK=3 is out of range for WORLD_SIZE=0"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "LOCAL_RANK=2 is out of range for LOCAL_WORLD_SIZE=2"),
        (TORCHRUN | {"RANK": "-1"}, "RANK=-1 is not a number: unset it, or start the ranks with torchrun or srun"),
        (TORCHRUN | {"LOCAL_RANK": "x"}, "LOCAL_RANK=x is not a number"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "MASTER_ADDR is not set, but 4 ranks need it to find each other"),
        (TORCHRUN | {"MASTER_PORT": "http"}, "MASTER_PORT=http is not a number"),
        (TORCHRUN | {"MASTER_PORT": "70000"}, "MASTER_PORT=70000 is not a valid port"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "SLURM_STEP_NUM_TASKS=8 without SLURM_PROCID does not say which task"),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS=many is not a number"),
        (SLURM | {"SLURM_PROCID": ""}, "SLURM_PROCID= is not a number"),
        (SLURM | {"SLURM_PROCID": "8"}, "SLURM_PROCID=8 is out of range for SLURM_STEP_NUM_TASKS=8"),
        (SLURM | {"SLURM_LOCALID": "4"}, r"SLURM_LOCALID=4 is out of range for SLURM_STEP_TASKS_PER_NODE=4\(x2\)"),
        (SLURM | {"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID=x is not a number"),
        (SLURM | {"SLURM_STEP_ID": "1.0"}, "SLURM_STEP_ID=1.0 is not a number"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "four"}, "SLURM's list of tasks per node, four, is invalid"),
    ],
)
def test_inconsistent_variables_are_refused(
    variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a process used to train alone without a message, or to end with a traceback."""
    with pytest.raises(UserError, match=f"^{sentence}"):
        ranks(monkeypatch, variables)


def test_slurms_list_of_tasks_per_node_is_parsed() -> None:
    assert [tasks_of_node("4(x2),1", node) for node in range(4)] == [4, 4, 1, 1]


def test_local_world_size_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}
    assert ranks(monkeypatch, by_hand) == {"rank": 3, "size": 4, "local_rank": 1, "local_size": 2}


def test_a_single_process_has_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    batch_script = {"SLURM_JOB_ID": "4242", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}  # sbatch, before srun
    for variables in ({}, batch_script, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, {"WORLD_SIZE": "1"}):
        assert ranks(monkeypatch, variables) is None
    assert Agreement(WORLD, 2).exchange(143, 1) == [143, 1]
    assert WORLD.main and WORLD.on_main(lambda: 7) == 7


def test_the_meter_weights_every_image_equally() -> None:
    meter, generator = Meter(WORLD), torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 4, generator=generator), torch.randint(4, (30,), generator=generator)
    loss = nn.functional.cross_entropy(logits, labels, reduction="none").double()
    for part in (slice(0, 1), slice(1, 12), slice(12, 30)):
        meter.add(loss[part].mean(), logits[part], labels[part])
    right = (logits.argmax(1) == labels).double().mean().item()
    assert meter.metrics() == pytest.approx({"train/loss": loss.mean().item(), "train/acc1": 100 * right}, rel=1e-12)
    again = Meter(WORLD)
    again.restore(meter.collect())
    assert again.metrics() == meter.metrics()
    meter.reset()
    assert meter.collect() == [0, 0, 0]


def test_nonfinite_losses_and_skipped_steps_are_counted() -> None:
    nonfinite = NonFinite(WORLD)
    for step in (1, 2, 3, 4, 5):
        nonfinite.saw(step, torch.tensor(step in (3, 5)))
    assert nonfinite.first() == 3 and NonFinite(WORLD).first() is None
    skipping, almost = NonFinite(WORLD), GIVE_UP_AFTER - 1
    for step, bad in enumerate([True] * almost + [False] + [True] * almost, start=1):
        skipping.left_out(step, torch.tensor(bad))
    assert (skipping.skipped(), skipping.gave_up(), skipping.first()) == (2 * almost, False, None)
    resumed = NonFinite(WORLD)
    resumed.restore(skipping.state())
    resumed.left_out(2 * almost + 2, torch.tensor(True))
    assert (resumed.skipped(), resumed.gave_up(), resumed.first()) == (2 * almost + 1, True, almost + 2)


@pytest.mark.parametrize("classes", [3, 9])
@pytest.mark.parametrize("batch_size", [1, 7, 40, 100])
def test_evaluation_equals_a_direct_computation(classes: int, batch_size: int) -> None:
    rng = np.random.default_rng(classes)
    images, labels = rng.integers(0, 256, (40, 3, 2, 2), dtype=np.uint8), rng.integers(0, classes, 40)
    weight = rng.normal(size=(12, classes))
    mean, std = (0.4, 0.5, 0.6), (0.5, 0.25, 0.2)  # some are powers of two, some are not
    to_input = ToInput(mean, std).double()
    inputs = to_input(torch.from_numpy(images)).flatten(1).numpy()
    scores = inputs @ weight
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    own = -log_p[np.arange(40), labels]
    place = (scores > scores[np.arange(40), labels][:, None]).sum(1)
    expected = {
        "val/loss": own.mean(),
        "val/loss_smoothed": (0.9 * own - 0.1 * log_p.mean(1)).mean(),
        "val/acc1": 100 * (place < 1).mean(),
        "val/acc5": 100 * (place < 5).mean(),
    }
    cuts = [slice(start, start + batch_size) for start in range(0, 40, batch_size)]
    pixels, answers = torch.from_numpy(images), torch.from_numpy(labels)
    batches = [None, *(ImageBatch(pixels[cut], None, answers[cut], []) for cut in cuts), None]
    linear = torch.from_numpy(weight)
    rest = (to_input, WORLD, Precision("fp64", WORLD.device), 0.1)
    found = evaluate(lambda x: x.flatten(1) @ linear, batches, *rest)
    assert found == pytest.approx(expected, rel=1e-12)
    asked = iter([False] * 2 + [True])
    assert evaluate(lambda x: x.flatten(1) @ linear, [None] * 9, *rest, interrupted=lambda: next(asked)) is None
