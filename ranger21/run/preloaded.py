"""Import what a run needs in less time: for train.py, and for fork servers, whose processes then need not import."""

from ranger21.system.importing import without_collecting_garbage

with without_collecting_garbage():
    from ranger21.run.experiment import run

__all__ = ["run"]
