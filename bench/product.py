"""
The gateway as a user runs it, C{twistd llama-gateway} in a process of its own,
and what can be seen of it from outside.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from peers import clean_environ
from programs import HERE, BenchError, Program, free_port
from questions import request
from vitals import orphans
from wire import Wire

ROOT = HERE.parent
_TWISTD = (
    "import sys; from twisted.scripts.twistd import run;"
    "sys.argv[:] = ['twistd', '-n', '--pidfile=', 'llama-gateway']; run()"
)


def make_secret() -> str:
    """
    A key nobody else has.
    """
    return f"sk-{secrets.token_urlsafe(32)}"


class Product:
    """
    One gateway that can be started again on the same ports.

    @ivar keys: secrets by key id; C{extra} are lines of the key file besides.
    @ivar pages: how often L{page} got an answer, C{good_pages} a good one.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, object],
        keys: Mapping[str, str],
        extra: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.keys = dict(keys)
        self.extra = extra
        self.port, self.health_port = free_port(), free_port()
        self.program: Program | None = None
        self._starts = 0
        self.pages = self.good_pages = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.write_keys()
        external = settings.get("ENGINE") == "external"
        self.environ = clean_environ(
            directory,
            PYTHONPATH=str(ROOT),
            DATA_DIR=str(directory),
            AUTH_KEYS_FILE=str(self.key_file),
            HOST="127.0.0.1",
            PORT=str(self.port),
            PORT_HEALTH=str(self.health_port),
            LOG_MAX_BYTES=str(1 << 30),
            MAX_REQUESTS_PER_MINUTE="100000000",
            **({} if external else {"PORT_BACKEND": "0"}),
            **{name: str(value) for name, value in settings.items()},
        )

    @property
    def key(self) -> str:
        """
        The first secret.
        """
        return next(iter(self.keys.values()))

    @property
    def key_file(self) -> Path:
        """
        Where the keys are.
        """
        return self.directory / "api_keys.txt"

    def write_keys(self, *lines: str, content: bytes | None = None) -> int:
        """
        Replace the key file, all at once.

        @param content: this instead of keys.
        @return: how many keys it holds.
        """
        held = [*(f"{name}:{key}" for name, key in self.keys.items()), *self.extra, *lines]
        draft = self.key_file.with_suffix(".new")
        draft.write_bytes("\n".join([*held, ""]).encode() if content is None else content)
        draft.chmod(0o600)
        draft.replace(self.key_file)
        return len(held)

    # -- life ----------------------------------------------------------------

    def start(self) -> None:
        """
        Start it.  C{wait} until it serves.
        """
        self._starts += 1
        self.program = Program.start(
            f"gateway-{self._starts}",
            [sys.executable, "-c", _TWISTD],
            self.directory,
            self.environ,
            self.port,
        )

    @property
    def running(self) -> Program:
        """
        The process.

        @raise BenchError: it was not started.
        """
        if self.program is None:
            raise BenchError("the gateway was not started")
        return self.program

    @property
    def pid(self) -> int:
        """
        Its process id.
        """
        return self.running.process.pid

    async def wait(self, path: str = "/ready", seconds: float = 60.0) -> float:
        """
        Wait until a page says 200.

        @return: how long that took, in seconds.
        @raise BenchError: it ended or took too long.
        """
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            if self.running.process.poll() is not None:
                raise BenchError(f"the gateway has ended:\n{self.running.tail()}")
            with suppress(OSError, TimeoutError):
                if (await self.page(path))[0] == 200:
                    return time.monotonic() - begun
            await asyncio.sleep(0.02)
        raise BenchError(f"{path} was not 200 within {seconds:g} s:\n{self.running.tail()}")

    def signal(self, number: signal.Signals) -> None:
        """
        Send it a signal.
        """
        self.running.process.send_signal(number)

    async def wait_ended(self, seconds: float = 60.0) -> int | None:
        """
        @return: its exit status, C{None} if it has not ended in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status = self.running.process.poll()
            if status is not None:
                return status
            await asyncio.sleep(0.01)
        return None

    async def end(self) -> list[str]:
        """
        End it in good order.

        @return: what is wrong with how it ended.
        """
        children = self.running.pids()[1:]
        wrong = []
        if self.running.process.poll() is not None:
            wrong.append(f"it had ended before, with {self.running.process.returncode}")
        else:
            self.signal(signal.SIGTERM)
            status = await self.wait_ended()
            if status != 0:
                wrong.append(f"its exit status was {status} and not 0")
        wrong += await orphans(children)
        wrong += self.complaints()
        return wrong

    def kill(self) -> None:
        """
        Leave nothing of it, whatever happened.
        """
        if self.program is not None:
            self.program.stop()

    def complaints(self) -> list[str]:
        """
        Lines of its log that should not be there.
        """
        marks = ("Traceback", "Unhandled", "[critical]", "While serving", "While looking")
        lines = self.running.output.read_text("utf-8", "replace").splitlines()
        found = [at for at, line in enumerate(lines) if any(mark in line for mark in marks)]
        return [f"its log says: {' / '.join(lines[at : at + 12])[:1500]}" for at in found[:3]]

    # -- what it says ----------------------------------------------------------

    async def page(self, path: str, accept: str = "") -> tuple[int, bytes]:
        """
        One of its public pages.
        """
        wire = await Wire.open(self.port, 10)
        try:
            await wire.send(request(path, fields=(f"Accept: {accept}",) if accept else ()))
            answer = await wire.answer()
        finally:
            wire.close()
        if answer.ending != "whole":
            return 0, answer.body
        self.pages += 1
        self.good_pages += answer.status < 400
        return answer.status, answer.body

    async def health(self) -> dict[str, Any]:
        """
        What C{/health} says.

        @raise BenchError: nothing.
        """
        status, body = await self.page("/health")
        if status != 200:
            raise BenchError(f"/health answered {status}: {body!r}")
        return dict(json.loads(body))

    async def figures(self) -> dict[str, Any]:
        """
        What C{/metrics} says.
        """
        return dict(json.loads((await self.page("/metrics"))[1])["gateway"])

    async def queue(self) -> tuple[int, int]:
        """
        How many requests are active, and how many wait.
        """
        queue = (await self.health())["queue"]
        return queue["active"], queue["waiting"]

    async def settles(self, seconds: float = 10.0) -> tuple[int, int]:
        """
        Wait until nothing is active or waiting.

        @return: what was seen last.
        """
        end = time.monotonic() + seconds
        while (seen := await self.queue()) != (0, 0) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return seen

    async def engine_pid(self) -> int:
        """
        The engine's process; 0 if there is none.
        """
        return int((await self.health())["engine"]["pid"] or 0)

    async def engine_busy(self, seconds: float = 10.0) -> int:
        """
        How many of the engine's slots work, as it says itself; it is given
        time to become idle.
        """
        pid = await self.engine_pid()
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        port = int(argv[argv.index("--port") + 1])
        key = Path(argv[argv.index("--api-key-file") + 1]).read_text().strip()
        end = time.monotonic() + seconds
        while True:
            wire = await Wire.open(port, 10)
            await wire.send(request("/slots", key))
            answer = await wire.answer()
            wire.close()
            busy = sum(bool(slot["is_processing"]) for slot in json.loads(answer.body))
            if not busy or time.monotonic() > end:
                return busy
            await asyncio.sleep(0.05)

    def access_lines(self) -> list[list[str]]:
        """
        The access log, in fields.
        """
        log = self.directory / "logs" / "api_access.log"
        if not log.exists():
            return []
        return [line.split(" | ") for line in log.read_text().splitlines()]
