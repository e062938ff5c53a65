"""The list of all kinds of faults, the only place that names them."""

from __future__ import annotations

from ranger21.faults import damages, signals, starts, surroundings
from ranger21.faults.kinds import TRACEBACK

KINDS = (*signals.KINDS, *surroundings.KINDS, *damages.KINDS, *starts.KINDS)
BY_NAME = {kind.name: kind for kind in KINDS}
BY_ITSELF = "none: something else was wrong"
WORDS = sorted({TRACEBACK, *(words for kind in KINDS for words in kind.says)})  # searched for in outputs
