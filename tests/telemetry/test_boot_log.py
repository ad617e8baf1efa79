"""
Tests of the boot report.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from twisted_llama.telemetry.boot_log import (
    BootReport,
    describe_cpu,
    describe_gpus,
    publish_boot_report,
    read_cpuinfo,
    render_boot_report,
)
from twisted_llama.telemetry.sinks import FileSink

KEY = "sk-" + "k" * 43
REPORT = BootReport(
    settings=(("port", "8000", "default"), ("redis_url", "redis://:pw@h", "environment")),
    engine_version="llama-server b1234\x1b",
    accelerators=("GPU: 0, Some Card",),
    model=("model.gguf", 3 * 2**30),
    limits=(("max_concurrent_requests", "4"),),
)


def test_report() -> None:
    """Versions, hardware, model, limits, settings; nothing secret, no control character."""
    text = "\n".join(render_boot_report(REPORT))
    assert "twisted_llama " in text
    assert "engine        llama-server b1234\\x1b" in text
    assert "GPU: 0, Some Card" in text
    assert "model.gguf (3221225472 bytes, 3.00 GiB)" in text
    assert "max_concurrent_requests = 4" in text
    assert "port      = 8000  (default)" in text
    assert "redis_url = redis://***@h  (environment)" in text


def test_report_without_model_and_settings() -> None:
    """An engine elsewhere has its model there."""
    lines = render_boot_report(BootReport((), "external", (), None, ()))
    assert "none here" in lines


def test_published_to_its_file(tmp_path: Path) -> None:
    """And nowhere else."""
    sink = FileSink(tmp_path / "boot.log", 10**6, 1)
    publish_boot_report(REPORT, sink)
    assert (tmp_path / "boot.log").read_text().splitlines() == render_boot_report(REPORT)


@pytest.mark.parametrize("with_sink", [False, True])
def test_published_to_the_log_without_a_file(tmp_path: Path, with_sink: bool) -> None:
    """Where there is no file, or it cannot be written."""
    (tmp_path / "file").write_text("")
    sink = FileSink(tmp_path / "file" / "boot.log", 10**6, 1) if with_sink else None
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        publish_boot_report(REPORT, sink)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert "GPU: 0, Some Card" in [event.get("line") for event in events]


def test_cpu() -> None:
    """Name and cores, as far as they are known."""
    assert describe_cpu("x: 1\nmodel name\t: Fast CPU\n", 8) == "CPU: Fast CPU, 8 core(s)"
    assert describe_cpu("", None).endswith(", ? core(s)")


def test_cpuinfo(tmp_path: Path) -> None:
    """Its text, or none."""
    assert read_cpuinfo(tmp_path / "none") == ""
    (tmp_path / "cpuinfo").write_bytes(b"model name: x\xff")
    assert read_cpuinfo(tmp_path / "cpuinfo").startswith("model name: x")


class Spawner:
    """
    Stands in for C{IReactorProcess}; the test ends the process.
    """

    def __init__(self, exited: bool = False) -> None:
        self.signals: list[str] = []
        self.exited = exited

    def spawnProcess(
        self,
        protocol: ProcessProtocol,
        executable: str,
        args: list[str],
        env: dict[str, str],
        childFDs: dict[int, object],
    ) -> Spawner:
        self.protocol = protocol
        self.args = args
        self.env = env
        return self

    def signalProcess(self, name: str) -> None:
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(name)


def ask(spawner: object, clock: Clock) -> Deferred[tuple[str, ...]]:
    """Ask an nvidia-smi that is there."""
    return Deferred.fromCoroutine(
        describe_gpus(
            spawner,  # type: ignore[arg-type]
            clock,
            {"PATH": "/bin", "BACKEND_API_KEY": KEY},
            lambda name: [f"/bin/{name}"],
        )
    )


def answer_of(asked: Deferred[tuple[str, ...]]) -> tuple[str, ...]:
    """What it has been answered by now."""
    answers: list[tuple[str, ...]] = []
    asked.addCallback(answers.append)
    return answers[0]


def test_gpus() -> None:
    """A line for each; the program does not get our environment."""
    spawner, clock = Spawner(), Clock()
    asked = ask(spawner, clock)
    spawner.protocol.outReceived(b"0, Card A, 550, 24 GiB\n1, Card B")
    spawner.protocol.outReceived(b", 550, 24 GiB\n\n")
    spawner.protocol.processEnded(Failure(ProcessDone(None)))
    assert answer_of(asked) == ("GPU: 0, Card A, 550, 24 GiB", "GPU: 1, Card B, 550, 24 GiB")
    assert spawner.env == {"PATH": "/bin"}
    assert clock.getDelayedCalls() == []


def test_a_driver_that_fails() -> None:
    """What it says is reported."""
    spawner = Spawner()
    asked = ask(spawner, Clock())
    spawner.protocol.outReceived(b"couldn't communicate with the driver\nmore\n")
    spawner.protocol.processEnded(Failure(ProcessTerminated(9)))
    (line,) = answer_of(asked)
    assert line.startswith("GPU: unknown, nvidia-smi: ")
    assert line.endswith("(couldn't communicate with the driver)")


@pytest.mark.parametrize("exited", [False, True])
def test_a_driver_that_hangs(exited: bool) -> None:
    """It is killed after five seconds, and its end is not waited for."""
    spawner, clock = Spawner(exited), Clock()
    asked = ask(spawner, clock)
    clock.advance(5)
    assert answer_of(asked) == ("GPU: unknown, nvidia-smi: no answer within 5 s",)
    assert spawner.signals == ([] if exited else ["KILL"])
    spawner.protocol.processEnded(Failure(ProcessTerminated(9)))


def test_no_program() -> None:
    """Then there is no GPU to report."""
    asked = Deferred.fromCoroutine(
        describe_gpus(Spawner(), Clock(), {}, lambda name: [])  # type: ignore[arg-type]
    )
    assert answer_of(asked) == ()


def test_a_program_that_cannot_be_started() -> None:
    """Such as where no process can be made."""

    class Full(Spawner):
        def spawnProcess(self, *args: object, **kwargs: object) -> Spawner:
            raise OSError(11, "Resource temporarily unavailable")

    (line,) = answer_of(ask(Full(), Clock()))
    assert "cannot be started: Resource temporarily unavailable" in line


@pytest_twisted.ensureDeferred
async def test_a_real_program(tmp_path: Path) -> None:
    """As a child process of a real reactor."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('0, Card')\n")
    program.chmod(0o700)
    lines = await describe_gpus(
        reactor,  # type: ignore[arg-type]
        reactor,  # type: ignore[arg-type]
        {},
        lambda name: [str(program)],
    )
    assert lines == ("GPU: 0, Card",)
