"""
A thousand clients that leave at random moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.gateway.running import Gateway, make_secret, running, until
from tests.gateway.talking import CHAT, chat, request_bytes

CLIENTS = 1000
SLOTS = 16
LOAD_SECONDS = 1.5
#: The last client comes after so long.
COMING_SECONDS = 4.0
#: None stays longer.
PATIENCE_SECONDS = 2.0
SETTINGS = {
    "ENGINE": "mock",
    "EXTRA_ARGS": f"-np {SLOTS} --delay-ms 20 --tokens 500 --load-seconds {LOAD_SECONDS}",
    "MAX_CONNECTIONS_PER_IP": 2 * CLIENTS,
}


async def one_client(port: int, request: bytes, comes: float, stays: float) -> str:
    """
    Come, ask for a stream, and leave whatever is going on.

    @return: how far it got.
    """
    await asyncio.sleep(comes)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()

    async def read_on() -> None:
        while data := await reader.read(65536):
            received.extend(data)

    try:
        writer.write(request)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(read_on(), stays)
    finally:
        writer.transport.abort()
    if received:
        # Perhaps between the head and the first event.
        assert received.startswith(b"HTTP/1.1 200 OK\r\n"), received
        return "streaming"
    return "loading" if comes + stays < LOAD_SECONDS else "queued"


async def crowd(gateway: Gateway) -> list[str]:
    """
    All of them.
    """
    choice = random.Random(1000)
    body = json.dumps(chat(500, stream=True)).encode()
    keys = list(gateway.keys.values())
    port = gateway.port
    return await asyncio.gather(
        *(
            one_client(
                port,
                request_bytes("POST", CHAT, choice.choice(keys), body),
                choice.uniform(0, COMING_SECONDS),
                choice.uniform(0, PATIENCE_SECONDS),
            )
            for _ in range(CLIENTS)
        )
    )


def test_a_thousand_clients_that_leave(tmp_path: Path) -> None:
    """
    In the queue, while the engine loads, in a stream: nothing is active or waiting afterwards,
    the engine has all its slots, and new requests are served at once.
    """
    keys = {name: make_secret() for name in ("first", "second", "third")}
    with running(Gateway(tmp_path, SETTINGS, keys), ready=False) as gateway:
        left = asyncio.run(crowd(gateway))
        assert len(left) == CLIENTS
        assert all(left.count(where) > 20 for where in ("loading", "queued", "streaming")), Counter(
            left
        )
        gateway.wait_queue(0, 0)

        def ask(_: int) -> tuple[int, int]:
            answer = gateway.ask("POST", CHAT, body=chat(2))
            return answer.status, gateway.queue()[1]

        with ThreadPoolExecutor(SLOTS) as pool:
            assert set(pool.map(ask, range(SLOTS))) == {(200, 0)}
        gateway.wait_queue(0, 0)
        figures = gateway.ask("GET", "/metrics").json["gateway"]
        assert figures["queue_depth"] == 0

        def logged() -> Counter[str]:
            return Counter(line.split(" | ")[3] for line in gateway.access_lines())

        # The log is written in its own time.
        until(lambda: logged().total() == CLIENTS + SLOTS, "a line for each")
        assert logged() == {"499": CLIENTS, "200": SLOTS}
