"""Communication between ranks. Only this module uses torch.distributed; a single rank needs no process group."""

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
TIMEOUT = datetime.timedelta(
    minutes=10
)  # timeout of a collective: long enough for rank 0 to read an index and for workers to restart
LONG = datetime.timedelta(hours=12)  # timeout of `World.apart`


@dataclass(frozen=True)
class World:
    """This process's rank of `size`, its local rank of `local_size` on its node, and its device."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0

    def describe(self) -> str:
        """Return the device's name for the records."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, CUDA {torch.version.cuda}"
        return str(self.device)

    def on_main(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 and return its result on every rank; a UserError is raised on every rank."""
        if self.size == 1:
            return function()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = function()
            except Exception as error:  # without the broadcast the other ranks would wait forever
                box[1] = str(error)
                if not isinstance(error, UserError):
                    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
                    raise
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if box[1] is not None:
            raise UserError(box[1])
        return box[0]

    def reduce(self, tensor: Tensor, how: str = "sum") -> Tensor:
        """Return the sum, min or max over the ranks as a new tensor on every rank, without synchronizing the host."""
        result = tensor.clone()
        if self.size > 1:
            dist.all_reduce(
                result, op={"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}[how]
            )
        return result

    def apart(self, work: Callable[[], int]) -> int:
        """Call `work`, which may take hours, on every rank and return the largest result."""
        if self.size == 1:
            return work()
        group: Any = dist.new_group(timeout=LONG, backend="gloo")
        largest = torch.tensor(work())
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        dist.destroy_process_group(group)
        return int(largest)

    def gather(self, items: list[str]) -> list[str]:
        """Return the sorted union of all ranks' items on every rank."""
        everyone = [items] * self.size
        if self.size > 1:
            dist.all_gather_object(everyone, items)
        return sorted({item for some in everyone for item in some})

    def wrap(self, model: nn.Module, share_buffers: bool = True) -> nn.Module:
        """Return the model wrapped to average gradients over the ranks in its backward pass.

        Each forward pass begins with rank 0's buffers, unless `share_buffers` is False.
        """
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model, device_ids=ids, gradient_as_bucket_view=True, broadcast_buffers=share_buffers
        )

    def share_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's buffers, such as batch norm's running statistics, to every rank."""
        if self.size > 1:
            for tensor in model.buffers():
                dist.broadcast(tensor, src=0)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that `World.wrap` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def no_sync(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Skip gradient synchronization inside; the next backward pass outside synchronizes the accumulated gradients."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()


class Agreement:
    """Integer flags whose maximum over the ranks every rank sees at the same step.

    The exchange runs on the CPU while the step is computed: a flag raised at one step reaches all ranks at the next.
    """

    def __init__(self, world: World, flags: int) -> None:
        self._world, self._flags = world, flags
        self._values = torch.zeros(flags, dtype=torch.int64)
        self._work: Any = None

    def exchange(self, *flags: int) -> list[int]:
        """Start the exchange of `flags` and return the maxima of the previous exchange."""
        if self._world.size == 1:
            return list(flags)
        agreed = self.wait()
        self._values = torch.tensor(flags, dtype=torch.int64)
        self._work = dist.all_reduce(self._values, op=dist.ReduceOp.MAX, async_op=True)
        return agreed

    def wait(self) -> list[int]:
        """Wait for the current exchange and return the maxima; zeros if there is none."""
        if self._work is None:
            return [0] * self._flags
        self._work.wait()
        self._work = None
        return self._values.tolist()


def choose_device(name: str, local_rank: int) -> torch.device:
    """Return the device of this rank. Raises a UserError if it does not exist."""
    if name == "auto":
        mps = torch.backends.mps.is_available() and "WORLD_SIZE" not in os.environ
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(
                f"trainer.device={name}: torch {torch.__version__} sees no CUDA device; use trainer.device=cpu."
            )
        if ":" in name and "WORLD_SIZE" in os.environ:
            raise UserError(f"trainer.device={name} would put every rank on the same GPU: use trainer.device=cuda.")
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
    """Set up the process group, yield this process's World, and destroy the group afterwards.

    Args:
        traces: folder for NCCL's flight recorder if a collective fails; None keeps the user's own setting.

    Raises a UserError if the ranks cannot connect, or if another rank exits.
    """
    place = environment() or {"rank": 0, "size": 1, "local_rank": 0, "local_size": 1}
    chosen = choose_device(device, place["local_rank"])
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    world = World(device=chosen, **place)
    if world.size == 1:
        if (tasks := tasks_left_alone()) > 1:
            log.warning(
                "SLURM granted %d tasks, but only this process runs: start it with srun to use one rank per task.",
                tasks,
            )
        yield world
        return
    patience = seconds_of_patience()
    if world.size == world.local_size and any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # ranks on one node need no network
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
            f"Rank {world.rank} lost its connection ({reason(error)}). "
            "Another rank exited; see its output for the reason."
        ) from error
    dist.destroy_process_group()  # not after an error, because it could wait forever for ranks in the middle of a step


def meet(world: World, patience: float) -> tuple[Any, Any]:
    """Connect to the rendezvous store on rank 0's node; return it and a second connection for the heartbeat.

    Args:
        patience: seconds to wait for the other ranks.

    Raises a UserError if a rank does not connect in time.
    """
    address, port = (os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        timeout = datetime.timedelta(seconds=patience)
        by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun has opened the store
        listening = listen(address, int(port), world) if world.main and not by_torchrun else None
        if listening is None:
            store, _, _ = next(rendezvous("env://", world.rank, world.size, timeout=timeout))
        else:
            store = TCPStore(address, int(port), world.size, True, timeout, master_listen_fd=listening)
        return store, TCPStore(address, int(port), timeout=timeout, wait_for_workers=False)
    except (dist.DistError, ValueError) as error:
        why = reason(error)
        if "EADDRINUSE" in why or "in use" in why:
            raise UserError(f"Port {port} of {address} is taken: set MASTER_PORT to a free port.") from error
        raise UserError(
            f"Rank {world.rank} of {world.size} did not meet the others at {address}:{port} within {patience:g} s: "
            f"look at their output, or set RANGER21_PATIENCE to more seconds if nodes start slowly ({why})."
        ) from error


def listen(address: str, port: int, world: World) -> int | None:
    """Open a socket that listens at MASTER_ADDR only; torch's own store would listen on all network interfaces.

    Return its descriptor, or None to let torch open the socket: if other nodes may reach this one by another address
    (MASTER_ADDR resolves to the loopback, or to an address that this node does not have), or if the port is taken,
    which torch reports.
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
