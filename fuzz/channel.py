"""
What clients send: any bytes, in any pieces, while the engine, the clock and
other clients do what they like.

Promises: nothing is raised and nothing logged as a failure; what the clients get
is HTTP; there are no more answers than requests; after an answer that ends a
connection nothing is read as a request; the engine is sent requests of those
only who have shown a key, and all of them plain; what is read ahead is bounded;
whoever waits is told in the end; when the clients have gone nothing is left.
And where nothing happens but bytes coming, they get the same answers in any
pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest

from fuzz.answers import Answer, read_answers
from fuzz.channel_words import EVENTS, PIECES, SETTINGS
from fuzz.engine_side import Engine
from fuzz.gateway import KEY, SCARCE_KEY, Gateway
from fuzz.script import read_script
from fuzz.wires import READ_BYTES, Wire

#: Beside a body's limit, what may be read that no answer was given to: 64 KiB
#: ahead or to be skipped, and the read that shows that it is too much.
AHEAD_BYTES = 4096 + 2 * 65536 + READ_BYTES
#: What is swallowed of a client that goes on after its last answer.
LINGER_BYTES = 1048576 + READ_BYTES


@cache
def gateway() -> Gateway:
    """
    The gateway of all executions.
    """
    return Gateway(**SETTINGS)


def check(octets: bytes) -> None:
    """
    See the module.
    """
    steps = read_script(octets, PIECES, EVENTS)
    pieces = [step for step in steps if isinstance(step, bytes)]
    if len(pieces) < len(steps):
        _play(steps)
        return
    first = _play(steps)
    whole = b"".join(pieces)
    if len(whole) > 2000 and zlib.crc32(whole) % 4:
        # Long ones take long.
        return
    if len(pieces) > 1:
        _compare(first, _play([whole]))
    elif len(whole) > 1:
        _compare(first, _play(list(_pieces(whole))))


def _pieces(whole: bytes) -> Iterator[bytes]:
    """
    Cut it somewhere, now and then everywhere.
    """
    chance = zlib.crc32(whole)
    if chance % 16 == 0 and len(whole) < 500:
        cuts = set(range(1, len(whole)))
    else:
        cuts = {(chance >> shift) % len(whole) for shift in range(0, 24, 5)} - {0}
    ends = [*sorted(cuts), len(whole)]
    for start, end in zip([0, *ends], ends, strict=False):
        yield whole[start:end]


def _play(steps: list[bytes | str]) -> list[Answer]:
    """
    Run one script on a gateway without any clients yet.

    @return: what the first client got.
    """
    world = gateway()
    world.begin()
    try:
        sides = Sides(world)
        for step in steps:
            sides.take(step)
        return sides.close()
    finally:
        # When something was wrong already, that is what counts.
        world.end()


class Sides:
    """
    Everybody around the gateway in one execution.
    """

    def __init__(self, world: Gateway) -> None:
        self._world = world
        self._engine = Engine(world)
        self._clients = [world.client()]
        self._at = 0
        self._unanswered: dict[int, tuple[int, int]] = {}

    def take(self, step: bytes | str) -> None:
        """
        One step of the script.
        """
        world, wire = self._world, self._clients[self._at]
        if isinstance(step, bytes):
            self._send(wire, step)
        elif step == "other client":
            if len(self._clients) < 3:
                self._clients.append(world.client(f"192.0.2.{len(self._clients)}"))
            self._at = (self._at + 1) % len(self._clients)
        elif step.startswith("engine"):
            self._engine.act(step)
        elif step == "gateway drains":
            world.drain()
        elif step == "gateway revokes keys":
            world.graph.running.end_revoked(lambda principal: False)
        elif step == "a moment passes":
            world.pass_time(0.3)
        elif step == "seconds pass":
            world.pass_time(7)
        elif step == "a minute passes":
            world.pass_time(61)
        elif step == "reads no more":
            wire.fill()
        elif step == "reads again":
            wire.drain()
        else:
            wire.leave(cleanly=step == "closes")
        self._engine.turn()
        assert 0 <= world.graph.gate.active <= 2, world.graph.gate.active
        assert world.graph.gate.waiting <= 2, world.graph.gate.waiting

    def _send(self, wire: Wire, octets: bytes) -> None:
        wire.give(octets)
        self._engine.turn()
        # Bounded: what was read since it was last written to.
        number = id(wire)
        sent, read = self._unanswered.get(number, (0, 0))
        if len(wire.sent) != sent:
            self._unanswered[number] = (len(wire.sent), len(wire.read))
            return
        unanswered = len(wire.read) - read
        over = wire.ended or b"\r\nConnection: close\r\n" in wire.sent[-2000:]
        limit = LINGER_BYTES if over else AHEAD_BYTES
        assert unanswered <= limit or wire.paused or wire.lost, f"{unanswered} bytes are held"

    def close(self) -> list[Answer]:
        """
        Let time pass until everybody has been told, and look at what that was.
        """
        world = self._world
        for wire in self._clients:
            wire.drain()
        self._engine.act("engine accepts")
        self._engine.turn()
        for _ in range(6):
            if all(wire.lost for wire in self._clients):
                break
            world.pass_time(40)
        else:
            # There may be thousands of requests, sent ahead to an engine that is silent.
            self._engine.wake()
            world.pass_time(100)
            world.pass_time(100)
        world.check_log()
        assert all(wire.lost for wire in self._clients), "a client waits for ever"
        answers = [self._read(wire) for wire in self._clients]
        self._check_engine()
        return answers[0]

    def _read(self, wire: Wire) -> list[Answer]:
        """
        What one client got.
        """
        asked = bytes(wire.read)
        answers = read_answers(bytes(wire.sent), asked.count(b"HEAD "), wire.finished)
        possible = asked.count(b"\r\n\r\n") + 1
        assert len(answers) <= possible, f"{len(answers)} answers to at most {possible} requests"
        if answers and answers[-1].closes:
            assert wire.ended or wire.lost
        for answer in answers:
            if answer.status >= 400 and answer.body:
                # What the engine says here is always 200; /ready says more than an error.
                assert answer.code is not None or answer.status == 503, answer
        return answers

    def _check_engine(self) -> None:
        """
        What the engine got, and from whom.
        """
        self._engine.look()
        requests = self._engine.requests
        asked = b"".join(bytes(wire.read) for wire in self._clients)
        shown = asked.count(KEY) + asked.count(SCARCE_KEY)
        # A request that is asked again on a new connection is one.
        ids = {request[b"x-request-id"] for request in requests}
        assert len(ids) <= shown, f"{len(ids)} requests reached the engine with {shown} keys"
        for request in requests:
            assert KEY not in request.body or asked.count(KEY) > 1
            assert len(request.body) <= SETTINGS["max_request_body_size"], len(request.body)
            for name, value in request.fields:
                # A client may write a valid key into a field of another name, too.
                own = name not in (b"authorization", b"x-api-key") and name + b":" in asked.lower()
                assert KEY not in value or asked.count(KEY) > 1 or own, name
        log = self._world.access_log
        accepted = {line["request_id"] for line in log if line["key_id"] in ("user", "scarce")}
        for wanted in ids:
            assert wanted.decode("ascii") in accepted, f"{wanted!r} had no key"


def _compare(first: list[Answer], second: list[Answer]) -> None:
    """
    The same bytes in other pieces.  What is refused for two reasons at once may
    be refused for either.
    """
    for one, other in zip_longest(first, second):
        if one is None or other is None:
            raise AssertionError(f"{first!r} in one split, {second!r} in another")
        if one.status != other.status:
            assert _ends_badly(one), f"{one!r} in one split, {other!r} in another"
            assert _ends_badly(other), f"{one!r} in one split, {other!r} in another"
            return
        if one.status < 400:
            assert _lasting(one) == _lasting(other), f"{one!r} in one split, {other!r} in another"


def _ends_badly(answer: Answer) -> bool:
    return answer.closes and answer.status in (400, 405, 408, 413, 414, 431, 501, 505)


def _lasting(answer: Answer) -> tuple[bytes, bool, bool, list[bytes]]:
    """
    What of an answer does not depend on the time and on counters.
    """
    body = answer.body if answer.body.startswith((b'{"asked', b"data: ")) else b""
    return body, answer.whole, answer.closes, [name for name, _ in answer.fields]
