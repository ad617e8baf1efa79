"""
Which log files there are, what they are called, and how many are kept.

Below C{LOG_DIR}: C{api_access.log}; C{_boot/}, one file for each start; and a
directory of engine output, likewise.  The latter two hold a symlink
C{latest.txt}.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from .sinks import FileSink

ACCESS_LOG: Final = "api_access.log"
BOOT_DIRECTORY: Final = "_boot"
LATEST: Final = "latest.txt"

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME: Final = 100
_STAMPED: Final = re.compile(r"\d{8}_\d{6}_(?:boot|server)_[A-Za-z0-9._-]+\.log(?:\.\d+)?")


def sanitised_name(name: str, default: str) -> str:
    """
    Make one harmless path segment of a setting: other characters than
    C{[A-Za-z0-9._-]} become C{_}, and there is no leading dot.

    @param default: what is used if nothing is left.
    """
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME].lstrip(".") or default


def engine_directory(log_name: str, worker_type: str) -> str:
    """
    The name of the directory of engine output.
    """
    name = f"{log_name}-{worker_type}" if worker_type else log_name
    return sanitised_name(name, "llama")


def stamped_name(kind: str, instance_id: str, epoch_seconds: float) -> str:
    """
    The name of a file of one start, C{YYYYMMDD_HHMMSS_kind_instance.log}, in UTC.
    """
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(epoch_seconds))
    return f"{stamp}_{kind}_{sanitised_name(instance_id, 'unknown')}.log"


def prune(directory: Path, keep: int) -> None:
    """
    Remove all but the newest of the stamped files in C{directory}; files that
    others put there stay.
    """
    ages: list[tuple[float, str]] = []
    for entry in os.scandir(directory):
        if _STAMPED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError):
                ages.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
    ages.sort(reverse=True)
    for _, name in ages[max(1, keep) :]:
        # Another gateway on the same volume may have been quicker.
        with contextlib.suppress(OSError):
            (directory / name).unlink()


def point_latest(file: Path) -> None:
    """
    Let C{latest.txt} beside C{file} name it; there is no moment without one.
    Where the file system has no symlinks there is none.
    """
    draft = file.parent / f".{LATEST}.{os.getpid()}"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        draft.symlink_to(file.name)
        os.replace(draft, file.parent / LATEST)


class LogDirectory:
    """
    C{LOG_DIR}.  What cannot be opened in it is C{None}, and is warned of once;
    then stderr is all there is.

    @param path: the directory; made when needed.
    @param max_bytes: the length at which its files are rotated.
    @param keep: how many old ones are kept.
    @param instance_id: part of the names of files.
    """

    _log = Logger()

    def __init__(self, path: Path, max_bytes: int, keep: int, instance_id: str) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._instance_id = instance_id
        self._warned = False

    def open_access_log(self) -> FileSink | None:
        """
        Open C{api_access.log}.
        """
        return self._open(self._path / ACCESS_LOG)

    def open_boot_log(self, epoch_seconds: float) -> FileSink | None:
        """
        Open the boot log of this start.

        @param epoch_seconds: the time of the start.
        """
        return self._open_stamped(BOOT_DIRECTORY, "boot", epoch_seconds)

    def open_engine_log(
        self, log_name: str, worker_type: str, epoch_seconds: float
    ) -> FileSink | None:
        """
        Open the file of engine output of this start.
        """
        return self._open_stamped(engine_directory(log_name, worker_type), "server", epoch_seconds)

    def _open_stamped(self, directory: str, kind: str, epoch_seconds: float) -> FileSink | None:
        file = self._path / directory / stamped_name(kind, self._instance_id, epoch_seconds)
        sink = self._open(file)
        if sink is not None:
            point_latest(file)
            with contextlib.suppress(OSError):
                prune(file.parent, self._keep)
        return sink

    def _open(self, file: Path) -> FileSink | None:
        sink = FileSink(file, self._max_bytes, self._keep)
        try:
            sink.open()
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._log.warn(
                    "Logs go to stderr only: cannot write {path}: {reason}. "
                    "Make LOG_DIR a directory that the gateway may write to.",
                    path=str(file),
                    reason=error.strerror or str(error),
                )
            return None
        return sink
