"""A world of one rank, and a stand-in for torch.distributed's store."""

from __future__ import annotations

import torch

from ranger21.system.distributed import World

WORLD = World(rank=0, size=1, local_rank=0, local_size=1, device=torch.device("cpu"))


class Store(dict):
    """A key-value store with the methods of torch.distributed's, in one process.

    Attributes:
        broken: whether writing fails, as after the connection is lost.
    """

    broken = False

    def set(self, key: str, value: str) -> None:
        if self.broken:
            raise RuntimeError("Connection reset by peer")
        self[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)
