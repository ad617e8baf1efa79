"""
Ties a child process to the life of its parent, then becomes the child.

Run as C{python -I -S tether.py PARENT_PID PROGRAM ARG...}: the kernel is asked
to kill this process when its parent dies, however that happens, and the
request survives the C{exec} of PROGRAM.  Only the standard library and as few
modules as possible: this runs before every start of an engine.

The request is tied to the I{thread} that forked.  Twisted forks in the thread
of the reactor, which lives as long as the gateway.
"""

from __future__ import annotations

import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
CANNOT_EXECUTE = 126
NOT_FOUND = 127


def die_with_parent(parent_pid: int) -> None:
    """
    Have the kernel kill this process when its parent dies.

    @param parent_pid: the parent at the time the decision was made; if it is
        gone already, this process ends at once.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def leave_terminal() -> None:
    """
    Make a session of our own: Ctrl-C in the gateway's terminal is for the
    gateway, which lets streams finish first, and a whole group can be
    signalled if the program is a script that started the real one.
    """
    try:
        os.setsid()
    except OSError:  # we lead a group already
        return


def forbid_core_dumps() -> None:
    """
    A core of the engine would hold its key and people's prompts.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(argv: list[str]) -> int:
    """
    @param argv: the parent's pid, the program and its arguments.
    @return: an exit status as a shell's, if the program could not be started.
    """
    parent_pid, program = int(argv[0]), argv[1:]
    die_with_parent(parent_pid)
    leave_terminal()
    forbid_core_dumps()
    try:
        os.execvp(program[0], program)
    except OSError as problem:
        sys.stderr.write(f"error: cannot run {program[0]}: {problem.strerror}\n")
        return NOT_FOUND if isinstance(problem, FileNotFoundError) else CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
