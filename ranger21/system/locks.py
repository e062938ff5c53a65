"""Locks on files and folders, which show that the process holding them is alive. Imports no torch."""

import fcntl
import os
import struct
import sys
from pathlib import Path


def take(descriptor: int) -> bool:
    """Lock a file or folder until its descriptor is closed; return False if another process holds the lock.

    Forked children share the lock. Raises OSError if the file system does not support `flock`.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(descriptor: int) -> bool:
    """Lock a file open for writing, for this process but not its children; return False if another process has it.

    The lock is released when the process closes any descriptor of the file. Raises OSError if the file system does not
    support locks.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_held(path: Path) -> bool:
    """Return whether another process, on any machine that shares the file system, has locked a file with `hold`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:  # the file does not exist
        return False
    try:
        if sys.platform != "linux":  # takes the lock for a moment; a run that starts just then would be refused
            return not hold(descriptor)
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return bool(struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    except OSError:  # the file system has no locks
        return False
    finally:
        os.close(descriptor)
