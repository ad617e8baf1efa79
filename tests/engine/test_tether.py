"""
The program that ties a child to its parent's life.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_llama.engine import tether

TETHER = Path(tether.__file__)


def run(*argv: str, parent: int | None = None) -> subprocess.CompletedProcess[str]:
    """
    Run it to its end.
    """
    pid = os.getpid() if parent is None else parent
    return subprocess.run(
        [sys.executable, "-I", "-S", str(TETHER), str(pid), *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_becomes_the_program() -> None:
    """
    In a session of its own, without core dumps, and tied to us.
    """
    code = (
        "import ctypes, os, resource; signal = ctypes.c_int(); "
        "ctypes.CDLL(None).prctl(2, ctypes.byref(signal)); "
        "print(os.getsid(0) == os.getpid(), resource.getrlimit(resource.RLIMIT_CORE), signal.value)"
    )
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "True (0, 0) 9\n")


def test_parent_that_is_gone_already() -> None:
    """
    There is nothing to live for.
    """
    done = run("/bin/echo", "alive", parent=1 if os.getpid() != 1 else 2)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(("mode", "status"), [(None, 127), (0o644, 126)])
def test_program_that_cannot_be_run(tmp_path: Path, mode: int | None, status: int) -> None:
    """
    The statuses of a shell.
    """
    path = tmp_path / "program"
    if mode is not None:
        path.write_text("x")
        path.chmod(mode)
    done = run(str(path))
    assert done.returncode == status
    assert "error: cannot run" in done.stderr


def test_session_leader_stays_one() -> None:
    """
    Where there is a session already, it is kept.
    """
    code = f"import sys; sys.path.insert(0, {str(TETHER.parent)!r}); import tether; "
    code += "tether.leave_terminal(); tether.leave_terminal(); print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "fine\n"
