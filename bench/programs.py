"""
Programs that a benchmark starts: it builds them, waits for them, weighs them
and ends them again, and never touches a process that it did not start.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / ".build"
_PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    """
    A measurement cannot be made; C{str()} says why and what to do.
    """


def build(name: str) -> Path:
    """
    Compile C{name.c} unless a newer program is there.

    @raise BenchError: there is no C compiler, or it refused the source.
    """
    source, program = HERE / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    BUILD.mkdir(exist_ok=True)
    draft = program.with_suffix(f".{os.getpid()}")
    command = [os.environ.get("CC", "cc"), "-O2", "-o", str(draft), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"no C compiler {command[0]!r}: install gcc or set CC") from error
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed:\n{done.stderr}")
    draft.replace(program)
    return program


def raise_file_limit() -> int:
    """
    Raise this process's limit of open files as far as it may be; children
    inherit it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """
    A TCP port on loopback that nobody listens on now.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get_status(port: int, path: str, timeout_seconds: float = 1.0) -> int | None:
    """
    The status of a GET on loopback, or L{None} when nothing answers.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Program:
    """
    One running program and its children.

    @ivar output: where its stdout and stderr went.
    @ivar keys_file: keys that it accepts, one a line.
    """

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    port: int = 0
    keys_file: Path | None = None

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str],
        directory: Path,
        environ: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> Program:
        """
        Start C{argv} in C{directory}, in a session of its own; it dies when
        the thread does that has called this, however that ends.
        """
        directory.mkdir(parents=True, exist_ok=True)
        output = directory / f"{name}.out"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                list(argv),
                cwd=directory,
                env=dict(environ) if environ is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return cls(name, process, output, port)

    def wait_until_answers(self, path: str, timeout_seconds: float) -> None:
        """
        @raise BenchError: it ended, or did not answer 200 in time.
        """
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if get_status(self.port, path) == 200:
                return
            time.sleep(0.05)
        tail = self.tail()
        self.stop()
        raise BenchError(f"{self.name} did not answer GET {path} with 200; its last lines:\n{tail}")

    def tail(self, most_bytes: int = 1500) -> str:
        """
        The end of what it has printed.
        """
        return self.output.read_bytes()[-most_bytes:].decode("utf-8", "replace")

    def pids(self) -> list[int]:
        """
        The process and all that descend from it.
        """
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    waiting += [int(word) for word in children.read_text().split()]
                except OSError:
                    continue
        return found

    def resident_kb(self) -> int:
        """
        Resident memory of all its processes, shared pages counted in each.
        """
        total = 0
        for pid in self.pids():
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:
                continue
        return total * resource.getpagesize() // 1024

    def stop(self) -> None:
        """
        End it, politely first.
        """
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        with suppress(ProcessLookupError):
            # Its session is its own: this reaches only its left-over children.
            os.killpg(self.process.pid, signal.SIGKILL)


def start_engine(directory: Path, life_seconds: int) -> Program:
    """
    Start the engine stand-in on a port that it picks itself.

    @raise BenchError: it does not listen.
    """
    argv = [str(build("engine")), "--port", "0", "--life", str(life_seconds)]
    engine = Program.start("engine", argv, directory)
    end = time.monotonic() + 5
    while time.monotonic() < end and engine.process.poll() is None:
        words = engine.tail().split()
        if len(words) >= 2 and words[0] == "port":
            engine.port = int(words[1])
            return engine
        time.sleep(0.02)
    engine.stop()
    raise BenchError(f"the engine stand-in does not listen: {engine.tail()}")
