"""
Limits shared through a real Redis, and what is left of them when it fails.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, inlineCallbacks
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.limits.contract import LimitsContract, Store
from tests.limits.redis_server import FOUND, MISSING, RedisServer
from twisted_llama.errors import StartupError
from twisted_llama.limits.memory import MemoryLimits
from twisted_llama.limits.redis import RedisLimits
from twisted_llama.limits.redis_address import RedisAddress
from twisted_llama.limits.redis_connection import REPLY_SECONDS, RedisConnection

Require = Callable[[object, str], None]
Open = Callable[..., RedisLimits]
CRLF = b"\r\n"


@pytest.fixture
def server(tmp_path: Path, require: Require) -> Iterator[RedisServer]:
    """
    A Redis that runs.
    """
    require(FOUND, MISSING)
    redis = RedisServer(tmp_path)
    redis.start()
    yield redis
    redis.kill()


@pytest.fixture
def clock() -> Clock:
    """
    The clock of the gateway's own windows.
    """
    return Clock()


@pytest.fixture
def open_limits(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """
    Starts limits, and stops them at the end.  They wait longer for an answer than users
    would: on a machine that is busy Redis may be late, and is not lost then.
    """
    monkeypatch.setattr("twisted_llama.limits.redis.REPLY_SECONDS", 30.0)
    opened: list[RedisLimits] = []

    def start(url: str) -> RedisLimits:
        limits = RedisLimits(reactor, url, MemoryLimits(clock.seconds))
        limits.startService()
        opened.append(limits)
        return limits

    yield start

    @inlineCallbacks
    def close() -> Any:
        yield gatherResults([limits.stopService() for limits in opened])

    pytest_twisted.blockon(close())


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """
    What the limits log.
    """
    seen: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("twisted_llama.limits"):
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


def levels(events: list[LogEvent]) -> list[str]:
    """
    The levels of log events.
    """
    return [event["log_level"].name for event in events]


async def until(true: Callable[[], object]) -> None:
    """
    Wait for something to become true; the test's own time limit ends it.
    """
    for _ in range(1500):
        if true():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not become true")


async def connected(limits: RedisLimits) -> RedisLimits:
    """
    Limits that Redis decides about.
    """
    await until(lambda: limits.connected)
    return limits


class TestRedisLimits(LimitsContract):
    """
    The contract.
    """

    @pytest.fixture
    def store(self, server: RedisServer, open_limits: Open, clock: Clock) -> Store:
        limits = open_limits(server.url)
        pytest_twisted.blockon(Deferred.fromCoroutine(connected(limits)))

        def advance(seconds: float) -> None:
            clock.advance(seconds)
            server.age(seconds)

        return Store(limits, advance)


class TestRedisLimitsWithoutRedis(LimitsContract):
    """
    The contract, decided by the local windows.
    """

    @pytest.fixture
    def store(self, tmp_path: Path, open_limits: Open, clock: Clock) -> Store:
        limits = open_limits(f"unix://{tmp_path}/nobody.sock")
        return Store(limits, clock.advance)


@pytest_twisted.ensureDeferred
async def test_two_gateways_let_through_the_limit_between_them(
    server: RedisServer, open_limits: Open
) -> None:
    """
    Both ask as fast as they can; the script decides, so exactly as many pass.
    """
    gateways = [await connected(open_limits(server.url)) for _ in range(2)]
    decisions = await gatherResults(
        [gateway.take("a", 50) for _ in range(40) for gateway in gateways]
    )
    assert sum(one.allowed for one in decisions) == 50
    assert min(one.remaining for one in decisions) == 0
    assert all(one.retry_after_seconds > 0 for one in decisions if not one.allowed)


@pytest_twisted.ensureDeferred
async def test_what_one_gateway_gives_back_another_may_take(
    server: RedisServer, open_limits: Open
) -> None:
    one, other = [await connected(open_limits(server.url)) for _ in range(2)]
    decision = await one.take("a", 1)
    assert not (await other.take("a", 1)).allowed
    one.give_back("a", decision)
    await one.take("b", 1)
    assert (await other.take("a", 1)).allowed


@pytest_twisted.ensureDeferred
async def test_windows_leave_redis_by_themselves(server: RedisServer, open_limits: Open) -> None:
    limits = await connected(open_limits(server.url))
    await limits.take("a", 5)
    assert 0 < int(server.run("PTTL", "twisted_llama:limit:a")) <= 60_000
    assert 0 < int(server.run("PTTL", "twisted_llama:limit::probe")) <= 60_000


@pytest_twisted.ensureDeferred
async def test_a_redis_clock_that_is_set_back_locks_nobody_out(
    server: RedisServer, open_limits: Open, clock: Clock
) -> None:
    """
    What was accepted an hour ahead counts as accepted now.
    """
    limits = await connected(open_limits(server.url))
    await limits.take("a", 1)
    server.age(-3600)
    clock.advance(60)
    refused = await limits.take("a", 1)
    assert not refused.allowed
    assert 0 < refused.retry_after_seconds <= 60


@pytest_twisted.ensureDeferred
async def test_a_redis_that_dies_and_comes_back(
    server: RedisServer, open_limits: Open, events: list[LogEvent]
) -> None:
    """
    In between the gateway's own windows decide, which know what it accepted before; one
    warning and one line that it is over, however many were decided.
    """
    limits = await connected(open_limits(server.url))
    assert (await limits.take("a", 2)).allowed
    server.kill()
    await until(lambda: not limits.connected)
    second = await limits.take("a", 2)
    assert second.allowed
    assert not (await limits.take("a", 2)).allowed
    limits.give_back("a", second)
    assert (await limits.take("a", 2)).allowed
    assert limits.fallbacks == 3
    assert levels(events) == ["info", "warn"]
    server.start()
    await connected(limits)
    assert levels(events) == ["info", "warn", "info"]
    assert (await limits.take("b", 2)).allowed
    assert server.run("ZCARD", "twisted_llama:limit:b") == "1"
    assert limits.fallbacks == 3


@pytest_twisted.ensureDeferred
async def test_requests_on_their_way_when_redis_dies_are_decided_here(
    server: RedisServer, open_limits: Open
) -> None:
    limits = await connected(open_limits(server.url))
    server.hang()
    asked = [limits.take("a", 2) for _ in range(3)]
    server.kill()
    decisions = await gatherResults(asked)
    assert [one.allowed for one in decisions] == [True, True, False]
    assert limits.fallbacks == 2


@pytest_twisted.ensureDeferred
async def test_a_redis_that_hangs_delays_nobody_for_long(
    server: RedisServer,
    open_limits: Open,
    events: list[LogEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    After the first that got no answer the others do not even ask; and it is used again
    when it answers again.
    """
    monkeypatch.setattr("twisted_llama.limits.redis.REPLY_SECONDS", REPLY_SECONDS)
    limits = await connected(open_limits(server.url))
    server.hang()
    decision = await limits.take("a", 1)
    assert decision.allowed
    assert not limits.connected
    assert limits.take("b", 1).called
    limits.give_back("a", decision)
    server.wake()
    await connected(limits)
    assert levels(events) == ["info", "warn", "info"]


@pytest_twisted.ensureDeferred
async def test_an_error_from_redis_is_an_outage(
    server: RedisServer, open_limits: Open, events: list[LogEvent]
) -> None:
    limits = await connected(open_limits(server.url))
    server.run("SET", "twisted_llama:limit:a", "not ours")
    assert (await limits.take("a", 1)).allowed
    assert limits.fallbacks == 1
    assert levels(events) == ["info", "warn"]
    assert "WRONGTYPE" in events[1]["reason"]


@pytest_twisted.ensureDeferred
async def test_a_redis_that_may_not_be_written_to_is_not_used(
    server: RedisServer, open_limits: Open, events: list[LogEvent]
) -> None:
    """
    It would answer a ping; the probe is the script itself.
    """
    server.run("CONFIG", "SET", "min-replicas-to-write", "1")
    limits = open_limits(server.url)
    await until(lambda: events)
    assert not limits.connected
    assert levels(events) == ["warn"]
    assert "NOREPLICAS" in events[0]["reason"]
    server.run("CONFIG", "SET", "min-replicas-to-write", "0")
    await connected(limits)


@pytest_twisted.ensureDeferred
async def test_scripts_that_redis_forgot_are_sent_again(
    server: RedisServer, open_limits: Open
) -> None:
    limits = await connected(open_limits(server.url))
    server.run("SCRIPT", "FLUSH")
    assert (await limits.take("a", 1)).allowed
    assert limits.fallbacks == 0


@pytest_twisted.ensureDeferred
async def test_a_request_whose_client_leaves_meanwhile_is_not_counted(
    server: RedisServer, open_limits: Open
) -> None:
    limits = await connected(open_limits(server.url))
    asked = limits.take("a", 1)
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    assert (await limits.take("a", 1)).allowed


@pytest_twisted.ensureDeferred
async def test_password_and_database(
    tmp_path: Path, require: Require, open_limits: Open, events: list[LogEvent]
) -> None:
    """
    The right password is let in, to the right database; the wrong one is an outage whose
    warning does not show it.
    """
    require(FOUND, MISSING)
    server = RedisServer(tmp_path, "--requirepass", "right-password")
    server.start()
    try:
        limits = await connected(open_limits(f"unix://:right-password@{server.socket}?db=3"))
        assert (await limits.take("a", 1)).allowed
        in_database = ("-a", "right-password", "-n", "3", "ZCARD", "twisted_llama:limit:a")
        assert server.run(*in_database) == "1"
        wrong = open_limits(f"unix://me:wrong-password@{server.socket}")
        await until(lambda: len(events) > 1)
        assert not wrong.connected
        assert "WRONGPASS" in events[1]["reason"]
        assert "wrong-password" not in str(events)
        assert (await wrong.take("a", 1)).allowed
    finally:
        server.kill()


@pytest_twisted.ensureDeferred
async def test_tls(
    tmp_path: Path, require: Require, open_limits: Open, events: list[LogEvent]
) -> None:
    """
    With the CA named the server is known; without it it is not trusted.
    """
    require(FOUND, MISSING)
    certificate = make_certificate(tmp_path)
    port = free_port()
    server = RedisServer(
        tmp_path,
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1"),
        *("--tls-cert-file", certificate, "--tls-key-file", certificate),
        *("--tls-ca-cert-file", certificate),
    )
    server.start()
    try:
        url = f"rediss://localhost:{port}"
        limits = await connected(open_limits(f"{url}?ssl_ca_certs={certificate}"))
        assert (await limits.take("a", 1)).allowed
        assert limits.fallbacks == 0
        stranger = open_limits(url)
        await until(lambda: len(events) > 1)
        assert not stranger.connected
    finally:
        server.kill()


@pytest_twisted.ensureDeferred
async def test_a_start_without_redis_warns_once(
    tmp_path: Path, open_limits: Open, events: list[LogEvent]
) -> None:
    """
    Several attempts, one warning; and stopping says nothing.
    """
    limits = open_limits(f"unix://{tmp_path}/nobody.sock")
    assert (await limits.take("a", 1)).allowed
    await until(lambda: events)
    await deferLater(reactor, 0.4)
    assert levels(events) == ["warn"]
    await limits.stopService()
    await limits.stopService()
    assert not limits.connected
    assert levels(events) == ["warn"]


class Nonsense(Protocol):
    """
    Answers the probe as Redis would, and everything after it with nonsense.
    """

    answers = 0

    def dataReceived(self, received: bytes) -> None:
        assert self.transport is not None
        good = CRLF.join([b"*4", b":1", b":1", b":0", b":60000000", b""])
        self.transport.write(b"*1\r\n:1\r\n" if self.answers else good)
        self.answers += 1


class Refusing(Protocol):
    """
    Refuses the probe.
    """

    def dataReceived(self, received: bytes) -> None:
        assert self.transport is not None
        self.transport.write(CRLF.join([b"*4", b":0", b":1", b":0", b":0", b""]))


class Silent(Protocol):
    """
    Accepts connections and answers nothing.
    """


@pytest_twisted.ensureDeferred
async def test_nonsense_does_not_let_a_request_pass_that_the_limit_forbids(
    open_limits: Open, tmp_path: Path
) -> None:
    port = reactor.listenUNIX(str(tmp_path / "s"), Factory.forProtocol(Nonsense))
    try:
        limits = await connected(open_limits(f"unix://{tmp_path}/s"))
        assert (await limits.take("a", 1)).allowed
        assert not limits.connected
        assert not (await limits.take("a", 1)).allowed
    finally:
        await port.stopListening()


@pytest.mark.parametrize("kind", [Refusing, Silent])
@pytest_twisted.ensureDeferred
async def test_a_server_that_fails_the_probe_is_not_used(
    open_limits: Open, tmp_path: Path, events: list[LogEvent], kind: type[Protocol]
) -> None:
    port = reactor.listenUNIX(str(tmp_path / "s"), Factory.forProtocol(kind))
    try:
        limits = open_limits(f"unix://{tmp_path}/s")
        await until(lambda: events)
        assert not limits.connected
        assert events[0]["log_level"] is LogLevel.warn
    finally:
        await limits.stopService()
        await port.stopListening()


@implementer(IStreamClientEndpoint)
class Unreachable:
    """
    An endpoint that refuses every connection, and remembers when it was asked.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asked: list[float] = []

    def connect(self, factory: Factory) -> Deferred[Protocol]:
        self.asked.append(self._clock.seconds())
        return fail(ConnectionRefusedError())


def test_attempts_come_ever_less_often_but_at_least_every_five_seconds() -> None:
    """
    And stopping leaves nothing that is timed.
    """
    clock = Clock()
    endpoint = Unreachable(clock)
    reasons: list[str] = []

    async def probe(protocol: object) -> None:
        raise AssertionError("there is nothing to probe")

    connection = RedisConnection(
        clock, endpoint, RedisAddress(host="h"), probe, lambda: None, reasons.append
    )
    connection.stop()
    connection.start()
    clock.pump([0.25] * 120)
    delays = [later - earlier for earlier, later in pairwise(endpoint.asked)]
    assert delays[:6] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(delays[6:]) == {5.0}
    assert {reason.partition(":")[0] for reason in reasons} == {"ConnectionRefusedError"}
    connection.stop()
    assert clock.getDelayedCalls() == []


class Slow(Unreachable):
    """
    Takes its time to refuse.
    """

    def connect(self, factory: Factory) -> Deferred[Protocol]:
        waited = deferLater(self._clock, 6.0)
        return waited.addCallback(lambda _: super(Slow, self).connect(factory))


def test_attempts_that_took_long_are_repeated_soon() -> None:
    """
    Waiting is for sparing Redis, and a slow attempt has spared it already; one under way
    when the gateway stops is given up.
    """
    clock = Clock()
    endpoint = Slow(clock)

    async def probe(protocol: object) -> None:
        raise AssertionError("there is nothing to probe")

    connection = RedisConnection(
        clock, endpoint, RedisAddress(host="h"), probe, lambda: None, lambda _: None
    )
    connection.start()
    clock.pump([0.25] * 100)
    assert endpoint.asked == [6.0, 12.25, 18.5, 24.75]
    connection.give_up(object())
    connection.stop()
    assert clock.getDelayedCalls() == []


def test_a_missing_package_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "txredisapi", None)
    with pytest.raises(StartupError, match=r"REDIS_URL.*pip install 'twisted-llama\[redis\]'"):
        RedisLimits(MemoryReactorClock(), "redis://h", MemoryLimits(lambda: 0.0))


def free_port() -> int:
    """
    A TCP port that nobody uses.
    """
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificate(directory: Path) -> str:
    """
    A certificate for localhost that vouches for itself, and its key, in one file.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    # What the server and the client will read it as.
    ssl.create_default_context(cafile=str(path))
    return str(path)
