"""
REDIS_URL, read; and no password in any complaint.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock

from twisted_llama.errors import StartupError
from twisted_llama.limits.redis_address import RedisAddress, parse_redis_url, redis_endpoint

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", RedisAddress(host="localhost")),
        (" redis://localhost/ ", RedisAddress(host="localhost")),
        ("redis://10.0.0.1:7000/3", RedisAddress(host="10.0.0.1", port=7000, db=3)),
        ("redis://h?db=4", RedisAddress(host="h", db=4)),
        ("redis://[::1]:7000", RedisAddress(host="::1", port=7000)),
        ("redis://:p%40ss@h", RedisAddress(host="h", password="p@ss")),
        ("redis://me:pw@h", RedisAddress(host="h", username="me", password="pw")),
        ("rediss://h", RedisAddress(host="h", tls=True)),
        ("rediss://h?ssl_ca_certs=/ca.pem", RedisAddress(host="h", tls=True, ca_certs="/ca.pem")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix://:pw@/run/r.sock?db=2", RedisAddress(path="/run/r.sock", password="pw", db=2)),
    ],
)
def test_addresses_that_can_be_read(url: str, expected: RedisAddress) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h",
        f":{SECRET}@h",
        "",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@h:0",
        f"redis://:{SECRET}@h:99999",
        f"redis://:{SECRET}@h:x",
        f"redis://:{SECRET}@[h",
        f"redis://:{SECRET}@h/one",
        f"redis://:{SECRET}@h/1/2",
        f"redis://:{SECRET}@h/1?db=2",
        f"redis://:{SECRET}@h/²",
        f"redis://:{SECRET}@h?timeout=3",
        f"redis://:{SECRET}@h?ssl_ca_certs=/x",
        f"unix://:{SECRET}@host/run/redis.sock",
        f"unix://:{SECRET}@",
    ],
)
def test_addresses_that_cannot_be_read(url: str) -> None:
    with pytest.raises(StartupError, match="REDIS_URL") as refused:
        parse_redis_url(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@h/2", "redis://h:6379/2"),
        (f"rediss://:{SECRET}@[::1]:7", "rediss://[::1]:7/0"),
        (f"unix://:{SECRET}@/run/r.sock", "unix:/run/r.sock"),
    ],
)
def test_what_logs_show_has_no_password(url: str, shown: str) -> None:
    address = parse_redis_url(url)
    assert str(address) == shown
    assert SECRET not in repr(address)


def test_endpoints() -> None:
    reactor = MemoryReactorClock()
    assert isinstance(redis_endpoint(reactor, RedisAddress(path="/r")), UNIXClientEndpoint)
    assert isinstance(redis_endpoint(reactor, RedisAddress(host="h")), HostnameEndpoint)
    redis_endpoint(reactor, RedisAddress(host="h", tls=True))


def test_a_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    for _ in range(2):
        with pytest.raises(StartupError, match=r"REDIS_URL.*ca\.pem"):
            redis_endpoint(
                MemoryReactorClock(), RedisAddress(host="h", tls=True, ca_certs=str(empty))
            )
        empty.write_text("not a certificate")


def test_tls_without_its_packages_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "twisted.internet.ssl", None)
    with pytest.raises(StartupError, match=r"pip install 'twisted\[tls\]'"):
        redis_endpoint(MemoryReactorClock(), RedisAddress(host="h", tls=True))
