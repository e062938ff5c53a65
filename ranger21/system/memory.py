"""Out-of-memory errors on any device, and memory limits. Imports no torch."""

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

# Parts of the out-of-memory messages of CUDA, MPS, torch's CPU allocator and cuBLAS.
SIGNS = ("out of memory", "DefaultCPUAllocator", "not enough memory", "ALLOC_FAILED", "allocate memory", "bad_alloc")


@contextlib.contextmanager
def enough_memory(what: str, cure: str) -> Iterator[None]:
    """Convert out-of-memory errors to a UserError; let other errors pass.

    Args:
        what: the work that needs the memory, with its batch size and precision; follows "not enough memory for".
        cure: the remedy; follows "try".
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise UserError(f"There is not enough memory for {what} ({reason(error)}): try {cure}.") from error


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Limit the memory that this process allocates inside to `size` bytes (on Linux); beyond it, MemoryError is raised.

    For libraries that read an untrusted file all at once. Do not use it around a `yield`: the limit is process-wide.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        yield
        return
    limits = [limit for limit in (soft, hard, now + size) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error of torch (on any device), Python or the operating system means "out of memory"."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in SIGNS))
