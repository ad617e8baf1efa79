"""
Clients as the internet has them: good ones, slow ones, those that leave, and
those that send what they like.  Each scenario asks, and judges what it gets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random

from bad_bytes import BAD_BYTES, noise
from ledger import Ask, Ledger
from product import Product
from questions import chat, request
from terms import Terms
from wire import Answer, Wire

CHAT = "/v1/chat/completions"
#: A client that could not run for longer is no longer one that goes on reading.
MOST_HELD_UP_SECONDS = 1.0
QUEUE_REFUSALS = ((503, "queue_full"), (503, "queue_timeout"), (503, "model_loading"))
#: A wrong key; the second after many of them, and all come from one address.
KEY_REFUSALS = ((401, "invalid_api_key"), (429, "too_many_invalid_keys"))
FAULT_REFUSALS = (*QUEUE_REFUSALS, (502, "engine_unavailable"), (504, "engine_timeout"))
Scenario = Callable[["Client"], Awaitable[None]]


class Client:
    """
    One client; what it does is decided by C{random} alone.

    @ivar accepted: when requests with limited keys were sent and answered.
    """

    def __init__(
        self,
        product: Product,
        ledger: Ledger,
        terms: Terms,
        random: Random,
        accepted: dict[str, list[tuple[float, float]]],
    ) -> None:
        self.product = product
        self.ledger = ledger
        self.terms = terms
        self.random = random
        self.accepted = accepted
        self.refusals = FAULT_REFUSALS if terms.faults else QUEUE_REFUSALS

    # -- tools -------------------------------------------------------------------

    def _chat(self, ask: Ask, stream: bool, most: int = 40, **how: object) -> bytes:
        tokens = self.random.randint(1, most)
        key = self.random.choice(self.terms.keys)
        said = "word " * self.random.choice((1, 10, 200))
        body = chat(stream, tokens, said)
        return request(CHAT, key, body, request_id=ask.id, **how)  # type: ignore[arg-type]  # passed on

    def _judge(self, ask: Ask, answer: Answer, stream: bool) -> bool:
        """
        @return: whether the connection can be used again.
        """
        if answer.framing == "close" and answer.ending == "whole" and answer.last_error:
            # Without a framing only the event tells that it is not whole.
            answer.ending = "cut"
        if self.terms.faults and answer.ending == "cut" and answer.status == 200:
            if stream and not answer.last_error and answer.detail != "reset":
                ask.end("wrong", f"cut without an error event: {answer}")
            else:
                ask.end("cut", f"by a fault, {answer.last_error or 'no event'}")
            return False
        if not ask.judge(answer, self.refusals):
            return answer.ending == "whole" and answer["connection"] != "close"
        if stream and not answer.is_done:
            ask.verdict, ask.why = "wrong", f"a stream without [DONE]: {answer}"
        if not stream:
            try:
                json.loads(answer.body)
            except ValueError:
                ask.verdict, ask.why = "wrong", f"not JSON: {answer}"
        return answer["connection"] != "close"

    async def _open(self, **how: int) -> Wire:
        return await Wire.open(self.product.port, **how)

    # -- good ones ---------------------------------------------------------------

    async def plain(self, stream: bool = False) -> None:
        """
        A few requests on one connection.
        """
        wire = await self._open()
        for _ in range(self.random.randint(1, 4)):
            ask = self.ledger.ask("stream" if stream else "plain")
            await wire.send(self._chat(ask, stream))
            if not self._judge(ask, await wire.answer(), stream):
                break
        wire.close()

    async def streams(self) -> None:
        """
        The same with streams.
        """
        await self.plain(stream=True)

    async def chunked(self) -> None:
        """
        A body in chunks, and not all at once.
        """
        wire = await self._open()
        ask = self.ledger.ask("chunked body")
        sent = self._chat(ask, False, chunk_bytes=self.random.randint(1, 60))
        for at in range(0, len(sent), size := max(1, len(sent) // self.random.randint(1, 5))):
            await wire.send(sent[at : at + size])
            await asyncio.sleep(0)
        self._judge(ask, await wire.answer(), False)
        wire.close()

    async def http_1_0(self) -> None:
        """
        An old client.
        """
        stream = self.random.random() < 0.5
        wire = await self._open()
        ask = self.ledger.ask("HTTP/1.0")
        await wire.send(self._chat(ask, stream, version="1.0"))
        answer = await wire.answer()
        self._judge(ask, answer, stream)
        if ask.verdict == "whole" and answer["transfer-encoding"]:
            ask.verdict, ask.why = "wrong", "HTTP/1.0 got a transfer coding"
        if ask.verdict in ("whole", "refused") and not await wire.ended():
            self.ledger.wrong(f"{ask.id}: the connection of HTTP/1.0 was not closed")
        wire.close()

    async def expecting(self) -> None:
        """
        Waits to be told to send the body.
        """
        wire = await self._open()
        ask = self.ledger.ask("expects 100")
        sent = self._chat(ask, False, fields=("Expect: 100-continue",))
        head, _, body = sent.partition(b"\r\n\r\n")
        await wire.send(head + b"\r\n\r\n")
        await asyncio.sleep(self.random.choice((0, 0.01)))
        await wire.send(body)
        self._judge(ask, await wire.answer(), False)
        wire.close()

    async def pipelined(self) -> None:
        """
        Several requests at once.
        """
        wire = await self._open()
        asks: list[tuple[Ask, bool]] = []
        sent = b""
        for _ in range(self.random.randint(2, 6)):
            stream = self.random.random() < 0.4
            asks.append((self.ledger.ask("pipelined"), stream))
            sent += self._chat(asks[-1][0], stream, 10)
        await wire.send(sent)
        going_on = True
        for ask, stream in asks:
            if going_on:
                going_on = self._judge(ask, await wire.answer(), stream)
            else:
                ask.end("unread", "behind an answer that closed the connection")
        wire.close()

    async def polls(self) -> None:
        """
        What platforms and dashboards look at.
        """
        path = self.random.choice(("/ping", "/health", "/ready", "/metrics", "/metrics?x=1"))
        text = path == "/metrics" and self.random.random() < 0.3
        wire = await self._open()
        ask = self.ledger.ask("poll", public=True)
        fields = ("Accept: text/plain",) if text else ()
        await wire.send(request(path, request_id=ask.id, fields=fields))
        ask.judge(await wire.answer(), statuses=(200, 503) if path == "/ready" else (200,))
        wire.close()
        wire = await Wire.open(self.product.health_port)
        beside = self.ledger.ask("health port", public=True, anonymous=True)
        await wire.send(request("/"))
        beside.judge(await wire.answer())
        wire.close()

    # -- slow ones ----------------------------------------------------------------

    async def slow_reader(self) -> None:
        """
        Takes some megabytes, in small sips.
        """
        wire = await self._open(receive_bytes=8192)
        ask = self.ledger.ask("slow reader")
        key = self.random.choice(self.terms.keys)
        await wire.send(request(self.terms.long_path, key, self.terms.long_body, request_id=ask.id))
        answer = await wire.answer(pause_seconds=0.001, read_bytes=32768)
        if answer.ending == "cut" and wire.held_up_seconds > MOST_HELD_UP_SECONDS:
            # A machine that has no time for us makes us one who does not read.
            ask.end("left", "held up, did not read")
        else:
            self._judge(ask, answer, False)
        wire.close()

    async def stuck_reader(self) -> None:
        """
        Takes nothing, for longer than it may.
        """
        wire = await self._open(receive_bytes=4096)
        ask = self.ledger.ask("stuck reader")
        key = self.random.choice(self.terms.keys)
        await wire.send(request(self.terms.long_path, key, self.terms.long_body, request_id=ask.id))
        await asyncio.sleep(self.random.uniform(4, 6))
        ask.end("left", "did not read")
        wire.close()

    # -- those that leave ------------------------------------------------------------

    async def leaver(self) -> None:
        """
        Goes at a random moment, in one way or another.
        """
        await self.leave(self.random.choice(("close", "reset", "half-close")))

    async def leave(self, how: str) -> None:
        """
        @param how: C{close}, C{reset} or C{half-close}.
        """
        random, stream = self.random, self.random.random() < 0.6
        wire = await self._open()
        ask = self.ledger.ask("leaver")
        sent = self._chat(ask, stream, self.terms.most_tokens)
        moment = random.choice(("head", "body", "queued", "queued", "head came", "streaming"))
        if moment in ("head", "body"):
            head = sent.index(b"\r\n\r\n") + 4
            end = random.randrange(head) if moment == "head" else random.randrange(head, len(sent))
            await wire.send(sent[:end])
            await asyncio.sleep(random.choice((0, 0.005)))
        else:
            await wire.send(sent)
        if moment == "queued":
            await asyncio.sleep(random.expovariate(10))
        elif moment in ("head came", "streaming"):
            most = 0 if moment == "head came" else random.randrange(1, 20000)
            answer = await wire.answer(enough=lambda answer: len(answer.content) >= most)
            if answer.ending != "left":
                # It was over before we left.
                self._judge(ask, answer, stream)
                wire.close()
                return
        if how == "half-close":
            wire.half_close()
            answer = await wire.answer()
            if answer.ending == "late":
                ask.end("wrong", f"half-closed, {moment}: the connection stays")
                wire.close()
                return
        ask.end("left", f"{moment}, {how}")
        wire.close(with_reset=how == "reset")

    # -- those that send what they like -------------------------------------------------

    async def bad_bytes(self) -> None:
        """
        What is no request.
        """
        name, sent, statuses = self.random.choice(BAD_BYTES)
        if self.random.random() < 0.2:
            name, sent, statuses = "noise", noise(self.random), (400,)
        wire = await self._open()
        ask = self.ledger.ask("bad bytes", anonymous=True)
        await wire.send(sent + request("/ping"))
        answer = await wire.answer()
        if answer.ending == "whole" and answer.code and answer.status in statuses:
            ask.end("refused", f"{answer.status} {answer.code}", answer.status)
        else:
            ask.end("wrong", f"{name}: {answer}")
        if not await wire.ended():
            self.ledger.wrong(f"{name}: the connection goes on with {wire.excess[:80]!r}")
        wire.close()

    async def stranger(self) -> None:
        """
        Has no key, or a wrong one.
        """
        field = self.random.choice(
            ("", "Authorization: Bearer sk-nobodys-key-0123456789", "Authorization: Basic YTpi",
             "X-Api-Key: sk-nobodys-key-0123456789", "Authorization: sk-nobodys-key-0123456789")
        )  # fmt: skip
        path = self.random.choice((CHAT, "/v1/models", "/reload", "/slots", "/nowhere"))
        wire = await self._open()
        ask = self.ledger.ask("wrong key")
        body = chat(False, 1) if path == CHAT else None
        fields = (field,) if field else ()
        await wire.send(request(path, None, body, request_id=ask.id, fields=fields))
        ask.judge(await wire.answer(), KEY_REFUSALS, ())
        wire.close()

    async def off_limits(self) -> None:
        """
        Has a key, and asks for what is not there or too large.
        """
        key = self.random.choice(self.terms.keys)
        wire = await self._open()
        ask = self.ledger.ask("not allowed")
        kind = self.random.choice(("path", "method", "length"))
        if kind == "length":
            fields = (f"Content-Length: {self.terms.most_body_bytes + 1}",)
            sent = request(CHAT, key, method="POST", request_id=ask.id, fields=fields)
            refusal = (413, "payload_too_large")
        elif kind == "path":
            path = self.random.choice(("/slots", "/nowhere", "/lora-adapters", "/cors-proxy"))
            sent, refusal = request(path, key, request_id=ask.id), (404, "not_found")
        else:
            sent, refusal = request("/reload", key, request_id=ask.id), (405, "method_not_allowed")
        await wire.send(sent)
        ask.judge(await wire.answer(), (refusal,), ())
        wire.close()

    async def over_limit(self) -> None:
        """
        Uses up what its key allows.
        """
        if not self.terms.limited:
            return
        key = self.random.choice(self.terms.limited)
        clock = asyncio.get_running_loop().time
        wire = await self._open()
        for _ in range(self.random.randint(1, 6)):
            ask = self.ledger.ask("limited key")
            sent_at = clock()
            await wire.send(request(CHAT, key, chat(False, 2), request_id=ask.id))
            answer = await wire.answer()
            if ask.judge(answer, (*self.refusals, (429, "rate_limit_exceeded"))):
                self.accepted.setdefault(key, []).append((sent_at, clock()))
            elif answer.status == 429 and not answer["retry-after"].isdigit():
                self.ledger.wrong(f"{ask.id}: 429 without Retry-After")
            if answer.ending != "whole" or answer["connection"] == "close":
                break
        wire.close()
