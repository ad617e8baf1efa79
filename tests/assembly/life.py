"""
A whole gateway whose engine is scripted and whose reactor stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.logger import LogEvent

from tests.api.ends import STREAM_HEAD, Client, EngineEnd, chunk
from tests.assembly.fakes import ScriptedEngine, StillReactor, load
from twisted_llama.assembly.gateway import GatewayService
from twisted_llama.engine.status import EngineStatus

SECRET = b"sk-a-key-of-this-gateway"


class Life:
    """
    One gateway on a reactor that stands still, with a scripted engine and real requests.
    """

    def __init__(self, directory: Path, **given: object) -> None:
        self.key_file = directory / "api_keys.txt"
        self.write_keys(b"user:" + SECRET)
        self.reactor = StillReactor()
        self.closings: list[Callable[[], None]] = []
        self.events: list[LogEvent] = []
        self.engine = ScriptedEngine(EngineStatus("ready", external=True))
        self.service = GatewayService(load(directory, **given), self.reactor, {})
        self.graph = self.service.graph
        self.graph.engine = self.engine
        self.graph.pool._connect_to = self._connect
        self.engine_ends: list[EngineEnd] = []

    def write_keys(self, *lines: bytes) -> None:
        """
        Replace the key file.
        """
        self.key_file.write_bytes(b"\n".join([*lines, b""]))
        self.key_file.chmod(0o600)

    def _connect(self, factory: ClientFactory) -> None:
        end = EngineEnd(self, factory.buildProtocol(None))  # type: ignore[arg-type]  # see settle
        self.engine_ends.append(end)
        end.connect()

    @property
    def site(self) -> object:
        """
        See L{tests.api.world.World}.
        """
        return self.graph.site

    def settle(self) -> None:
        """
        See L{tests.api.world.World}.
        """
        while self.closings:
            self.closings.pop(0)()

    def start(self) -> None:
        """
        As C{twistd} does.
        """
        self.service.privilegedStartService()
        self.service.startService()

    def stop(self) -> Deferred[None]:
        """
        Begin to end.
        """
        ended = self.service.stopService()
        self.settle()
        return ended

    def client(self) -> Client:
        """
        Somebody connects.
        """
        return Client(self, "192.0.2.7")  # type: ignore[arg-type]  # see settle

    def stream(self) -> Client:
        """
        Somebody in the middle of a stream.
        """
        client = self.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
        self.engine_ends[-1].answer(STREAM_HEAD + chunk(b"data: x\n\n"))
        return client

    @property
    def log(self) -> str:
        """
        What was logged.
        """
        return "\n".join(
            event["log_format"].format(**event) for event in self.events if event["log_format"]
        )

    @property
    def listens(self) -> list[bool]:
        """
        Whether the health port and the gateway's are open.
        """
        listeners = (self.graph.health_listener, self.graph.gateway_listener)
        return [listener.port is not None for listener in listeners]
