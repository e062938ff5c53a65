"""Checks of a pickle's opcodes before it is loaded.

torch's `weights_only` loading calls only functions that are considered harmless. Some of them can fill the memory from
a small file, and so can containers nested many times. Both are refused here.
"""

import pickletools
from typing import IO, Any

import torch

MOST = 2_000_000  # values in one file, counting repeated references to the same value
ROOM = 1 << 26  # bytes by which a tensor may exceed its storage in the file, as an expanded tensor does
DEEPEST = 200  # levels of nesting; a run's checkpoint has less than ten
REBUILT = ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
PLAIN = {  # the functions and types that files of tensors and plain values need
    *(f"torch._utils._rebuild_{kind}" for kind in REBUILT),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "complex")),
    "collections.OrderedDict", "collections.Counter", "argparse.Namespace", "torch.Size", "torch.device",
    "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
}  # fmt: skip
Value = tuple[int, int]  # the number of values in a value, including itself, and its depth
FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")  # operations that add to an existing container


class Unusual(Exception):
    """Error for a pickle that calls more than tensors and plain values need; the message names the function."""


def check_pickle(file: IO[bytes]) -> None:
    """Read the opcodes of one pickle to its end.

    Raises `Unusual` for a call of anything not allowed by `is_plain`, and ValueError for too many or too deeply nested
    values or if the file is not a pickle.
    """
    stack: list[Value | None] = []  # None is a mark
    memo: dict[Any, Value | None] = {}
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name == "GLOBAL" and not is_plain(called := str(argument).replace(" ", ".")):
            called = called.removeprefix("__builtin__.").removeprefix("builtins.")
            raise Unusual(f"it contains {called}")
        if name == "MARK":
            stack.append(None)
        elif name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name != "PROTO":
            value = _made(name, _taken(stack, operation.stack_before))
            if value[0] > MOST or value[1] > DEEPEST:
                raise ValueError("its values are nested too deeply, or there are too many")
            stack += [value] * len(operation.stack_after)


def _taken(stack: list[Value | None], before: list[Any]) -> list[Value]:
    """Pop an operation's arguments from the stack and return them, the lowest first."""
    taken: list[Value] = []
    if pickletools.stackslice in before:
        while (value := stack.pop()) is not None:
            taken.append(value)
    for _ in range(len(before) - 2 * (pickletools.stackslice in before)):
        if (value := stack.pop()) is not None:
            taken.append(value)
    return taken[::-1]


def _made(operation: str, parts: list[Value]) -> Value:
    count, depth = parts.pop(0) if operation in FILLING else (1, 1)
    return count + sum(number for number, _ in parts), max([depth, *(1 + deep for _, deep in parts)])


def is_plain(name: str) -> bool:
    """Return whether a file of tensors may use a name: one in PLAIN, a storage type, or a dtype."""
    module, _, last = name.rpartition(".")
    storage = module in ("torch", "torch.storage") and last.endswith("Storage")
    return name in PLAIN or storage or (module == "torch" and isinstance(getattr(torch, last, None), torch.dtype))


def check_values(value: Any) -> None:
    """Raise ValueError for too many or too deeply nested values, and for tensors larger than their storage."""
    level, count = [value], 1
    for _ in range(DEEPEST):
        inner = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [part for item in inner if isinstance(item, list | tuple | set) for part in item]
        count += len(level)
        for tensor in (item for item in level if isinstance(item, torch.Tensor)):
            if tensor.is_sparse or tensor.nbytes > tensor.untyped_storage().nbytes() + ROOM:
                raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has fewer values than its shape requires")
        if count > MOST or not level:
            break
    if level:
        raise ValueError("its values are nested too deeply, or there are too many")
