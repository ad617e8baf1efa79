"""
A real gateway in a process of its own, for tests that look at it from outside.

Whatever a test does to it, at its end the gateway must be gone with the expected exit
status, no engine and no key file of it may be left, and no secret may stand in anything that
it wrote: L{Gateway.end} checks that for every one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psutil

from tests.gateway.talking import Answer, ask

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
#: Longer than anything here should take on the slowest machine.
PATIENCE_SECONDS = 30.0
_LISTENING = r"\b{setting}=\S*: listening on \S*:(\d+)"
_SECRET_OF_LINE = re.compile(r"^[\w-]+:(?!sha256=)([\w-]{16,128})(?::|$)", re.MULTILINE)

Seen = TypeVar("Seen")


def make_secret() -> str:
    """
    A key that no other test has.
    """
    return f"sk-{secrets.token_urlsafe(32)}"


def until(look: Callable[[], Seen], what: str, seconds: float = PATIENCE_SECONDS) -> Seen:
    """
    Look again and again, until what is seen is true.

    @param what: what is waited for, in words.
    @raise AssertionError: it took too long.
    """
    deadline = monotonic() + seconds
    pause = threading.Event()
    while True:
        seen = look()
        if seen:
            return seen
        assert monotonic() < deadline, f"not within {seconds:g} s: {what}; last seen: {seen!r}"
        pause.wait(0.02)


def clean_environment() -> dict[str, str]:
    """
    Our environment without any setting of a gateway.
    """
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.startswith("COVERAGE_")
    }


def processes_of(gateway_pid: int) -> list[psutil.Process]:
    """
    The engines that a gateway has started, even if it is gone: each was told the path of a key
    file that has the gateway's process id in its name.
    """
    mark = f"/twisted-llama-{gateway_pid}-"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and mark in " ".join(process.cmdline()):
                found.append(process)
    return found


def key_files_of(gateway_pid: int, temporary: Path) -> list[Path]:
    """
    What is there of a gateway's key file.
    """
    return [
        path
        for parent in (Path("/dev/shm"), temporary)
        for path in parent.glob(f"twisted-llama-{gateway_pid}-*")
    ]


class Gateway:
    """
    One process.

    @ivar data_dir: its DATA_DIR.
    @ivar port: where it listens, once that is known; so is C{health_port}.
    @ivar keys: secrets by key id, as they are in its key file.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, object],
        keys: Mapping[str, str] | None = None,
        *,
        command: tuple[str, ...] = ("twistd", "-n", "--pidfile=", "llama-gateway"),
        key_lines: tuple[str, ...] = (),
    ) -> None:
        """
        Start it.

        @param directory: an empty one, for all its files.
        @param settings: its environment; on free ports unless that names some.
        @param keys: secrets by key id; by default one, of the key id C{user}.
        @param command: what to run, with C{settings}' environment.
        @param key_lines: further lines of the key file.
        """
        self.data_dir = directory
        self.keys = {"user": make_secret()} if keys is None else dict(keys)
        self.key_lines = key_lines
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.write_keys()
        environment = {
            **clean_environment(),
            "DATA_DIR": str(directory),
            "TMPDIR": str(self.temporary),
            "PORT": "0",
            "PORT_HEALTH": "0",
            "HOST": "127.0.0.1",
            "MAX_REQUESTS_PER_MINUTE": "100000",
            **{name: str(value) for name, value in settings.items()},
        }
        if environment.get("ENGINE") != "external":
            environment.setdefault("PORT_BACKEND", "0")
        program, *arguments = command
        self._lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [str(SCRIPTS / program), *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()
        self.endpoint: str | None = environment.get("GATEWAY_ENDPOINT")
        self.secrets: set[str] = set(self.keys.values())

    # -- its output

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def output(self) -> str:
        """
        All that it has printed.
        """
        with self._news:
            return "\n".join(self._lines)

    def printed(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> re.Match[str]:
        """
        Wait for a line.

        @raise AssertionError: it did not come, or the process has ended.
        """
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, "\n".join(self._lines), re.MULTILINE)
            if match:
                found.append(match)
            return match is not None or not self._reader.is_alive()

        with self._news:
            self._news.wait_for(look, seconds)
        assert found, f"{pattern!r} was not printed:\n{self.output}"
        return found[0]

    # -- where it is

    @property
    def port(self) -> int:
        """
        The port for requests.
        """
        setting = "GATEWAY_ENDPOINT" if self.endpoint else "PORT"
        return int(self.printed(_LISTENING.format(setting=setting))[1])

    @property
    def health_port(self) -> int:
        """
        The port for platforms.
        """
        return int(self.printed(_LISTENING.format(setting="PORT_HEALTH"))[1])

    @property
    def key(self) -> str:
        """
        The secret of its first key; empty if it has none.
        """
        return next(iter(self.keys.values()), "")

    def ask(self, method: str, path: str, **how: Any) -> Answer:
        """
        Ask it something, with its first key; see L{tests.gateway.talking.ask}.
        """
        how.setdefault("key", self.key)
        return ask(self.port, method, path, **how)

    def health(self) -> dict[str, Any]:
        """
        What C{/health} says.
        """
        answer = self.ask("GET", "/health", key=None)
        assert answer.status == 200, answer
        return dict(answer.json)

    def wait_ready(self, seconds: float = PATIENCE_SECONDS) -> Gateway:
        """
        Wait until it says that it would serve a request.
        """

        def ready() -> bool:
            assert self.process.poll() is None, f"it has ended:\n{self.output}"
            return self.ask("GET", "/ready", key=None).status == 200

        try:
            until(ready, "ready", seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.output}") from None
        return self

    def queue(self) -> tuple[int, int]:
        """
        How many requests are active, and how many wait.
        """
        queue = self.health()["queue"]
        return queue["active"], queue["waiting"]

    def wait_queue(self, active: int, waiting: int) -> None:
        """
        Wait until so many requests are active and so many wait.
        """
        try:
            until(lambda: self.queue() == (active, waiting), f"{active} active, {waiting} waiting")
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {self.queue()}\n{self.output}") from None

    def engine_pid(self) -> int:
        """
        The engine's process.
        """
        return int(self.health()["engine"]["pid"])

    @contextlib.contextmanager
    def engine_held(self) -> Iterator[None]:
        """
        Nothing is answered for as long as a C{with} statement: the engine's process is stopped.
        """
        pid = self.engine_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def engine_address(self) -> tuple[int, str]:
        """
        The engine's port, and its key: what only the gateway should use.
        """
        argv = psutil.Process(self.engine_pid()).cmdline()
        port = int(argv[argv.index("--port") + 1])
        key = Path(argv[argv.index("--api-key-file") + 1]).read_text().strip()
        self.secrets.add(key)
        return port, key

    # -- its files

    @property
    def key_file(self) -> Path:
        """
        Its file of keys.
        """
        return self.data_dir / "api_keys.txt"

    def write_keys(self, *lines: str) -> None:
        """
        Replace its key file by C{keys}, C{key_lines} and some more lines.
        """
        content = [f"{name}:{secret}" for name, secret in self.keys.items()]
        draft = self.key_file.with_suffix(".new")
        draft.write_text("\n".join([*content, *self.key_lines, *lines, ""]))
        draft.chmod(0o600)
        draft.replace(self.key_file)

    def access_lines(self) -> list[str]:
        """
        What the access log holds now.
        """
        log = self.data_dir / "logs" / "api_access.log"
        return log.read_text().splitlines() if log.exists() else []

    def access_line(self, request_id: str) -> str:
        """
        Wait for the one line of a request.
        """

        def look() -> list[str]:
            return [line for line in self.access_lines() if request_id in line]

        (line,) = until(look, f"access log line of {request_id}")
        return line

    def access_status(self, request_id: str) -> int:
        """
        Wait for a request's line in the access log, of either format.

        @return: the status in it.
        """
        line = self.access_line(request_id)
        return int(json.loads(line)["status"] if line[0] == "{" else line.split(" | ")[3])

    # -- its end

    def signal(self, number: signal.Signals) -> None:
        """
        Send it a signal.
        """
        self.process.send_signal(number)

    def wait_ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """
        Wait until it has ended and all its output is there.

        @return: its exit status.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {seconds:g} s:\n{self.output}") from None
        self._reader.join(PATIENCE_SECONDS)
        return status

    def end(self, status: int = 0) -> None:
        """
        End it, if it has not, and check that it has left nothing behind.

        @param status: the exit status that it must have.
        """
        try:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
            assert self.wait_ended() == status, self.output
            pid = self.process.pid
            until(lambda: not processes_of(pid), f"engine gone; {processes_of(pid)}", 5)
            if status >= 0:
                assert not key_files_of(pid, self.temporary)
            self.check_secrets()
            assert "Traceback (most recent call last)" not in self.output, self.output
        finally:
            self.destroy()

    def check_secrets(self) -> None:
        """
        Check that no secret stands in its output or in any file but the key file.
        """
        written = {"output": self.output}
        for path in self.data_dir.rglob("*"):
            if path.is_file() and not path.name.startswith("api_keys"):
                written[str(path)] = path.read_bytes().decode("latin-1")
        keys = self.key_file.read_text() if self.key_file.exists() else ""
        hidden = self.secrets | set(_SECRET_OF_LINE.findall(keys))
        shown = {where for where, text in written.items() for secret in hidden if secret in text}
        assert not shown, f"a secret stands in {shown}"

    def destroy(self) -> None:
        """
        Make sure that nothing goes on after a test that has failed.
        """
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in processes_of(self.process.pid):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for directory in key_files_of(self.process.pid, self.temporary):
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()


@contextlib.contextmanager
def running(gateway: Gateway, status: int = 0, ready: bool = True) -> Iterator[Gateway]:
    """
    A gateway for as long as a C{with} statement, ready and, in the end, checked.

    @param status: its exit status at the end.
    @param ready: whether to wait until it is ready.
    """
    try:
        if ready:
            gateway.wait_ready()
        yield gateway
    except BaseException:
        print(gateway.output)
        gateway.destroy()
        raise
    gateway.end(status)
