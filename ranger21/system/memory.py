"""Running out of memory, on any device, told in a sentence. Imports no torch."""

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

# What the messages of torch's devices and libraries have in them: CUDA's and MPS's, the CPU's allocator's, cuBLAS's.
SIGNS = ("out of memory", "DefaultCPUAllocator", "not enough memory", "ALLOC_FAILED", "allocate memory", "bad_alloc")


@contextlib.contextmanager
def enough_memory(what: str, cure: str) -> Iterator[None]:
    """Raise a UserError in the place of any error that says that memory is lacking; let other errors pass.

    Args:
        what: the memory is for, with its batch and precision.
        cure: what to try, after "try".
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise UserError(f"There is not enough memory for {what} ({reason(error)}): try {cure}.") from error


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Limit what memory this process takes from now on to `size` bytes (on Linux); beyond that, raise a MemoryError.

    For a library that reads a stranger's file all at once. Not around a `yield`: what runs meanwhile is limited, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux
        yield
        return
    limits = [limit for limit in (soft, hard, now + size) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is lacking: torch's, on any device, Python's or the system's."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in SIGNS))
