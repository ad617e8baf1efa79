"""
Who listens where.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from twisted_llama.engine.readiness import binding_objection
from twisted_llama.engine.sockets import (
    Listener,
    ensure_port_free,
    free_loopback_port,
    listeners_on,
    parse_listeners,
)
from twisted_llama.errors import StartupError


def listening(host: str, family: int = socket.AF_INET) -> socket.socket:
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind((host, 0))
    server.listen()
    return server


@pytest.mark.parametrize(
    ("host", "family", "public"),
    [
        ("127.0.0.1", socket.AF_INET, False),
        ("127.0.0.2", socket.AF_INET, False),
        ("0.0.0.0", socket.AF_INET, True),
        ("::1", socket.AF_INET6, False),
        ("::", socket.AF_INET6, True),
    ],
)
def test_the_kernel_is_understood(
    host: str, family: int, public: bool, require: Callable[[object, str], None]
) -> None:
    """
    Real sockets, as the kernel shows them.
    """
    try:
        server = listening(host, family)
    except OSError:
        require(False, f"this machine has no address {host}: turn IPv6 on")
        raise
    with server:
        port = server.getsockname()[1]
        found = listeners_on(port)
        assert [listener.address for listener in found] == [host]
        assert [listener.is_public for listener in found] == [public]
        assert (binding_objection(frozenset(), found, port) is not None) == public
        assert binding_objection(found, found, port) is None
    assert listeners_on(port) == frozenset()


def test_mapped_addresses() -> None:
    """
    IPv4 in IPv6 is judged as IPv4.
    """
    assert not Listener("::ffff:127.0.0.1", "1").is_public
    assert Listener("::ffff:10.0.0.1", "1").is_public


def test_garbled_tables(tmp_path: Path) -> None:
    """
    Lines that cannot be read are skipped, and a missing table is empty.
    """
    line = "0: {} 00000000:0000 0A 0:0 00:0 0 0 0 77 1"
    table = "\n".join(
        [
            "header",
            "short",
            line.format("zz:0050"),
            line.format("00:0050"),
            line.format("0100007F:xx"),
        ]
    )
    assert parse_listeners(table, 80) == []
    assert parse_listeners(f"header\n{line.format('00000000:0050')}", 80) == [
        Listener("0.0.0.0", "77")
    ]
    assert listeners_on(80, tmp_path) == frozenset()


def test_taken_port() -> None:
    """
    The setting and the port are named.
    """
    with listening("127.0.0.1") as server:
        port = server.getsockname()[1]
        with pytest.raises(StartupError, match=f"PORT_BACKEND {port} is taken"):
            ensure_port_free("127.0.0.1", port)
    ensure_port_free("127.0.0.1", port)
    ensure_port_free("127.0.0.1", 0)


def test_port_that_cannot_be_used() -> None:
    """
    Other problems are passed on.
    """
    with pytest.raises(StartupError, match="cannot be used"):
        ensure_port_free("192.0.2.1", 4)


def test_free_port_is_free() -> None:
    """
    A moment later.
    """
    ensure_port_free("127.0.0.1", free_loopback_port())
