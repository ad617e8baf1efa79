"""
Whatever clients, engine, keys and clock do, in whatever order: every slot, place and
connection is given back, every request has one end, and no answer is taken for another.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.api.ends import KEY, OK, STREAM_HEAD, Client, chunk
from tests.api.world import EPOCH, OTHER_KEY, World
from twisted_llama.errors import Draining
from twisted_llama.http.site import ClientLimits

SHORT_KEY = b"sk-short-lived"
KEYS = [KEY, OTHER_KEY, SHORT_KEY, b"sk-not-a-key", None]
index = st.integers(0, 30)


class Schedules(RuleBasedStateMachine):
    """
    Three slots or fewer, six clients or fewer, and everything that may happen to them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            max_concurrent_requests=2,
            max_queue_size=3,
            queue_timeout=20,
            request_timeout=15,
            max_requests_per_minute=12,
            client_limits=ClientLimits(max_body_bytes=50, body_timeout_seconds=10),
        )
        self.world.keys.add(SHORT_KEY, "short", None, EPOCH + 40)
        self.draining = False

    def pick(self, number: int) -> Client:
        """
        One of the clients that are there, perhaps a new one.
        """
        present = [client for client in self.world.clients if not client.transport.lost]
        if (len(present) < 6 and number % 3 == 0) or not present:
            return self.world.client(f"192.0.2.{number}")
        return present[number % len(present)]

    @rule(number=index, key=st.sampled_from(KEYS), body=st.sampled_from([b"", b"{}", b"x" * 60]))
    def posts(self, number: int, key: bytes | None, body: bytes) -> None:
        """
        A whole request, perhaps ahead of the answer to the one before, perhaps too large.
        """
        self.pick(number).ask(b"POST", b"/v1/x", key=key, body=body)

    @rule(number=index, path=st.sampled_from([b"/v1/models", b"/ping", b"/ready", b"/nothing"]))
    def gets(self, number: int, path: bytes) -> None:
        """
        What does not queue.
        """
        self.pick(number).ask(b"GET", path)

    @rule(number=index)
    def begins_a_body(self, number: int) -> None:
        """
        The rest of it comes later, or never.
        """
        self.pick(number).ask(b"POST", b"/v1/x", (b"Content-Length", b"4")).send(b"12")

    @rule(number=index)
    def sends_some(self, number: int) -> None:
        """
        More of a body, or what is no request.
        """
        self.pick(number).send(b"34")

    @rule(number=index)
    def leaves(self, number: int) -> None:
        """
        A client goes.
        """
        self.pick(number).leave()

    @rule(accepts=st.booleans())
    def engine_accepts(self, accepts: bool) -> None:
        """
        Whether connections are accepted from now on at once.
        """
        self.world.accepts = accepts

    @precondition(lambda self: self.world.attempts)
    @rule(number=index, accepts=st.booleans())
    def engine_decides(self, number: int, accepts: bool) -> None:
        """
        About one that is waiting.
        """
        attempt = self.world.attempts[number % len(self.world.attempts)]
        if accepts:
            attempt.accept()
        else:
            attempt.refuse()
        self.world.settle()

    @precondition(lambda self: self.world.engine_ends)
    @rule(
        number=index,
        says=st.sampled_from(
            [
                OK,
                OK[:20],
                STREAM_HEAD,
                chunk(b"data: x\n\n"),
                b"0\r\n\r\n",
                STREAM_HEAD + chunk(b"data: x\n\n") + b"0\r\n\r\n",
                b"nonsense",
                None,
            ]
        ),
    )
    def engine_says(self, number: int, says: bytes | None) -> None:
        """
        Something proper, or something else, or nothing ever again.
        """
        end = self.world.engine_ends[-1 - number % min(3, len(self.world.engine_ends))]
        if says is None:
            end.close()
        else:
            end.answer(says)

    @rule(state=st.sampled_from(["ready", "ready", "loading", "failed"]))
    def engine_becomes(self, state: str) -> None:
        """
        As its supervisor sees it.
        """
        self.world.status = self.world.status.__class__(state)  # type: ignore[arg-type]
        if state != "ready":
            self.world.pool.close()
        self.world.gate.set_engine(state, "It has failed.")  # type: ignore[arg-type]
        self.world.settle()

    @rule(slots=st.integers(1, 3))
    def engine_has(self, slots: int) -> None:
        """
        More slots, or fewer.
        """
        self.world.gate.resize(slots)
        self.world.settle()

    @rule(removes=st.booleans())
    def reload(self, removes: bool) -> None:
        """
        A key goes, or comes again.
        """
        if removes and len(self.world.keys) == 3:
            self.world.keys.remove(OTHER_KEY)
        else:
            self.world.keys.add(OTHER_KEY, "other")
        self.world.reload()
        self.world.settle()

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        """
        Whatever was to wait no longer ends.
        """
        self.world.pass_time(seconds)

    @precondition(lambda self: not self.draining)
    @rule(number=index)
    def drains(self, number: int) -> None:
        """
        The gateway begins to end; seldom, since little happens after that.
        """
        if number == 17:
            self.draining = True
            self.world.gate.drain()
            self.world.site.drain()
            self.world.settle()

    @invariant()
    def books_agree(self) -> None:
        """
        Nobody holds what was not given out, and no answer is broken.
        """
        world = self.world
        held = sum(1 for end in world.engine_ends if not end.closed)
        held -= world.pool.idle + world.pool.settling
        assert 0 <= world.gate.active <= len(world.running)
        assert held + len(world.attempts) <= len(world.running)
        assert world.gate.waiting <= 3
        for client in world.clients:
            for answer in client.answers[:-1]:
                assert answer.whole

    def teardown(self) -> None:
        """
        The end of everything: nothing is left.
        """
        world = self.world
        world.gate.drain()
        world.site.drain()
        world.running.end_all(Draining(1))
        world.settle()
        assert len(world.running) == 0
        assert world.gate.active == world.gate.waiting == 0
        for client in world.clients:
            client.leave()
        world.assert_nothing_left()
        for exchange in world.exchanges:
            assert exchange.status in {200, 401, 404, 408, 413, 429, 499, 502, 503, 504}, exchange
            if exchange.outcome == "client_gone":
                assert exchange.status == 499


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(stateful_step_count=40)
