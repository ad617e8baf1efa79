"""
Processes, looked at from outside.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """
    Whether a process runs; a zombie does not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def started_at(pid: int) -> float:
    """
    When a process was started, in seconds since the epoch.
    """
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + int(stat[19]) / _TICKS


def cpu_seconds(pid: int) -> float:
    """
    How much CPU time a process has taken, all threads.
    """
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS


@dataclass(frozen=True)
class Vitals:
    """
    What a process holds.
    """

    rss_kb: int
    fds: int
    threads: int
    children: int

    @classmethod
    def of(cls, pid: int) -> Vitals:
        """
        @raise OSError: it has ended.
        """
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":" in line
        )
        children = [
            child
            for path in Path(f"/proc/{pid}/task").glob("*/children")
            for child in path.read_text().split()
        ]
        fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]), fds, int(status["Threads"]), len(children))

    def __str__(self) -> str:
        return (
            f"{self.rss_kb / 1024:.1f} MiB, {self.fds} descriptors, {self.threads} threads, "
            f"{self.children} children"
        )


async def orphans(pids: list[int], seconds: float = 5.0) -> list[str]:
    """
    Wait for processes to be gone.

    @return: which are not.
    """
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return [f"process {pid} was left behind" for pid in left]
