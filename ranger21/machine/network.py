"""Sums over ranks: NCCL between GPUs, gloo between processes on a CPU, with the bandwidth."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import statistics
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from ranger21.machine.check import FAILED, Found, Machine
from ranger21.machine.device import device_of, seconds
from ranger21.system import distributed
from ranger21.system.errors import UserError
from ranger21.system.ranks import environment
from ranger21.system.wording import reason

BYTES = {"cuda": 256 << 20, "cpu": 4 << 20}  # about ResNet50's gradients twice over; less for gloo
TIMES = 5
PATIENCE = 300  # seconds: rank 0 looks at other things before
REMEDY = "NCCL_DEBUG=INFO says more; NCCL_SOCKET_IFNAME (GLOO_SOCKET_IFNAME) chooses the network (docs/cluster.md)"


def all_reduce(machine: Machine) -> Found:
    """Add a tensor up over the ranks that torchrun or srun started, or else over the GPUs of this machine.

    On a CPU it is added up over two processes.
    """
    if machine.ranks:
        patience = {} if "RANGER21_PATIENCE" in os.environ else {"RANGER21_PATIENCE": str(PATIENCE)}
        with variables({**machine.ranks, **patience}):
            place = environment()
            if place and place["size"] > 1:
                return told(measure(machine.config.trainer.device), place["size"] > place["local_size"])
    here = device_of(machine)
    if here.type == "mps":
        return Found("one device: there is nothing to add up")
    ranks = torch.cuda.device_count() if here.type == "cuda" else 2
    if ranks < 2:
        return Found("one GPU: there is nothing to add up", numbers={"ranks": 1})
    return told(over_processes(ranks, here.type), False)


def told(numbers: Mapping[str, Any], nodes: bool) -> Found:
    """What was measured, as a row."""
    where = "over several nodes" if nodes else "on one node"
    size, ranks, rate = numbers["bytes"] >> 20, numbers["ranks"], numbers["bus_bytes_per_s"] / 1e9
    seen = f"{numbers['backend']}, {ranks} ranks {where}, {size} MiB: {rate:.3g} GB/s (bus)"
    if numbers["wrong"]:
        return Found(f"{seen}; the sum is wrong by {numbers['wrong']:g}", FAILED, REMEDY, numbers)
    return Found(seen, numbers=numbers)


def measure(device: str) -> dict[str, Any]:
    """Add up over the ranks that the environment names; return what was seen. Every rank calls it."""
    with distributed.join(device) as world:
        here = world.device
        size = BYTES.get(here.type, BYTES["cpu"])
        tensor = torch.full((size // 4,), world.rank + 1.0, device=here)
        wrong = float((world.reduce(tensor) - world.size * (world.size + 1) / 2).abs().max())
        taken = statistics.median(seconds(lambda: world.reduce(tensor), here, TIMES))
        bus = 2 * (world.size - 1) / world.size * size / taken  # what each link carries, as NCCL's tests count it
        backend = "NCCL" if here.type == "cuda" else "gloo"
        return {"backend": backend, "ranks": world.size, "bytes": size, "bus_bytes_per_s": bus, "wrong": wrong}


def over_processes(ranks: int, device: str) -> dict[str, Any]:
    """Start so many ranks on this machine, and return what rank 0 measured. Raises a UserError if one fails."""
    start = multiprocessing.get_context("forkserver")  # the device may be in use here: no plain fork
    start.set_forkserver_preload([__name__])
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here, there = start.Pipe(duplex=False)
    rest = (ranks, port, device, there)
    processes = [start.Process(target=one_rank, args=(rank, *rest), daemon=True) for rank in range(ranks)]
    try:
        for process in processes:
            process.start()
        there.close()
        if not here.poll(PATIENCE):
            raise UserError(f"{ranks} ranks on this machine were silent for {PATIENCE} s: {REMEDY}.")
        answer = here.recv()
    except EOFError as error:
        raise UserError(f"A rank of {ranks} on this machine died without a word: {REMEDY}.") from error
    finally:
        for process in processes:
            if process.pid is not None:  # it was started
                process.join(5)
                process.kill()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def one_rank(rank: int, ranks: int, port: int, device: str, answers: Connection) -> None:
    """Be one of the ranks."""
    own: dict[str, Any] = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()}
    try:
        answer: Any = measure(device)
    except Exception as error:
        answer = f"rank {rank} of {ranks}: {reason(error)}: {REMEDY}."
    if rank == 0 or isinstance(answer, str):
        answers.send(answer)


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
