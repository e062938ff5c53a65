"""Notices a rank that is silent: its node lost, its process stopped. A collective would wait for it much longer."""

import os
import sys
import threading
from typing import Any

from ranger21.system.stalls import write_stacks

BEATS = 12  # missed, before a rank is given up


class Heartbeat:
    """While entered, tells the other ranks every few seconds that this one lives, and ends it where another does not.

    Rank 0 looks after all others, the others after rank 0; SLURM and torchrun end those that are left. The beats are
    made by a thread: one that waits for a disk or a collective is alive, and other time limits are for that.
    """

    def __init__(self, store: Any, rank: int, size: int, patience: float) -> None:
        """`store`: of torch.distributed's, for this object alone, since a call that waits would keep others from it."""
        self.store, self.rank, self.patience = store, rank, patience
        self.watched = list(range(1, size)) if rank == 0 else [0]
        self._over = threading.Event()

    def __enter__(self) -> "Heartbeat":
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _beat(self) -> None:
        seen, missed, count = dict.fromkeys(self.watched, b""), dict.fromkeys(self.watched, 0), 0
        # Counted in beats of this process, not in seconds: a job that the scheduler suspends misses none.
        while not self._over.wait(self.patience / BEATS):
            count += 1
            try:
                self.store.set(f"beat/{self.rank}", str(count))
                if count == 1:
                    continue  # the others may not have begun
                for rank in self.watched:
                    beat = self.store.get(f"beat/{rank}") if self.store.check([f"beat/{rank}"]) else b""
                    missed[rank] = missed[rank] + 1 if beat == seen[rank] else 0
                    seen[rank] = beat
            except RuntimeError:  # what torch raises if the process that holds the store is gone
                self._give_up("the rank that all others talk to is gone")
                return
            silent = [str(rank) for rank in self.watched if missed[rank] >= BEATS]
            if silent:
                self._give_up(f"rank {', '.join(silent)} has been silent for {self.patience:g} s")
                return

    def _give_up(self, why: str) -> None:
        if self._over.wait(self.patience / BEATS):  # no failure: the run has ended, there a moment before here
            return
        write_stacks(why)
        sys.stderr.write(f"error: Rank {self.rank} ends, since {why}: the same command goes on from the checkpoint.\n")
        sys.stderr.flush()
        os._exit(1)
