"""
Finished exchanges for tests, and what is logged when one is defective.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, globalLogPublisher

from twisted_llama.http.sse import UsageTap
from twisted_llama.telemetry.endpoints import endpoint_label
from twisted_llama.telemetry.exchange import Exchange

STARTED_WALL = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def finished_exchange(
    path: bytes = b"/v1/chat/completions", status: int = 200, **facts: object
) -> Exchange:
    """
    An exchange that took 1.5 s, with whatever else is given as facts.
    """
    exchange = Exchange(
        b"POST", path, endpoint_label(path), b"req-1", started=10.0, started_wall=STARTED_WALL
    )
    exchange.finished = 11.5
    exchange.status = status
    exchange.bytes_sent = 321
    for name, value in facts.items():
        setattr(exchange, name, value)
    return exchange


def tap_of(body: bytes) -> UsageTap:
    """
    What remembers the end of this answer.
    """
    tap = UsageTap()
    tap.feed(body)
    return tap


@contextmanager
def logged_failures() -> Iterator[list[LogEvent]]:
    """
    Collect what is logged with a failure.
    """
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observe)
