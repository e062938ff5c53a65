"""Locks on files and folders, by which processes know that another one lives. Imports no torch."""

import fcntl
import os
import struct
import sys
from pathlib import Path


def take(descriptor: int) -> bool:
    """Lock a file or folder until its descriptor is closed; False if another process has it.

    A child that is forked has the lock, too. Raises OSError where the file system has no locks, or none of this kind.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold(descriptor: int) -> bool:
    """Lock a file, open for writing, for this process and none of its children; False if another process has it.

    The lock is lost as soon as the process closes any descriptor of the file. Raises OSError where the file system has
    no locks.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_held(path: Path) -> bool:
    """Return whether another process holds a file, here or on a machine that shares the file system."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:  # there is none
        return False
    try:
        if sys.platform != "linux":  # a moment's lock of our own, which a run that begins just then would trip over
            return not hold(descriptor)
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return bool(struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    except OSError:  # no locks here
        return False
    finally:
        os.close(descriptor)
