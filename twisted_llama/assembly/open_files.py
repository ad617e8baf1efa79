"""
Getting ready for many open files: each stream takes two.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from typing import Final

#: As many descriptors as the kernel's table has room for from the start: 8 bytes each.
ROOM: Final = 16384


def raise_file_limit() -> None:
    """
    Allow as many open files as the system lets us have.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def file_limit() -> int:
    """
    How many descriptors this process may have open.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def enlarge_descriptor_table() -> None:
    """
    Have the kernel make room for many descriptors now, while nobody waits.

    Its table of a process's descriptors has 64 places at first and grows by doubling.
    In a process with more than one thread, and the logs have one, whoever opens the
    descriptor for which there is no place waits until all processors have been seen
    not to use the old table (C{expand_fdtable} in Linux's C{fs/file.c} calls
    C{synchronize_rcu}): some 10 to 20 ms, and with a reactor everybody waits, at the
    256th, the 512th, the 1,024th descriptor.  It never shrinks again.
    """
    room = min(ROOM, file_limit())
    # Without room, for it or for one more, it grows when it must.
    with contextlib.suppress(OSError):
        low = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, room - 1))
        finally:
            os.close(low)
