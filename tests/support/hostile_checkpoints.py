"""Hostile checkpoints: some that torch.save can write, and some that need a special program."""

from __future__ import annotations

import codecs
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Call:
    """A value that unpickling makes by calling a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.called


def write_pickle(path: Path, data: bytes, **records: bytes) -> None:
    """Write an archive as torch does, with an arbitrary pickle, given without its first bytes `\\x80\\x02`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": b"\x80\x02" + data, "version": b"3\n", **records}.items():
            archive.writestr(f"archive/{name}", content)


def copy_archive(
    source: Path, target: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """Copy an archive, edit the contents of its records, and correct their checksums."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            new.writestr(info.filename, edit(info.filename, old.read(info)))


def doubled(value: Any, times: int = 60) -> Any:
    """Return nested lists that consist of few objects but expand to 2 ** times values."""
    for _ in range(times):
        value = [value, value]
    return value


def wide(size: int) -> torch.Tensor:
    """Return a tensor of any size whose storage holds one number."""
    return torch.zeros(1).expand(size)


def hostile_values(canary: Path) -> dict[str, tuple[Any, str]]:
    """Return, by file name, hostile values that torch.save can write and a part of the error message for each."""
    hexed: Any = "x"
    for _ in range(40):
        hexed = Call(codecs.encode, hexed, "hex")
    storage = torch.zeros(4).untyped_storage()
    whole = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    rebuild = torch._utils._rebuild_tensor_v2  # type: ignore[attr-defined]
    endless: list[Any] = []
    endless.append(endless)
    return {
        "mkdir": (Call(os.mkdir, str(canary)), "running code in it (it contains posix.mkdir"),
        "system": (Call(os.system, f"touch {canary}"), "running code in it (it contains posix.system"),
        "eval": (Call(eval, f"open({str(canary)!r}, 'w')"), "running code in it (it contains eval"),
        "import": (Call(getattr, Call(__import__, "os"), "getcwd"), "running code in it (it contains getattr"),
        "hex": ({"model": {"w": hexed}}, "running code in it (it contains _codecs.encode"),
        "bytes": ({"model": {"w": Call(bytearray, 1 << 45)}}, "running code in it (it contains bytearray"),
        "tensor": ({"model": {"w": Call(torch.Tensor, 1 << 45)}}, "running code in it (it contains torch.Tensor"),
        "storage": ({"model": {"w": Call(torch.UntypedStorage, 1 << 45)}}, "storage.pt"),
        "outside": ({"model": {"w": Call(rebuild, whole, 2, (8,), (1,), False, None)}}, "outside.pt is damaged"),
        "negative": ({"model": {"w": Call(rebuild, whole, -9, (1,), (1,), False, None)}}, "negative.pt is damaged"),
        "wide": ({"model": {"w": wide(1 << 45)}}, "has fewer values than its shape requires"),
        "doubled": ({"model": {"w": doubled(torch.zeros(1))}}, "nested too deep"),
        "config": (
            {"model": {"w": torch.zeros(1)}, "config": doubled(1), "data": {}},
            "nested too deep",
        ),
        "endless": (
            {"model": {"w": torch.zeros(1)}, "config": endless, "data": {}},
            "nested too deep",
        ),
        "names": ({"model": {"\x1b[2J\nw": torch.zeros(1)}}, "names.pt"),
        "keys": ({"model": {1: torch.zeros(1), (2, 3): torch.zeros(1)}}, "keys.pt"),
    }


def write_hostile_checkpoints(folder: Path, canary: Path, known: Path) -> dict[str, str]:
    """Write hostile checkpoints into a folder; return a part of the error message for each, by file name.

    Args:
        known: A run's checkpoint, from which some of them are made.
    """
    said = {f"{name}.pt": words for name, (_, words) in hostile_values(canary).items()}
    for name, (value, _) in hostile_values(canary).items():
        torch.save(value, folder / f"{name}.pt")
    torch.save({"model": hostile_values(canary)["hex"][0]}, folder / "old.pt", _use_new_zipfile_serialization=False)
    deep = b"]" * 200_000 + b"a" * 199_999 + b"."
    tuples = b"K\x01" + b"\x85" * 200_000 + b"."  # hashing it would crash the process
    write_pickle(folder / "deep.pt", deep)
    write_pickle(folder / "deep-key.pt", b"}" + tuples[:-1] + b"K\x01s.")
    write_pickle(folder / "hash.pt", b"}K\x01" + b"q\x01h\x01\x86" * 60 + b"K\x01s.")  # 2 ** 60 hashes
    write_pickle(folder / "string.pt", b"X\xff\xff\xff\xffabc.")
    write_pickle(folder / "hollow.pt", b".")
    copy_archive(known, folder / "bomb.pt", lambda _, data: data, zipfile.ZIP_DEFLATED)
    copy_archive(known, folder / "short.pt", lambda name, data: data[:8] if name.endswith("data/0") else data)
    with zipfile.ZipFile(folder / "zeros.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))
    with open(folder / "hole.pt", "wb") as file:
        file.truncate(1 << 41)
    os.mkfifo(folder / "pipe.pt")
    (folder / "zero.pt").symlink_to("/dev/zero")
    (folder / "loop.pt").symlink_to("loop.pt")
    (folder / "folder.pt").mkdir()
    (folder / "memory.pt").symlink_to("/proc/self/mem")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), folder / "script.pt")
    return said | {
        "old.pt": "running code in it (it contains _codecs.encode", "deep.pt": "nested too deep",
        "deep-key.pt": "nested too deep", "hash.pt": "nested too deep", "string.pt": "string.pt is damaged",
        "hollow.pt": "hollow.pt is damaged", "bomb.pt": "is compressed, which torch never does",
        "short.pt": "short.pt is damaged", "zeros.pt": "is compressed, which torch never does",
        "hole.pt": "hole.pt", "pipe.pt": "Not a regular file", "zero.pt": "Not a regular file",
        "loop.pt": "Too many levels of symbolic links", "folder.pt": "folder.pt",
        "memory.pt": "memory.pt cannot be read (Input/output error)", "script.pt": "it is a TorchScript program",
    }  # fmt: skip


def changed_runs(canary: Path, evil: Path) -> dict[str, tuple[tuple[str, ...], Any, str, str]]:
    """Return changes to a run's checkpoint: the keys, the new value, and the answers of evaluate.py and export.py.

    Args:
        evil: A checkpoint that would run code.
    """
    kwargs, data = ("config", "model", "kwargs"), ("config", "data")
    target = {"_target_": "os.system", "_args_": [f"touch {canary}"]}
    code = f"x=open({str(canary)!r}, 'w') or 1"
    path, taken = "model.kwargs.checkpoint_path cannot be set", "timm.create_model("
    not_one, not_ours = "but does not record the run that made them", "train.py did not write it"
    return {
        "kwargs-code": (kwargs, {code: 1}, "unexpected keyword argument", "which is not an argument name"),
        "kwargs-lambda": (kwargs, {"lambda": 1}, "unexpected keyword argument", "which is not an argument name"),
        "kwargs-path": (kwargs, {"checkpoint_path": str(evil)}, path, path),
        "kwargs-target": (kwargs, {"act_layer": target}, "'dict' object is not callable", taken),
        "kwargs-tensor": (kwargs, {"drop_rate": torch.zeros(1)}, "model.kwargs.drop_rate", "model.kwargs.drop_rate"),
        "target": (data, target, "data=None of a run is invalid", "data=None of a run is invalid"),
        "data": ((*data, "name"), "../x,y", "data='../x,y' of a run is invalid", "data='../x,y' of a run is invalid"),
        "name-code": (("config", "model", "name"), "os.system", "model=os.system does not exist", taken),
        "name-control": (("config", "model", "name"), "\x1b]0;x\x07", "model=\\x1b]0;x\\x07 does not exist", taken),
        "name-list": (("config", "model", "name"), ["x"], "model.name=['x'] is invalid", "model.name=['x']"),
        "hydra": (("config", "hydra"), {"launcher": target}, not_ours, not_ours),
        "defaults": (("config", "defaults"), [{"data": "../../../../etc/x"}], not_ours, not_ours),
        "classes": (("data", "classes"), 10**12, "has no head with the 1000000000000 classes", taken),
        "classes-text": (("data", "classes"), "10", not_one, not_one),
        "channels": (("data", "channels"), 10**12, "was trained on images with 1000000000000 channels", taken),
        "class-names": (("data", "names"), [1, 2], not_one, not_one),
        "config-list": (("config",), [], not_one, not_one),
        "format": (("format",), "\x1b[2J", "the format is \\x1b[2J", "the format is \\x1b[2J"),
    }


def write_changed_runs(folder: Path, canary: Path, known: Path) -> dict[str, tuple[str, str]]:
    """Write changed copies of a run's checkpoint into a folder; return both commands' answers, by file name."""
    changes = changed_runs(canary, folder / "mkdir.pt")
    for name, (place, value, *_) in changes.items():
        state = torch.load(known, weights_only=True)
        part = state
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        torch.save(state, folder / f"{name}.pt")
    return {f"{name}.pt": (evaluated, exported) for name, (_, _, evaluated, exported) in changes.items()}
