"""Free TCP ports on this machine."""

from __future__ import annotations

import os
import socket


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count: int) -> int:
    """Return the first of `count` free ports in a row, outside the ranges that the system and the ranks use."""
    for first in range(30_100 + os.getpid() % 500 * 5, 32_700, 5):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")
