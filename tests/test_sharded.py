"""Parameters spread over two ranks: FSDP2, tensor parallelism, distributed checkpoints, for every optimizer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from problems import AROUND, EVERY
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

SAVED, LAST = 6, 9  # steps: after a merge of lookahead, and between two
CLOSE, ALL = 1e-12, EVERY | AROUND


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 4)).double()


def fully_sharded(mesh: DeviceMesh) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    model = network()
    for layer in (0, 2, 3):
        fully_shard(model[layer], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(mesh: DeviceMesh) -> nn.Module:
    """The linear layers' rows are on both ranks; the norm's parameters are plain."""
    plan = {name: ColwiseParallel(output_layouts=Replicate()) for name in ("0", "3")}
    return parallelize_module(network(), mesh, plan)


def train(model: nn.Module, optimizer: Any, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    optimizer.zero_grad()
    F.cross_entropy(model(images), torch.randint(4, (8,), generator=generator)).backward()
    optimizer.step()


def distance(plain: nn.Module, spread: nn.Module) -> float:
    pairs = zip(plain.parameters(), spread.parameters(), strict=True)
    return max(
        float((a - (b.full_tensor() if hasattr(b, "full_tensor") else b)).detach().abs().max()) for a, b in pairs
    )


def compare(make: Any, spread: Any, mesh: DeviceMesh, folder: Path) -> tuple[float, float]:
    """How far it is from one rank's after some steps, and after more that go on from a distributed checkpoint."""
    plain, shared = network(), spread(mesh)
    optimizers = make(list(plain.parameters())), make(list(shared.parameters()))
    for step in range(SAVED):
        train(plain, optimizers[0], step)
        train(shared, optimizers[1], step)
    first = distance(plain, shared)
    if spread is tensor_parallel:
        return first, 0.0  # its checkpoints are made as the others
    weights, state = get_state_dict(shared, optimizers[1])
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder)
    again = spread(mesh)
    with torch.no_grad():
        for param in again.parameters():
            param.add_(1.0)
    optimizer = make(list(again.parameters()))
    weights, state = get_state_dict(again, optimizer)
    loaded = {"model": weights, "optimizer": state}
    dcp.load(loaded, checkpoint_id=folder)
    set_state_dict(again, optimizer, model_state_dict=loaded["model"], optim_state_dict=loaded["optimizer"])
    for step in range(SAVED, LAST):
        train(plain, optimizers[0], step)
        train(again, optimizer, step)
    return first, distance(plain, again)


def rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=number, world_size=2, init_method=f"file://{folder}/store")
    mesh = init_device_mesh("cpu", (2,))
    for spread in (fully_sharded, tensor_parallel):
        for i, (name, make) in enumerate(ALL.items()):
            found = compare(make, spread, mesh, Path(folder) / f"{spread.__name__}-{i}")
            if max(found) > CLOSE:
                sys.exit(f"{spread.__name__}, {name}: {found}")
    dist.destroy_process_group()


@pytest.mark.skipif(not hasattr(torch.distributed, "init_process_group"), reason="torch without distribution")
def test_two_ranks_do_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank, args=(str(tmp_path),), nprocs=2)
