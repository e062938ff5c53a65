"""ImageNet's wnids, and which wnid a dataset's own name for a class means. Imports no torch.

timm has the tables. They are read as files, because importing timm takes seconds and imports torch.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ranger21.downloads.labels import WNID
from ranger21.system.errors import UserError

ENOUGH = 990  # of ImageNet's 1000 names; copies of the list differ in the few that two classes share, such as "crane"


def imagenet_wnids() -> list[str]:
    """Return the wnids of ImageNet-1k, sorted, which is the order of its labels."""
    return _table("imagenet_synsets.txt")


def wnids_of(names: Sequence[str]) -> list[str] | None:
    """Return the wnid of each class of a dataset, or None if the names do not tell them.

    Args:
        names: The dataset's names of its classes, in the order of its labels: wnids, or ImageNet's descriptions, such
            as "tench, Tinca tinca".
    """
    if all(re.fullmatch(WNID, name, re.ASCII) for name in names):
        return list(names) if len(set(names)) == len(names) else None
    wnids = imagenet_wnids()
    descriptions = dict(line.split("\t") for line in _table("imagenet_synset_to_lemma.txt"))
    known = [_plain(descriptions[wnid]) for wnid in wnids]
    plain = [_plain(name) for name in names]
    if len(names) == len(wnids) and sum(a == b for a, b in zip(plain, known, strict=True)) >= ENOUGH:
        return wnids
    unique = {name: wnid for name, wnid in zip(known, wnids, strict=True) if known.count(name) == 1}
    if len(set(plain)) < len(plain) or not set(plain) <= unique.keys():
        return None
    return [unique[name] for name in plain]


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _table(name: str) -> list[str]:
    spec = find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("The names of ImageNet's classes are read from timm, which is not installed: pip install timm")
    return (Path(spec.submodule_search_locations[0]) / "data" / "_info" / name).read_text().splitlines()
