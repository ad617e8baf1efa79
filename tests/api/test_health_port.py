"""
The health port: yes, to everything.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.api.ends import Client
from twisted_llama.health import make_health_site
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.turn import Turn


class HealthWorld:
    """
    The port, its clients, and nothing else.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.site = make_health_site(Deadlines(self.clock), Turn(self.clock), lambda: 0.0)
        self.closings: list[Any] = []

    def settle(self) -> None:
        """
        Tell clients that they were disconnected.
        """
        while self.closings:
            self.closings.pop()()

    def client(self) -> Client:
        """
        Somebody asks.
        """
        return Client(self, "192.0.2.7")  # type: ignore[arg-type]  # as much of a World as it needs


@pytest.fixture
def port() -> HealthWorld:
    """
    The port.
    """
    return HealthWorld()


@pytest.mark.parametrize(
    "target", [b"/", b"/health", b"/ping?x=y", b"/..//%2e;", b"/v1/models", b"/%zz", b"//"]
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_any_path(port: HealthWorld, method: bytes, target: bytes) -> None:
    """
    200 with an empty text, without a key.
    """
    answer = port.client().ask(method, target, key=None).answer
    assert (answer.status, answer.body) == (200, b"")
    assert answer[b"content-type"] == b"text/plain"
    assert answer[b"content-length"] == b"0"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
def test_other_methods(port: HealthWorld, method: bytes) -> None:
    """
    405 with what is allowed; the connection stays.
    """
    client = port.client().ask(method, b"/")
    assert client.answer.status == 405
    assert client.answer[b"allow"] == b"GET, HEAD"
    assert not client.closed


def test_methods_of_proxies(port: HealthWorld) -> None:
    """
    The same.
    """
    client = port.client().ask(b"TRACE", b"/")
    assert (client.answer.status, client.answer[b"allow"][:9]) == (405, b"GET, HEAD")


def test_no_request(port: HealthWorld) -> None:
    """
    400, and the end of the connection.
    """
    client = port.client().send(b"what?\r\n\r\n")
    assert client.answer.status == 400
    assert client.closed


def test_a_client_that_leaves(port: HealthWorld) -> None:
    """
    Nothing is left of it.
    """
    client = port.client().send(b"GET / HT")
    client.leave()
    assert port.site.channels == set()
    port.clock.advance(1)
    assert port.clock.getDelayedCalls() == []
