"""Check of all-reduce and its bandwidth: NCCL between GPUs, gloo between processes on a CPU."""

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

from ranger21.machine.check import FAILED, CheckResult, Machine
from ranger21.machine.device import device_of, seconds
from ranger21.system import distributed
from ranger21.system.errors import UserError
from ranger21.system.ranks import environment
from ranger21.system.wording import reason

BYTES = {"cuda": 256 << 20, "cpu": 4 << 20}  # for cuda, more than twice ResNet50's gradients
TIMES = 5
PATIENCE = 300  # seconds; rank 0 does other checks first
REMEDY = "NCCL_DEBUG=INFO shows details; NCCL_SOCKET_IFNAME (GLOO_SOCKET_IFNAME) chooses the network (docs/cluster.md)"


def all_reduce(machine: Machine) -> CheckResult:
    """Sum a tensor over the ranks of torchrun or srun, else over this machine's GPUs, on a CPU over two processes."""
    if machine.ranks:
        patience = {} if "RANGER21_PATIENCE" in os.environ else {"RANGER21_PATIENCE": str(PATIENCE)}
        with variables({**machine.ranks, **patience}):
            place = environment()
            if place and place["size"] > 1:
                return told(measure(machine.config.trainer.device), place["size"] > place["local_size"])
    here = device_of(machine)
    if here.type == "mps":
        return CheckResult("only one device: there is nothing to sum")
    ranks = torch.cuda.device_count() if here.type == "cuda" else 2
    if ranks < 2:
        return CheckResult("only one GPU: there is nothing to sum", numbers={"ranks": 1})
    return told(over_processes(ranks, here.type), False)


def told(numbers: Mapping[str, Any], nodes: bool) -> CheckResult:
    """Return the check's result from the measured values."""
    where = "over several nodes" if nodes else "on one node"
    size, ranks, rate = numbers["bytes"] >> 20, numbers["ranks"], numbers["bus_bytes_per_s"] / 1e9
    seen = f"{numbers['backend']}, {ranks} ranks {where}, {size} MiB: {rate:.3g} GB/s (bus)"
    if numbers["wrong"]:
        return CheckResult(f"{seen}; the sum is wrong by {numbers['wrong']:g}", FAILED, REMEDY, numbers)
    return CheckResult(seen, numbers=numbers)


def measure(device: str) -> dict[str, Any]:
    """Sum a tensor over the environment's ranks and return the error and bandwidth. Every rank must call it."""
    with distributed.join(device) as world:
        here = world.device
        size = BYTES.get(here.type, BYTES["cpu"])
        tensor = torch.full((size // 4,), world.rank + 1.0, device=here)
        wrong = float((world.reduce(tensor) - world.size * (world.size + 1) / 2).abs().max())
        taken = statistics.median(seconds(lambda: world.reduce(tensor), here, TIMES))
        bus = 2 * (world.size - 1) / world.size * size / taken  # bus bandwidth as defined by NCCL's tests
        backend = "NCCL" if here.type == "cuda" else "gloo"
        return {"backend": backend, "ranks": world.size, "bytes": size, "bus_bytes_per_s": bus, "wrong": wrong}


def over_processes(ranks: int, device: str) -> dict[str, Any]:
    """Start ranks on this machine and return the measurement of rank 0. Raises a UserError if a rank fails."""
    start = multiprocessing.get_context("forkserver")  # not fork, because this process may use the device
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
            raise UserError(f"{ranks} ranks on this machine did not answer within {PATIENCE} s: {REMEDY}.")
        answer = here.recv()
    except EOFError as error:
        raise UserError(f"One of {ranks} ranks on this machine died without a message: {REMEDY}.") from error
    finally:
        for process in processes:
            if process.pid is not None:  # the process was started
                process.join(5)
                process.kill()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def one_rank(rank: int, ranks: int, port: int, device: str, answers: Connection) -> None:
    """Run as one of the ranks and send the measurement, or an error message, to `answers`."""
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
    """Set environment variables, and remove them at the end."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
