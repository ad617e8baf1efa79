"""
C{llama-gateway bench}, against servers in memory and one over a real socket.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
import pytest_twisted
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_llama.cli import bench
from twisted_llama.cli.bench_report import BenchReport, Spread, percentile, printable
from twisted_llama.cli.bench_stream import (
    EventTimes,
    Question,
    RequestFailed,
    StreamTimer,
    Timings,
    api_root,
)
from twisted_llama.errors import StartupError

QUESTION = Question("m.gguf", "Hello?", 8)


def event(**more: object) -> bytes:
    """One event with one token."""
    content = {"choices": [{"index": 0, "delta": {"content": "a"}}], **more}
    return b"data: " + json.dumps(content).encode() + b"\n\n"


WHOLE = event() + event() + event() + b"data: [DONE]\n\n"


class Completions(Resource):
    """Answers with the same bytes every time, and keeps what it was asked."""

    isLeaf = True

    def __init__(self, body: bytes = WHOLE, status: int = 200) -> None:
        super().__init__()
        self.body = body
        self.status = status
        self.asked: list[tuple[bytes, str | None, dict[str, object] | None]] = []
        self.silent = False

    def _note(self, request: object) -> None:
        sent = request.content.read()
        self.asked.append(
            (request.path, request.getHeader("authorization"), json.loads(sent) if sent else None)
        )

    def render_GET(self, request: object) -> bytes:
        """The list of models."""
        self._note(request)
        request.setResponseCode(self.status)
        return self.body

    def render_POST(self, request: object) -> object:
        """One stream."""
        self._note(request)
        request.setResponseCode(self.status)
        if self.silent:
            return NOT_DONE_YET
        return self.body


@frozen
class Rig:
    """A timer in front of a server in memory."""

    server: Completions
    clock: Clock
    client: StubTreq
    timer: StreamTimer


def make_rig(server: Completions, api_key: str | None = "sk-abc") -> Rig:
    """Everything in one place."""
    clock, client = Clock(), StubTreq(server)
    timer = StreamTimer(client, "http://gateway.test/v1", api_key, clock, clock.seconds, 30.0)
    return Rig(server, clock, client, timer)


def outcome_of(pending: Deferred, rig: Rig) -> object:
    """Pump bytes until there is nothing more to move; the result or the failure."""
    results: list[object] = []
    pending.addBoth(results.append)
    rig.client.flush()
    assert results, "it is still waiting"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class TestApiRoot:
    """Which address is asked."""

    @pytest.mark.parametrize(
        ("url", "root"),
        [
            ("http://h:8000", "http://h:8000/v1"),
            ("http://h:8000/", "http://h:8000/v1"),
            ("http://h:8000/v1", "http://h:8000/v1"),
            ("https://h/openai/v1/", "https://h/openai/v1"),
            ("http://h/v1/chat/completions", "http://h/v1"),
            (" http://[::1]:1 ", "http://[::1]:1/v1"),
        ],
    )
    def test_with_or_without_v1(self, url: str, root: str) -> None:
        """Both mean the same."""
        assert api_root(url) == root

    @pytest.mark.parametrize(
        "url",
        ["", "h:8000", "ftp://h", "http://", "http://h:x", "http://h:0", "http://[", "http://h?a"],
    )
    def test_others_are_refused_with_an_example(self, url: str) -> None:
        """It says what one looks like."""
        with pytest.raises(StartupError, match=r"http://127\.0\.0\.1:8000"):
            api_root(url)


class TestEventTimes:
    """Reading one stream."""

    def reader(self, seconds: Callable[[], float] = lambda: 0.0) -> EventTimes:
        """Connected to nothing."""
        events = EventTimes(seconds)
        events.makeConnection(StringTransport())
        return events

    def kind_of_failure(self, events: EventTimes) -> str:
        """Consume the failure."""
        failures: list[Failure] = []
        events.finished.addErrback(failures.append)
        assert isinstance(failures[0].value, RequestFailed)
        return failures[0].value.kind

    @given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
    def test_any_split_of_the_bytes_gives_the_same_tokens(self, cuts: list[int]) -> None:
        """Reads end where they like."""
        events = self.reader()
        edges = [0, *sorted(cuts), len(WHOLE)]
        for start, end in pairwise(edges):
            events.dataReceived(WHOLE[start:end])
        events.connectionLost(Failure(ResponseDone()))
        assert (events.tokens, len(events.times)) == (3, 3)
        assert events.finished.called

    def test_every_token_has_the_time_of_its_read(self) -> None:
        """Gaps are what a reader sees."""
        clock = Clock()
        events = self.reader(clock.seconds)
        events.dataReceived(event())
        clock.advance(0.25)
        events.dataReceived(event() + event())
        assert events.times == [0.0, 0.25, 0.25]

    def test_the_servers_own_count_wins(self) -> None:
        """An event may carry several tokens."""
        events = self.reader()
        events.dataReceived(event() + event(choices=[], usage={"completion_tokens": 9}))
        assert events.tokens == 9

    @pytest.mark.parametrize(
        ("chunk", "tokens"),
        [
            ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, 0),
            ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, 1),
            ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, 1),
            ({"choices": [{"text": "old"}]}, 1),
            ({"choices": ["?"]}, 0),
            ({}, 0),
            ([], 0),
        ],
    )
    def test_what_counts_as_a_token(self, chunk: object, tokens: int) -> None:
        """Reasoning and tool calls are generated too; roles are not."""
        events = self.reader()
        events.dataReceived(b": comment\nevent: x\ndata:" + json.dumps(chunk).encode() + b"\r\n")
        assert events.tokens == tokens

    def test_a_stream_without_done_is_broken(self) -> None:
        """Even if its framing was closed properly."""
        events = self.reader()
        events.dataReceived(event())
        events.connectionLost(Failure(ResponseDone()))
        assert self.kind_of_failure(events) == "broken stream"

    def test_a_cut_after_done_is_broken(self) -> None:
        """The framing promised more."""
        events = self.reader()
        events.dataReceived(WHOLE)
        events.connectionLost(Failure(ResponseFailed([])))
        assert self.kind_of_failure(events) == "broken stream"

    def test_a_body_that_only_the_close_ends_is_whole_with_done(self) -> None:
        """HTTP/1.0 servers."""
        events = self.reader()
        events.dataReceived(WHOLE)
        events.connectionLost(Failure(PotentialDataLoss()))
        assert events.finished.called
        assert events.tokens == 3

    @pytest.mark.parametrize(
        ("bytes_", "kind"),
        [
            (b'data: {"error": {"message": "died"}}\n\n', "error event in the stream"),
            (b"data: {nonsense\n\n", "an event that is not JSON"),
            (b"data: " + b"x" * (1 << 20), "an event of more than 1 MiB"),
        ],
    )
    def test_what_is_no_stream_ends_it(self, bytes_: bytes, kind: str) -> None:
        """The connection is closed, and later words change nothing."""
        events = self.reader()
        events.dataReceived(bytes_)
        assert events.transport.producerState == "stopped"
        events.dataReceived(b"data: {again\n\n")
        events.connectionLost(Failure(ResponseDone()))
        assert self.kind_of_failure(events) == kind


class TestStreamTimer:
    """Asking a server."""

    def test_one_answer_is_timed(self) -> None:
        """Key, path and body are what an OpenAI client sends."""
        rig = make_rig(Completions())
        timings = outcome_of(Deferred.fromCoroutine(rig.timer.time_one(QUESTION)), rig)
        assert timings == Timings(0.0, (0.0, 0.0), 0.0, 3)
        path, authorization, body = rig.server.asked[0]
        assert (path, authorization) == (b"/v1/chat/completions", "Bearer sk-abc")
        assert (body["model"], body["max_tokens"], body["stream"]) == ("m.gguf", 8, True)

    def test_no_key_no_header(self) -> None:
        """A server without keys is asked without."""
        rig = make_rig(Completions(), None)
        outcome_of(Deferred.fromCoroutine(rig.timer.time_one(QUESTION)), rig)
        assert rig.server.asked[0][1] is None

    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            (b"{}", 401, "status 401"),
            (b"{}", 429, "status 429"),
            (b"data: [DONE]\n\n", 200, "no tokens in the stream"),
            (event(), 200, "broken stream"),
        ],
    )
    def test_failures_have_a_kind(self, body: bytes, status: int, kind: str) -> None:
        """Counted by it."""
        rig = make_rig(Completions(body, status))
        with pytest.raises(RequestFailed) as failed:
            outcome_of(Deferred.fromCoroutine(rig.timer.time_one(QUESTION)), rig)
        assert failed.value.kind == kind

    def test_silence_times_out(self) -> None:
        """The answer as a whole has so long."""
        rig = make_rig(Completions())
        rig.server.silent = True
        pending = Deferred.fromCoroutine(rig.timer.time_one(QUESTION))
        rig.client.flush()
        rig.clock.advance(31)
        with pytest.raises(RequestFailed, match="timed out"):
            outcome_of(pending, rig)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (ConnectionRefusedError(), "connection refused"),
            (DNSLookupError(), "host not found"),
            (ResponseFailed([]), "connection lost"),
        ],
    )
    def test_no_connection_is_a_kind_too(self, error: Exception, kind: str) -> None:
        """Not a traceback."""

        class Unreachable:
            def request(self, *args: object, **more: object) -> Deferred:
                failed: Deferred = Deferred()
                failed.errback(error)
                return failed

        rig = make_rig(Completions())
        timer = StreamTimer(
            HTTPClient(Unreachable()), "http://h/v1", None, rig.clock, rig.clock.seconds, 30
        )
        with pytest.raises(RequestFailed) as failed:
            outcome_of(Deferred.fromCoroutine(timer.time_one(QUESTION)), rig)
        assert failed.value.kind == kind

    def test_the_first_model_is_taken(self) -> None:
        """What is not a model is passed over."""
        rig = make_rig(Completions(b'{"data": [1, {"id": "first"}, {"id": "second"}]}'))
        assert outcome_of(Deferred.fromCoroutine(rig.timer.first_model()), rig) == "first"
        assert rig.server.asked[0][0] == b"/v1/models"

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b'{"data": []}', "no model in the list of models"),
            (b"[]", "no model in the list of models"),
            (b"<html>", "a list of models that is not JSON"),
        ],
    )
    def test_no_model(self, body: bytes, kind: str) -> None:
        """Then one must be named."""
        rig = make_rig(Completions(body))
        with pytest.raises(RequestFailed) as failed:
            outcome_of(Deferred.fromCoroutine(rig.timer.first_model()), rig)
        assert failed.value.kind == kind


class TestStatistics:
    """Numbers out of times."""

    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
    def test_spread_is_in_order(self, values: list[float]) -> None:
        """And within what was measured."""
        spread = Spread.of(values)
        assert spread is not None
        assert spread.min == min(values)
        assert spread.min <= spread.p50 <= spread.p95 <= spread.p99 <= max(values)
        assert spread.mean == pytest.approx(sum(values) / len(values))

    def test_percentiles_interpolate(self) -> None:
        """Half way between the two in the middle."""
        assert percentile([1.0, 3.0], 50) == 2.0
        assert Spread.of([]) is None

    def test_rate_needs_two_tokens(self) -> None:
        """One token has no speed."""
        assert Timings(1.0, (), 1.0, 1).tokens_per_second is None
        assert Timings(1.0, (0.5, 0.5), 2.0, 3).tokens_per_second == 2.0

    def test_printable_leaves_a_terminal_alone(self) -> None:
        """The model's name comes from a server."""
        assert printable("a\x1b[2Jb\n") == "a?[2Jb?"


def report_of(*timings: Timings, failures: dict[str, int] | None = None) -> BenchReport:
    """A report with these timings."""
    return BenchReport("http://h/v1", "m", 8, 2, 1, timings, failures or {}, 2.0)


class TestReport:
    """What is printed."""

    def test_json_has_all_statistics(self) -> None:
        """In seconds, under telling names."""
        shown = json.loads(report_of(Timings(0.5, (0.1, 0.1), 0.7, 3)).to_json())
        for name in (
            *("time_to_first_token_seconds", "tokens_per_second"),
            *("gap_between_tokens_seconds", "total_time_seconds"),
        ):
            assert set(shown[name]) == {"min", "mean", "p50", "p95", "p99"}
        assert shown["time_to_first_token_seconds"]["p50"] == 0.5
        assert shown["overall_tokens_per_second"] == 1.5

    def test_text_counts_failures_by_kind(self) -> None:
        """The most frequent first."""
        text = report_of(failures={"status 429": 1, "broken stream": 2}).to_text()
        assert "0 succeeded, 3 failed" in text
        assert text.index("2 x broken stream") < text.index("1 x status 429")
        assert "not measured" in text

    def test_text_is_in_milliseconds(self) -> None:
        """Of times; rates are per second."""
        text = report_of(Timings(0.5, (0.1, 0.1), 0.7, 3)).to_text()
        assert "time to first token (ms)" in text
        assert "500.00" in text


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class TestProgress:
    """How far it is."""

    def test_a_terminal_gets_a_bar(self) -> None:
        """Drawn over itself, ended with a line feed."""
        out = Terminal()
        progress = bench.Progress(out, 2)
        progress.show(1, 0)
        progress.show(2, 1)
        assert out.getvalue().count("\r[") == 2
        assert out.getvalue().endswith("2/2, 1 failed\n")

    def test_a_file_gets_at_most_ten_lines(self) -> None:
        """However many requests there are."""
        out = io.StringIO()
        progress = bench.Progress(out, 1000)
        for done in range(1, 1001):
            progress.show(done, 0)
        assert len(out.getvalue().splitlines()) == 10
        assert "\r" not in out.getvalue()


def parsed(*arguments: str) -> argparse.Namespace:
    """As the console script parses them."""
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


class TestPlan:
    """Arguments."""

    def test_the_key_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ours first; an option wins over both."""
        monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
        monkeypatch.delenv("LLAMA_GATEWAY_API_KEY", raising=False)
        assert bench.plan(parsed()).api_key == "sk-theirs"
        monkeypatch.setenv("LLAMA_GATEWAY_API_KEY", "sk-ours")
        assert bench.plan(parsed()).api_key == "sk-ours"
        assert bench.plan(parsed("--api-key", "sk-given")).api_key == "sk-given"

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--requests", "0"),
            ("--requests", "many"),
            ("--concurrency", "0"),
            ("--max-tokens", "-1"),
            ("--warmup", "-1"),
            ("--url", "nowhere"),
            ("--api-key", "sk-\r\nX-Evil: 1"),
        ],
    )
    def test_a_bad_value_is_refused_in_one_line(self, option: str, value: str) -> None:
        """Which names the option, and never repeats a key."""
        out, err = io.StringIO(), io.StringIO()
        assert bench.run(parsed(f"{option}={value}"), out, err) == 1
        assert option in err.getvalue()
        assert err.getvalue().count("\n") == 1
        assert "Evil" not in err.getvalue()
        assert out.getvalue() == ""


class Answers:
    """Stands in for a timer: succeeds, or fails as told."""

    def __init__(self, *kinds: str | None) -> None:
        self.kinds = list(kinds)
        self.questions: list[Question] = []

    async def first_model(self) -> str:
        """A model."""
        return "first"

    async def time_one(self, question: Question) -> Timings:
        """The next of the answers."""
        self.questions.append(question)
        kind = self.kinds.pop(0) if self.kinds else None
        if kind:
            raise RequestFailed(kind)
        return Timings(0.1, (0.1,), 0.2, 2)


def carried_out(answers: Answers, *arguments: str) -> BenchReport:
    """To the end, at once."""
    shown: list[tuple[int, int]] = []
    what = bench.plan(parsed(*arguments))
    pending = Deferred.fromCoroutine(
        bench.carry_out(what, answers, Clock().seconds, lambda *n: shown.append(n))
    )
    results: list[BenchReport] = []
    pending.addCallback(results.append)
    assert [done for done, _ in shown] == list(range(1, what.requests + 1))
    return results[0]


class TestCarryOut:
    """The course of a measurement."""

    def test_the_warm_up_is_not_measured(self) -> None:
        """Nor are its failures."""
        answers = Answers("status 503", "status 503", None, "status 429")
        report = carried_out(answers, "--warmup=2", "--requests=4", "--concurrency=2")
        assert len(answers.questions) == 6
        assert len(report.timings) == 3
        assert report.failures == {"status 429": 1}
        assert report.model == "first"

    def test_a_named_model_is_not_looked_up(self) -> None:
        """It may be one that is not listed."""
        assert carried_out(Answers(), "--model=mine", "--requests=1").model == "mine"

    def test_a_password_in_the_address_is_not_reported(self) -> None:
        """Reports are pasted into chats."""
        report = carried_out(Answers(), "--url=http://me:secret@h:1/", "--requests=1")
        assert report.url == "http://h:1/v1"


@pytest_twisted.ensureDeferred
async def test_the_command_measures_a_server_over_the_network() -> None:
    """
    A process of its own, as an operator runs it.
    """
    root = Resource()
    v1 = Resource()
    root.putChild(b"v1", v1)
    v1.putChild(b"models", Completions(b'{"data": [{"id": "served"}]}'))
    chat = Resource()
    v1.putChild(b"chat", chat)
    completions = Completions()
    chat.putChild(b"completions", completions)
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}"
    arguments = ["-m", "twisted_llama.cli.main", "bench", "--url", url, "--api-key", "sk-MARK"]
    try:
        arguments += ["--requests", "5", "--concurrency", "2", "--output", "json"]
        out, err, status = await getProcessOutputAndValue(sys.executable, arguments, env=None)
        completions.status = 401
        out2, err2, refused = await getProcessOutputAndValue(
            sys.executable, [*arguments[:-1], "text"], env=None
        )
    finally:
        await port.stopListening()
    assert status == 0, err
    shown = json.loads(out)
    assert (shown["succeeded"], shown["failed"], shown["model"]) == (5, 0, "served")
    assert refused == 1
    assert b"5 x status 401" in out2
    assert b"--api-key" in err2
    assert b"MARK" not in out + err + out2 + err2


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_said_in_one_line() -> None:
    """With what to look at."""
    probe = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{probe.getHost().port}"
    await probe.stopListening()
    out, err, status = await getProcessOutputAndValue(
        sys.executable, ["-m", "twisted_llama.cli.main", "bench", "--url", url], env=None
    )
    assert (out, status) == (b"", 1)
    assert b"connection refused" in err
    assert err.count(b"\n") == 1
