"""Which addresses ranks listen to: the loopback on a single node, and never more than the address of MASTER_ADDR."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from support.ports import free_port
from support.training import FORKSERVER

from ranger21.system.distributed import World, join, listen


def listening() -> set[str]:
    """Return the addresses at which this process listens, in the kernel's notation (hexadecimal, little-endian)."""
    own = {path.readlink().name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                found.add(words[1].partition(":")[0])
    return found


def rank(pipe: Any, variables: dict[str, str]) -> None:
    for name in [name for name in os.environ if re.match("SLURM_|GLOO_|TORCHELASTIC", name)]:
        del os.environ[name]
    os.environ.update(variables)
    with join("cpu") as world:
        total = world.reduce(torch.tensor(world.rank + 1.0))
        pipe.send((float(total), listening()))
        pipe.recv()  # wait until all ranks have looked


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_the_ranks_of_one_node_listen_only_to_the_loopback(address: str) -> None:
    env = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": str(free_port())}
    pipes, processes = [], []
    for number in ("0", "1"):
        here, there = FORKSERVER.Pipe()
        process = FORKSERVER.Process(target=rank, args=(there, env | {"RANK": number, "LOCAL_RANK": number}))
        process.start()
        pipes.append(here)
        processes.append(process)
    answers = [pipe.recv() for pipe in pipes]
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [total for total, _ in answers] == [3.0, 3.0]
    loopback = {"0100007F", "00000000000000000000000001000000"}
    for number, (_, addresses) in enumerate(answers):
        assert addresses <= loopback, (number, addresses)
    assert answers[0][1], "rank 0 must listen"


def world(size: int, local_size: int) -> World:
    return World(rank=0, size=size, local_rank=0, local_size=local_size, device=torch.device("cpu"))


def test_the_store_listens_to_the_address_of_master_addr_or_leaves_it_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def bound(address: str, size: int = 4, local_size: int = 2) -> str | None:
        found = listen(address, free_port(), world(size, local_size))
        if found is None:
            return None
        with socket.socket(fileno=found) as server:
            return server.getsockname()[0]

    assert bound("127.0.0.1") == "127.0.0.1"
    assert bound("localhost") in ("127.0.0.1", "::1")
    assert bound("192.0.2.1") is None  # no address of this machine, for example that of a router
    assert bound("no.such.host.invalid") is None  # torch raises the error

    def by_debian(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", by_debian)
    assert bound("node07") is None  # other nodes reach this host by another address
    assert bound("node07", size=2, local_size=2) == "127.0.1.1"


def test_a_port_in_use_is_left_to_torch() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert listen("127.0.0.1", other.getsockname()[1], world(2, 2)) is None
