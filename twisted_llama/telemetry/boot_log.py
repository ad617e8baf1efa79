"""
The boot report: what a person who reads the log of a start wants to know first.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.procutils import which

import twisted

from .. import __version__
from .clean_text import controls_escaped, redacted
from .sinks import Sink

GPU_QUERY: Final = (
    "--query-gpu=index,name,driver_version,memory.total,memory.free",
    "--format=csv,noheader",
)
GPU_TIMEOUT_SECONDS: Final = 5.0
_GPU_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "PATH")
_MOST_OUTPUT_BYTES: Final = 65536
_log = Logger()


@frozen
class BootReport:
    """
    What is reported of a start.  Settings come with their secrets masked.

    @ivar settings: name, value as shown, and where it came from.
    @ivar engine_version: what the engine says of itself, or its kind.
    @ivar accelerators: lines about GPUs, or the CPU.
    @ivar model: file name and size in bytes; C{None} if the engine is elsewhere.
    @ivar limits: name and value as shown.
    """

    settings: tuple[tuple[str, str, str], ...]
    engine_version: str
    accelerators: tuple[str, ...]
    model: tuple[str, int] | None
    limits: tuple[tuple[str, str], ...]


def render_boot_report(report: BootReport) -> list[str]:
    """
    Make the lines of a report.  Control characters are escaped, and what looks like a
    secret is masked once more.
    """
    width = max((len(name) for name, _, _ in report.settings), default=0)
    model = "none here" if report.model is None else f"{report.model[0]} ({_size(report.model[1])})"
    lines = [
        "[versions]",
        f"python        {platform.python_version()} ({platform.platform()})",
        f"twisted       {twisted.__version__}",
        f"twisted_llama {__version__}",
        f"engine        {report.engine_version}",
        "",
        "[hardware]",
        *report.accelerators,
        "",
        "[model]",
        model,
        "",
        "[limits]",
        *(f"{name} = {value}" for name, value in report.limits),
        "",
        "[settings]",
        *(f"{name:<{width}} = {shown}  ({source})" for name, shown, source in report.settings),
    ]
    return [controls_escaped(redacted(line)) for line in lines]


def publish_boot_report(report: BootReport, sink: Sink | None) -> None:
    """
    Write a report to its file, or to the gateway's own log if there is none.

    It blocks, shortly, and is for the time before the first request.

    @param sink: closed afterwards.
    """
    lines = render_boot_report(report)
    if sink is not None:
        lost = sink.write(lines)
        sink.close()
        if not lost:
            return
    for line in lines:
        if line:
            _log.info("{line}", line=line)


def _size(octets: int) -> str:
    return f"{octets} bytes, {octets / 2**30:.2f} GiB"


def describe_cpu(cpuinfo: str, cores: int | None) -> str:
    """
    Say in a line which CPU there is.

    @param cpuinfo: the text of C{/proc/cpuinfo}, empty where there is none.
    @param cores: how many the system counts.
    """
    name = next(
        (
            line.partition(":")[2].strip()
            for line in cpuinfo.splitlines()
            if line.lower().startswith(("model name", "hardware"))
        ),
        platform.machine() or "unknown model",
    )
    return f"CPU: {name}, {cores or '?'} core(s)"


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> str:
    """
    Read what Linux says of the CPU; empty where it says nothing.
    """
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


class _Answer(ProcessProtocol):
    """
    Collect what a short-lived program prints.

    @ivar done: fires with its exit (C{None} for 0, else the reason in words).
    """

    def __init__(self) -> None:
        self.output = bytearray()
        self.done: Deferred[str | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """
        Keep what fits.
        """
        self.output += data[: _MOST_OUTPUT_BYTES - len(self.output)]

    def processEnded(self, reason: Failure) -> None:
        """
        The program has ended and everything it printed is here.
        """
        self.settle(None if isinstance(reason.value, ProcessDone) else reason.getErrorMessage())

    def settle(self, problem: str | None) -> None:
        """
        Fire L{done}, the first time.
        """
        if not self.done.called:
            self.done.callback(problem)


async def describe_gpus(
    reactor: IReactorProcess,
    clock: IReactorTime,
    environ: Mapping[str, str],
    find_program: Callable[[str], Sequence[str]] = which,
) -> tuple[str, ...]:
    """
    Ask C{nvidia-smi} which GPUs there are.

    @param environ: our environment, of which the program gets only what it needs.
    @param find_program: gives the paths of a program, best first.
    @return: a line for each; none if there is no such program or no GPU; a line that
        says why if it did not answer, at the latest after
        L{GPU_TIMEOUT_SECONDS}.
    """
    programs = find_program("nvidia-smi")
    if not programs:
        return ()
    answer = _Answer()
    try:
        process = reactor.spawnProcess(
            answer,
            programs[0],
            [programs[0], *GPU_QUERY],
            env={name: environ[name] for name in _GPU_ENVIRONMENT if name in environ},
            childFDs={0: "w", 1: "r", 2: 1},
        )
    except OSError as error:
        return (f"GPU: unknown, nvidia-smi cannot be started: {error.strerror}",)

    def give_up() -> None:
        # A driver that hangs may not even let it be killed: do not wait for that.
        answer.settle(f"no answer within {GPU_TIMEOUT_SECONDS:g} s")
        with contextlib.suppress(ProcessExitedAlready):
            process.signalProcess("KILL")

    deadline: IDelayedCall = clock.callLater(GPU_TIMEOUT_SECONDS, give_up)
    problem = await answer.done
    if deadline.active():
        deadline.cancel()
    printed = answer.output.decode("utf-8", "replace").strip().splitlines()
    if problem is not None:
        said = f" ({printed[0].strip()})" if printed else ""
        return (f"GPU: unknown, nvidia-smi: {problem}{said}",)
    return tuple(f"GPU: {line.strip()}" for line in printed if line.strip())
