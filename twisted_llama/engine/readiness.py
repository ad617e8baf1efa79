"""
Whether an engine may be used: it says it is ready, only we can reach it, and it
refuses whoever has no key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_llama.engine.inquiry import Inquiry
from twisted_llama.engine.sockets import Listener

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 1.0
_PAUSE_GROWTH = 1.3
# Paths that need a key, cheapest first; /health and /v1/models need none.
_GUARDED: tuple[tuple[bytes, bytes, bytes | None], ...] = (
    (b"POST", b"/tokenize", b'{"content": ""}'),
    (b"GET", b"/props", None),
)


def pauses_seconds() -> Iterator[float]:
    """
    How long to wait between questions: 0.25 s at first, growing to 1 s, for ever.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(_LONGEST_PAUSE_SECONDS, pause * _PAUSE_GROWTH)


class Readiness:
    """
    The questions that are asked of an engine that was just started.
    """

    log = Logger()

    def __init__(self, inquiry: Inquiry, clock: IReactorTime) -> None:
        self._inquiry = inquiry
        self._clock = clock

    async def when_ready(self, on_answer: Callable[[], None]) -> None:
        """
        Ask for its health until it is ready, however often that takes.

        @param on_answer: called once, when it answers but is not ready.
        """
        answered = False
        for pause_seconds in pauses_seconds():
            answer = await self._inquiry.ask(b"GET", b"/health")
            if answer is not None:
                if answer.status == 200:
                    return
                if not answered:
                    answered = True
                    on_answer()
            await deferLater(self._clock, pause_seconds)

    async def key_objection(self) -> str | None:
        """
        Ask without the key for something that needs one.

        @return: why the engine must not be used, or L{None}.
        """
        for method, path, body in _GUARDED:
            answer = await self._inquiry.ask(method, path, with_key=False, body=body)
            if answer is None:
                continue
            if answer.status in (401, 403):
                return None
            if 200 <= answer.status < 300:
                return (
                    "the engine answers requests that have no key, so anyone on this machine "
                    "could use it. Remove what turns its --api-key-file off (EXTRA_ARGS, a "
                    "wrapper script), or take a llama-server that knows this option."
                )
        self.log.warn(
            "The engine knows none of the paths on which its key could be checked; "
            "it is used all the same."
        )
        return None

    async def count_slots(self) -> int | None:
        """
        @return: how many requests the engine works on at once, if it says so.
        """
        answer = await self._inquiry.ask(b"GET", b"/props")
        if answer is None or answer.status != 200:
            return None
        return parse_slots(answer.body)


def parse_slots(body: bytes) -> int | None:
    """
    Read C{total_slots} from an answer of C{/props}.
    """
    try:
        properties = json.loads(body)
    except (ValueError, RecursionError):
        return None
    slots = properties.get("total_slots") if isinstance(properties, dict) else None
    if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0:
        return slots
    return None


def binding_objection(
    before: frozenset[Listener], after: frozenset[Listener], port: int
) -> str | None:
    """
    @param before: who listened on the port before the engine was started.
    @param after: who listens there now.
    @return: why the engine must not be used, or L{None}.
    """
    for listener in sorted(after - before, key=lambda one: one.address):
        if listener.is_public:
            return (
                f"the engine listens on {listener.address} port {port}, where other machines "
                "can reach it past this gateway; it must listen on 127.0.0.1 only. Remove what "
                "changes its --host (EXTRA_ARGS, a wrapper script)."
            )
    return None
