"""ImageNet's development kit, as its archive or unpacked: the classes of the validation images. Imports no torch."""

import gzip
import io
import re
import tarfile
from pathlib import Path
from typing import Any

from ranger21.data.names import LONGEST
from ranger21.downloads.parts import reading
from ranger21.system.errors import UserError
from ranger21.system.memory import at_most

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
TRUTH, META = (f"ILSVRC2012_devkit_t12/data/{name}" for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"))
LARGEST_DEVKIT = 1 << 26  # bytes when unpacked, far more than the real one has


def read_devkit(file: Path) -> tuple[list[str], set[str]]:
    """Return the wnids of all validation images, by number, and the set of all wnids.

    Args:
        file: The archive, or the folder that contains the unpacked folder.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"Reading {DEVKIT} needs scipy: pip install 'ranger21-imagenet[prepare]'") from error
    with reading(file):
        truth, meta = _unpacked(file) if file.is_dir() else _packed(file)
        with at_most(4 * LARGEST_DEVKIT):
            synsets: Any = loadmat(io.BytesIO(meta), variable_names=["synsets"])["synsets"].ravel()
        leaves = [synset for synset in synsets if synset["num_children"].item() == 0]
        wnids = {int(leaf["ILSVRC2012_ID"].item()): str(leaf["WNID"].item()) for leaf in leaves}
        numbers = [int(line) for line in truth.split()]
    if odd := [wnid for wnid in wnids.values() if not re.fullmatch(r"n\d{8}", wnid, re.ASCII)]:
        text = "which is not a wnid such as n01440764. Download it again"
        raise UserError(f"{file} has a class {odd[0][:LONGEST]!a}, {text}.")
    if unknown := set(numbers) - set(wnids):
        raise UserError(f"{file} assigns a validation image to the unknown class {min(unknown)}. Download it again.")
    return [wnids[number] for number in numbers], set(wnids.values())


def _packed(file: Path) -> list[bytes]:
    with gzip.open(file) as packed:
        content = packed.read(LARGEST_DEVKIT + 1)
    if len(content) > LARGEST_DEVKIT:
        raise ValueError(f"it expands to more than {LARGEST_DEVKIT:,} bytes")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return [_content(tar, name) for name in (TRUTH, META)]


def _unpacked(folder: Path) -> list[bytes]:
    contents = []
    for name in (TRUTH, META):
        with open(folder / name, "rb") as stream:
            contents.append(stream.read(LARGEST_DEVKIT + 1))
    if max(map(len, contents)) > LARGEST_DEVKIT:
        raise ValueError(f"it has more than {LARGEST_DEVKIT:,} bytes")
    return contents


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.getmember(name)
    data = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if data is None:
        raise tarfile.ReadError(f"{name} is not a file")
    return data.read()
