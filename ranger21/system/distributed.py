"""Ranks: the only module that knows that there may be several. With one, everything here is a plain function call."""

import contextlib
import datetime
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ranger21.system.errors import UserError
from ranger21.system.heartbeat import Heartbeat
from ranger21.system.ranks import environment, record_collectives, seconds_of_patience, tasks_left_alone
from ranger21.system.wording import reason

T = TypeVar("T")
log = logging.getLogger("ranger21")
TIMEOUT = datetime.timedelta(minutes=10)  # of a collective: rank 0 reads an index meanwhile, a loader is started anew
LONG = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """This process's place among all: `rank` of `size`, `local_rank` of `local_size` on its node, and its device."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0

    def describe(self) -> str:
        """The device by its own name, for the records."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, CUDA {torch.version.cuda}"
        return str(self.device)

    def on_main(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0, and return its result on every rank. A UserError there is raised everywhere."""
        if self.size == 1:
            return function()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = function()
            except Exception as error:  # the others must hear of it, or they would wait for ever
                box[1] = str(error)
                if not isinstance(error, UserError):
                    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
                    raise
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if box[1] is not None:
            raise UserError(box[1])
        return box[0]

    def reduce(self, tensor: Tensor, how: str = "sum") -> Tensor:
        """The sum, min or max over the ranks, in a new tensor on every rank. The host does not wait for it."""
        result = tensor.clone()
        if self.size > 1:
            dist.all_reduce(
                result, op={"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}[how]
            )
        return result

    def apart(self, work: Callable[[], int]) -> int:
        """The largest of what `work` returns on the ranks, each of which may take hours for it."""
        if self.size == 1:
            return work()
        group: Any = dist.new_group(timeout=LONG, backend="gloo")
        largest = torch.tensor(work())
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        dist.destroy_process_group(group)
        return int(largest)

    def gather(self, items: list[str]) -> list[str]:
        """The different items of all ranks, sorted, on every rank."""
        everyone = [items] * self.size
        if self.size > 1:
            dist.all_gather_object(everyone, items)
        return sorted({item for some in everyone for item in some})

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages the gradients over the ranks."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's buffers (batch norm's statistics), which are the run's."""
        if self.size > 1:
            for tensor in model.buffers():
                dist.broadcast(tensor, src=0)


def no_sync(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Backward passes inside keep their gradients on this rank; the one after adds them up and shares them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()


class Agreement:
    """Small integers (flags) of which every rank sees the largest that any rank raised, alike at the same step.

    The exchange runs on the CPU beside the step: what is raised at one step is known to all at the next.
    """

    def __init__(self, world: World, flags: int) -> None:
        self._world, self._flags = world, flags
        self._values = torch.zeros(flags, dtype=torch.int64)
        self._work: Any = None

    def exchange(self, *flags: int) -> list[int]:
        """Raise `flags` and return what is agreed."""
        if self._world.size == 1:
            return list(flags)
        agreed = self.wait()
        self._values = torch.tensor(flags, dtype=torch.int64)
        self._work = dist.all_reduce(self._values, op=dist.ReduceOp.MAX, async_op=True)
        return agreed

    def wait(self) -> list[int]:
        """End the exchange under way, and return its outcome."""
        if self._work is None:
            return [0] * self._flags
        self._work.wait()
        self._work = None
        return self._values.tolist()


def choose_device(name: str, local_rank: int) -> torch.device:
    """The device of this rank. Raises a UserError if it is not there."""
    if name == "auto":
        mps = torch.backends.mps.is_available() and "WORLD_SIZE" not in os.environ
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(
                f"trainer.device={name}: torch {torch.__version__} sees no CUDA device; use trainer.device=cpu."
            )
        if ":" in name and "WORLD_SIZE" in os.environ:
            raise UserError(f"trainer.device={name} would put every rank on one GPU: use trainer.device=cuda.")
        index = int(name.partition(":")[2] or local_rank % torch.cuda.device_count())
        if index >= torch.cuda.device_count():
            raise UserError(
                f"trainer.device={name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0."
            )
        return torch.device("cuda", index)
    if name.startswith("mps") and not torch.backends.mps.is_available():
        raise UserError(f"trainer.device={name}: torch {torch.__version__} sees no MPS device; use trainer.device=cpu.")
    return torch.device(name)


@contextlib.contextmanager
def join(device: str, traces: Path | None = None) -> Iterator[World]:
    """The world this process belongs to; the process group is set up and taken down around it.

    `traces`: where NCCL's flight recorder writes if a collective fails; None: where the user has it write.
    """
    place = environment() or {"rank": 0, "size": 1, "local_rank": 0, "local_size": 1}
    chosen = choose_device(device, place["local_rank"])
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    world = World(device=chosen, **place)
    if world.size == 1:
        if (tasks := tasks_left_alone()) > 1:
            log.warning(
                "SLURM has granted %d tasks, and this process works alone: srun would start one for each.", tasks
            )
        yield world
        return
    patience = seconds_of_patience()
    if world.size == world.local_size and any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one node's ranks need no network
    store, line = meet(world, patience)
    if traces:
        record_collectives(traces)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=TIMEOUT)
        with Heartbeat(line, world.rank, world.size, patience):
            yield world
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise UserError(
            f"Rank {world.rank} lost the others, of which one has ended; it says why ({reason(error)})."
        ) from error
    dist.destroy_process_group()  # after an error it could wait for ever: other ranks are in the middle of a step


def meet(world: World, patience: float) -> tuple[Any, Any]:
    """Connect to the store through which the ranks meet, on rank 0's node; return it and a second line to it.

    Raises a UserError if a rank does not come.
    """
    address, port = (os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        timeout = datetime.timedelta(seconds=patience)
        by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # which has opened it already
        listening = listen(address, int(port), world) if world.main and not by_torchrun else None
        if listening is None:
            store, _, _ = next(rendezvous("env://", world.rank, world.size, timeout=timeout))
        else:
            store = TCPStore(address, int(port), world.size, True, timeout, master_listen_fd=listening)
        return store, TCPStore(address, int(port), timeout=timeout, wait_for_workers=False)
    except (dist.DistError, ValueError) as error:
        why = reason(error)
        if "EADDRINUSE" in why or "in use" in why:
            raise UserError(f"Port {port} of {address} is taken: set MASTER_PORT to one that is free.") from error
        raise UserError(
            f"Rank {world.rank} of {world.size} did not meet the others at {address}:{port} within {patience:g} s: "
            f"look at their output, or set RANGER21_PATIENCE to more seconds where nodes begin slowly ({why})."
        ) from error


def listen(address: str, port: int, world: World) -> int | None:
    """Open a socket that listens at MASTER_ADDR only; torch's store would listen at all addresses, to anybody.

    Return None, so that torch does it, where other nodes may know this one by another address: where its name means
    the loopback here, or an address that this node does not have. Also where the port is taken, which torch reports.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        named = address != "localhost" and place[0] != address
        if named and world.size > world.local_size and ipaddress.ip_address(place[0]).is_loopback:
            return None
        with contextlib.closing(socket.socket(family)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(place)
            server.listen(socket.SOMAXCONN)
            return server.detach()
    except OSError:
        return None
