"""
Finished exchanges for tests.
"""

from __future__ import annotations

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
