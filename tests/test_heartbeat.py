"""Silent ranks are noticed; ranks that are busy, finished or suspended together are not ended."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import torch
from support.distributed import Store

from ranger21.system import heartbeat
from ranger21.system.distributed import World, meet
from ranger21.system.errors import UserError
from ranger21.system.heartbeat import BEATS, Heartbeat
from ranger21.system.ranks import PATIENCE, environment, seconds_of_patience

FAST = 0.6


Store.get = dict.__getitem__  # type: ignore[method-assign]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    codes: list[int] = []
    monkeypatch.setattr(heartbeat.os, "_exit", codes.append)
    yield codes


def test_live_ranks_are_not_ended(ended: list[int]) -> None:
    store = Store()
    with Heartbeat(store, 0, 3, FAST), Heartbeat(store, 1, 3, FAST), Heartbeat(store, 2, 3, FAST):
        time.sleep(3 * FAST)
    time.sleep(2 * FAST / BEATS)
    assert ended == [] and store.keys() == {"beat/0", "beat/1", "beat/2"}


def test_a_silent_rank_ends_the_others(ended: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    store = Store()
    with Heartbeat(store, 0, 3, FAST), Heartbeat(store, 2, 3, FAST):
        with Heartbeat(store, 1, 3, FAST):
            time.sleep(FAST / 2)
        begin = time.monotonic()
        while not ended and time.monotonic() - begin < 20 * FAST:
            time.sleep(0.01)
    assert ended == [1]  # from rank 0 only: rank 2 watches rank 0, which is alive
    assert "Rank 0 stopped: rank 1 has been silent for 0.6 s" in capfd.readouterr().err


def test_ranks_end_if_the_store_is_gone_but_not_at_the_end_of_a_run(
    ended: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    with Heartbeat(store, 1, 2, FAST):
        time.sleep(FAST)
        store.broken = True
        time.sleep(FAST)
    assert ended == [1] and "the process that holds the ranks' store is gone" in capfd.readouterr().err
    ended.clear()
    with Heartbeat(store, 1, 2, FAST):  # at the end of a run, rank 0 may leave a moment earlier
        time.sleep(1.5 * FAST / BEATS)
    time.sleep(FAST)
    assert ended == []


def test_errors_name_a_port_in_use_and_a_rank_that_does_not_join(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(rank=0, size=2, local_rank=0, local_size=2, device=torch.device("cpu"))
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is taken: set MASTER_PORT"):
            meet(world, 2)
    with pytest.raises(UserError, match=rf"Rank 0 of 2 did not meet the others at 127.0.0.1:{port} within 1 s"):
        meet(world, 1)


def test_patience_is_a_whole_number_of_seconds_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANGER21_PATIENCE", raising=False)
    assert seconds_of_patience() == PATIENCE < 60
    monkeypatch.setenv("RANGER21_PATIENCE", "300")
    assert seconds_of_patience() == 300
    for impossible in ("long", "0", "-5", "7.5", "inf", "nan", "", "10000000"):
        monkeypatch.setenv("RANGER21_PATIENCE", impossible)
        with pytest.raises(UserError, match=f"RANGER21_PATIENCE={impossible} is invalid"):
            seconds_of_patience()


def test_a_rank_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(UserError, match="RANK=x is not a number: unset it, or start the ranks with torchrun or srun"):
        environment()
