"""
From settings to objects.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.api.ends import Client
from tests.assembly.fakes import StillReactor, load
from tests.conftest import Require
from twisted_llama.assembly.graph import Graph, Keys, build_graph
from twisted_llama.auth.checkers import KeyfileChecker
from twisted_llama.engine.external import ExternalEngine
from twisted_llama.engine.status import EngineStatus
from twisted_llama.engine.supervisor import EngineSupervisor
from twisted_llama.errors import StartupError
from twisted_llama.limits.redis import RedisLimits

SECRET = b"sk-a-key-for-the-graph"


class Built:
    """
    A graph, and what was asked of its surroundings.
    """

    def __init__(self, directory: Path, **given: object) -> None:
        self.reactor = StillReactor()
        self.fatal: list[StartupError] = []
        self.retries: list[None] = []
        self.closings: list[Any] = []
        self.graph: Graph = build_graph(
            load(directory, **given).settings,
            self.reactor,
            {},
            self.fatal.append,
            lambda: self.retries.append(None),
        )

    @property
    def site(self) -> object:
        """
        See L{tests.api.world.World}: clients connect here.
        """
        return self.graph.site

    def settle(self) -> None:
        """
        See L{tests.api.world.World}.
        """
        while self.closings:
            self.closings.pop(0)()

    def client(self) -> Client:
        """
        Somebody connects.
        """
        return Client(self, "192.0.2.7")  # type: ignore[arg-type]  # as much of a World as it needs


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """
    A data directory with one key.
    """
    path = tmp_path / "api_keys.txt"
    path.write_bytes(b"user:" + SECRET + b"\n")
    path.chmod(0o600)
    return tmp_path


def test_nothing_happens_yet(directory: Path) -> None:
    """
    Nothing listens, nothing is connected, nothing waits.
    """
    built = Built(directory)
    assert built.reactor.tcpServers == []
    assert built.reactor.tcpClients == []
    assert built.reactor.getDelayedCalls() == []
    assert built.graph.writers == []


def test_kinds_of_engines(directory: Path) -> None:
    """
    Somebody else's, or one that is minded.
    """
    assert isinstance(Built(directory, engine="external").graph.engine, ExternalEngine)
    mock = Built(directory, engine="mock", port_backend=0).graph
    assert isinstance(mock.engine, EngineSupervisor)
    assert mock.engine_spec.kind == "mock"
    assert Built(directory, engine="auto", mock_backend="true").graph.engine_spec.kind == "mock"


def test_no_engine_to_be_had(directory: Path) -> None:
    """
    The reason, before anything is started.
    """
    with pytest.raises(StartupError, match="LLAMA_SERVER_BIN"):
        Built(directory, engine="llama-server", llama_server_bin="/no/such/program")


def test_logs(directory: Path) -> None:
    """
    One writer for what was asked, one for what the engine prints.
    """
    graph = Built(directory, engine="mock", log_dir=directory / "logs").graph
    assert len(graph.writers) == 2
    assert (directory / "logs" / "api_access.log").parent.is_dir()


def test_limits_of_clients(directory: Path) -> None:
    """
    Each setting is where it counts.
    """
    limits = Built(
        directory,
        max_request_line_size=1001,
        max_header_line_size=1002,
        max_headers=11,
        max_request_body_size=1003,
        client_header_timeout=4,
        client_body_timeout=5,
        client_write_timeout=6,
        keepalive_timeout=7,
        max_connections=8,
        max_connections_per_ip=9,
    ).graph.site.limits
    assert limits.head.max_line_bytes == 1001
    assert limits.head.max_field_bytes == 1002
    assert limits.head.max_fields == 11
    assert limits.max_body_bytes == 1003
    assert limits.header_timeout_seconds == 4
    assert limits.body_timeout_seconds == 5
    assert limits.write_timeout_seconds == 6
    assert limits.keepalive_timeout_seconds == 7
    assert limits.max_connections == 8
    assert limits.max_connections_per_address == 9


def test_the_queue(directory: Path) -> None:
    """
    The engine's own slots, unless a number is set.
    """
    free = Built(directory).graph
    assert (free.gate.max_concurrent, free.gate.max_queue_size) == (1, 0)
    fixed = Built(directory, max_concurrent_requests=3, max_queue_size=5).graph
    assert (fixed.gate.max_concurrent, fixed.gate.max_queue_size) == (3, 5)
    for graph, slots in ((free, 6), (fixed, 3)):
        assert isinstance(graph.engine, ExternalEngine)
        graph.engine._publish(EngineStatus("ready", external=True, slots=6))
        assert graph.gate.max_concurrent == slots


def test_checkers(directory: Path) -> None:
    """
    The key file, one chosen by name, or none.
    """
    by_default = Built(directory).graph.checker
    assert isinstance(by_default, KeyfileChecker)
    assert by_default.path == directory / "api_keys.txt"
    chosen = Built(directory, auth=f"keyfile:{directory}/others.txt").graph.checker
    assert isinstance(chosen, KeyfileChecker)
    assert chosen.path == directory / "others.txt"
    assert Built(directory, auth_enabled="false").graph.checker is None
    with pytest.raises(StartupError, match="--auth nonsense: there is no such kind"):
        Built(directory, auth="nonsense:x")


def test_shared_limits(directory: Path, require: Require) -> None:
    """
    Redis, if it is named.
    """
    require(find_spec("txredisapi"), "txredisapi is missing: pip install 'twisted-llama[redis]'")
    graph = Built(directory, redis_url="redis://127.0.0.1:6379").graph
    assert [type(service) for service in graph.others] == [RedisLimits]
    assert Built(directory).graph.others == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gateway_endpoint": "what:1"}, "GATEWAY_ENDPOINT=what:1 is not an endpoint"),
        ({"health_endpoint": "what:1"}, "HEALTH_ENDPOINT=what:1 is not an endpoint"),
    ],
)
def test_bad_endpoints(directory: Path, given: dict[str, str], message: str) -> None:
    """
    Are named by their setting.
    """
    with pytest.raises(StartupError, match=message):
        Built(directory, **given)


def test_where_it_listens(directory: Path) -> None:
    """
    Ports and host, or endpoints.
    """
    built = Built(directory, host="127.0.0.1", port=8123, health_endpoint="tcp:8124")
    built.graph.gateway_listener.privilegedStartService()
    built.graph.health_listener.privilegedStartService()
    assert [(port, interface) for port, _, _, interface in built.reactor.tcpServers] == [
        (8123, "127.0.0.1"),
        (8124, ""),
    ]
    assert [factory for _, factory, _, _ in built.reactor.tcpServers] == [
        built.graph.site,
        built.graph.health_site,
    ]


def test_a_request_goes_all_the_way(directory: Path) -> None:
    """
    With the key for the engine, to where the engine is, within the time for connecting.
    """
    built = Built(
        directory,
        backend_host="127.0.0.9",
        port_backend=8456,
        backend_connect_timeout=3,
        backend_api_key="engine-secret",
        proxy_extra_paths="/slots",
    )
    graph = built.graph
    assert isinstance(graph.checker, KeyfileChecker)
    graph.checker.load()
    client = built.client().ask(b"GET", b"/slots?x", key=SECRET)
    ((host, port, factory, timeout, _),) = built.reactor.tcpClients
    assert (host, port, timeout) == ("127.0.0.9", 8456, 3.0)
    assert len(graph.running) == 1
    client.leave()
    assert len(graph.running) == 0
    assert factory.noisy is False
    assert client.channel not in graph.site.channels
    graph.deadlines.stop()


def test_pages(directory: Path) -> None:
    """
    They know what the graph knows.
    """
    built = Built(directory, metrics_auth_enabled="true", cors_origins="https://a.test")
    graph = built.graph
    assert isinstance(graph.checker, KeyfileChecker)
    client = built.client()
    client.ask(b"GET", b"/health", key=None)
    graph.checker.load()
    graph.metrics._started -= 5
    client.ask(b"GET", b"/health", (b"Origin", b"https://a.test"), key=None)
    client.ask(b"GET", b"/metrics", key=None)
    client.ask(b"GET", b"/metrics", key=SECRET)
    client.ask(b"POST", b"/reload", key=SECRET)
    first, second, *others = client.answers
    assert first.json["authentication"] == {"enabled": True, "keys": 0}
    assert second.json["authentication"] == {"enabled": True, "keys": 1}
    assert second.json["uptime_seconds"] >= 5
    assert second[b"access-control-allow-origin"] == b"https://a.test"
    assert [answer.status for answer in others] == [401, 200, 200]
    assert others[2].json == {"status": "ok", "keys_loaded": 1}
    assert built.retries == [None]
    client.leave()
    graph.deadlines.stop()


def test_keys_without_a_file(directory: Path) -> None:
    """
    A checker of another package has nothing to be read again.
    """
    graph = Built(directory, auth_enabled="false").graph
    keys = Keys(None, graph.running)
    assert (keys.count, keys.reload()) == (0, 0)
    keys.changed()
