"""Detection of ranks that have stopped or lost their node, long before a collective would time out."""

import os
import sys
import threading
from typing import Any

from ranger21.system.stalls import write_stacks

BEATS = 12  # missed beats after which a rank counts as lost


class Heartbeat:
    """Context manager that sends a beat every few seconds, and ends this process if another rank stops sending.

    Rank 0 watches all other ranks; they watch rank 0. SLURM and torchrun end the remaining processes. A thread sends
    the beats, also while the main thread waits for a disk or a collective; those waits have time limits of their own.
    """

    def __init__(self, store: Any, rank: int, size: int, patience: float) -> None:
        """Prepare the heartbeat; it starts on entry.

        Args:
            store: a torch.distributed store that nothing else uses, because a blocking call would block other users.
            patience: seconds of silence after which a rank counts as lost.
        """
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
        # Counted in this process's own beats, not in seconds, so that a job suspended by the scheduler misses none.
        while not self._over.wait(self.patience / BEATS):
            count += 1
            try:
                self.store.set(f"beat/{self.rank}", str(count))
                if count == 1:
                    continue  # the others may not have started
                for rank in self.watched:
                    beat = self.store.get(f"beat/{rank}") if self.store.check([f"beat/{rank}"]) else b""
                    missed[rank] = missed[rank] + 1 if beat == seen[rank] else 0
                    seen[rank] = beat
            except RuntimeError:  # raised by torch if the process that holds the store is gone
                self._give_up("the process that holds the ranks' store is gone")
                return
            silent = [str(rank) for rank in self.watched if missed[rank] >= BEATS]
            if silent:
                self._give_up(f"rank {', '.join(silent)} has been silent for {self.patience:g} s")
                return

    def _give_up(self, why: str) -> None:
        if self._over.wait(self.patience / BEATS):  # not a failure: the run ended on the other rank a moment earlier
            return
        write_stacks(why)
        sys.stderr.write(f"error: Rank {self.rank} stopped: {why}. Run the same command again to resume.\n")
        sys.stderr.flush()
        os._exit(1)
