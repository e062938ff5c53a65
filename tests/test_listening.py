"""What ranks listen to: the loopback where there is one node, and never more than the address of MASTER_ADDR."""

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
    """The addresses at which this process waits for connections, as the kernel writes them: little end first."""
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
        pipe.recv()  # the others may still be looking


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_the_ranks_of_one_node_are_not_reached_from_outside(address: str) -> None:
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
    assert answers[0][1], "rank 0 listens somewhere"


def world(size: int, local_size: int) -> World:
    return World(rank=0, size=size, local_rank=0, local_size=local_size, device=torch.device("cpu"))


def test_where_the_store_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def bound(address: str, size: int = 4, local_size: int = 2) -> str | None:
        found = listen(address, free_port(), world(size, local_size))
        if found is None:
            return None
        with socket.socket(fileno=found) as server:
            return server.getsockname()[0]

    assert bound("127.0.0.1") == "127.0.0.1"
    assert bound("localhost") in ("127.0.0.1", "::1")
    assert bound("192.0.2.1") is None  # of no node: an address that leads here by other means
    assert bound("no.such.host.invalid") is None  # torch says so

    def by_debian(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", by_debian)
    assert bound("node07") is None  # whose other nodes have its address of the network
    assert bound("node07", size=2, local_size=2) == "127.0.1.1"


def test_a_port_that_is_taken_is_left_to_torch() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert listen("127.0.0.1", other.getsockname()[1], world(2, 2)) is None
