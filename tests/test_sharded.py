"""Parameters sharded over two ranks, for every optimizer: FSDP2, tensor parallelism, distributed checkpoints."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from support.optimizers import SHARDED
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

SAVED, LAST = 5, 7  # steps: the last step before the checkpoint is a lookahead merge
CLOSE = 1e-12
Side = tuple[nn.Module, Any]  # a model and its optimizer
Pair = tuple[Side, Side]  # on one rank, and on two ranks


def network() -> nn.Module:
    """Return a network with rows that two ranks cannot share evenly, a matrix of one row, and one of one column."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 1), nn.Linear(1, 4)).double()


def fully_sharded(mesh: DeviceMesh) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    return fully_shard(network(), mesh=mesh)


def tensor_parallel(mesh: DeviceMesh) -> nn.Module:
    """The first layer's rows are on both ranks; the other parameters are plain."""
    return parallelize_module(network(), mesh, {"0": ColwiseParallel(output_layouts=Replicate())})


def train(model: nn.Module, optimizer: Any, steps: Iterable[int]) -> None:
    for step in steps:
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


def check(name: str, pair: Pair) -> None:
    if (found := distance(pair[0][0], pair[1][0])) > CLOSE:
        sys.exit(f"{name}: {found}")


def trained(make: Any, model: nn.Module) -> Side:
    optimizer = make(list(model.parameters()))
    train(model, optimizer, range(SAVED))
    return model, optimizer


def state_of(side: Side) -> dict[str, Any]:
    return dict(zip(("model", "optimizer"), get_state_dict(*side), strict=True))


def continue_from_a_checkpoint(pairs: dict[str, Pair], mesh: DeviceMesh, folder: str) -> None:
    """Replace each sharded model and optimizer with new ones, loaded from a distributed checkpoint of the old ones."""
    dcp.save({name: state_of(shared) for name, (_, shared) in pairs.items()}, checkpoint_id=folder)
    again: dict[str, Any] = {}
    for name, (plain, _) in pairs.items():
        model = fully_sharded(mesh)
        with torch.no_grad():
            for param in model.parameters():
                param.add_(1.0)
        pairs[name] = plain, (model, SHARDED[name](list(model.parameters())))
        again[name] = state_of(pairs[name][1])
    dcp.load(again, checkpoint_id=folder)
    for name, (_, shared) in pairs.items():
        set_state_dict(*shared, model_state_dict=again[name]["model"], optim_state_dict=again[name]["optimizer"])


def check_zero_redundancy() -> None:
    """Optimizers that need only whole tensors work with ZeroRedundancyOptimizer; the others refuse it."""
    for name in ("ranger21", "chain, lamb"):
        train(*trained(lambda params, one=name: ZeroRedundancyOptimizer(params, SHARDED[one]), network()), range(1))
    for name in ("ranger21, global", "official, july2021", "chain, global"):
        with pytest.raises(ValueError, match="must see all parameters whole, but ZeroRedundancyOptimizer"):
            ZeroRedundancyOptimizer(network().parameters(), SHARDED[name])


def rank(number: int, folder: str) -> None:
    faulthandler.enable()  # prints the stack of a rank that is aborted
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=number, world_size=2, init_method=f"file://{folder}/store")
    mesh = init_device_mesh("cpu", (2,))
    plain = {name: trained(make, network()) for name, make in SHARDED.items()}
    for name, make in SHARDED.items():
        check(f"{name}, tensor parallel", (plain[name], trained(make, tensor_parallel(mesh))))
    pairs = {name: (plain[name], trained(make, fully_sharded(mesh))) for name, make in SHARDED.items()}
    for name, pair in pairs.items():
        check(f"{name}, fully sharded", pair)
    continue_from_a_checkpoint(pairs, mesh, f"{folder}/checkpoint")
    for name, pair in pairs.items():
        for side in pair:
            train(*side, range(SAVED, LAST))
        check(f"{name}, from a checkpoint", pair)
    check_zero_redundancy()
    dist.barrier()  # neither rank exits while the other still communicates with it
    dist.destroy_process_group()


@pytest.mark.skipif(not hasattr(torch.distributed, "init_process_group"), reason="torch without distribution")
def test_two_ranks_compute_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank, args=(str(tmp_path),), nprocs=2)
