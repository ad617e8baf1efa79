"""
The judges of soak and chaos: what they let pass and what they do not, and one small run of each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import parse as parse_chaos
from crowd import over_the_limit
from engine_faults import all_faults, broken_promise
from ledger import Ledger
from questions import request
from scripted_engine import FAULTS, STAGES, Script, before_fault, pieces
from soak import compare_vitals, judge_turns, make_settings, parse
from tally import Tally
from vitals import Vitals
from wire import Answer, Wire

ROOT = Path(__file__).resolve().parents[2]
_ERROR = b'{"error": {"message": "m", "type": "t", "param": null, "code": "queue_full"}}'
_EVENT = (
    b'data: {"error": {"message": "m", "type": "t", "param": null, "code": "engine_timeout"}}\n\n'
)
_FIELDS = [("x-request-id", "a")]
_STREAM_HANGS = Script(True, "chunked", "mid-event", "hangs")
_STREAM_CLOSES = Script(True, "chunked", "mid-event", "closes")
_PLAIN_CLOSES = Script(False, "length", "mid-chunk", "closes")
_MORE = Script(False, "length", "after end", "garbage")


def refusal(status: int = 503, content: bytes = _ERROR, request_id: str = "a") -> Answer:
    """An error of the gateway."""
    fields = [("content-type", "application/json"), ("x-request-id", request_id)]
    return Answer("whole", status, fields, bytearray(content))


def read(sent: bytes, to_head: bool = False) -> Answer:
    """What a client makes of some bytes, after which the connection is closed."""

    async def talk() -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            wire = await Wire.open(server.sockets[0].getsockname()[1], 10)
            await wire.send(request("/ping"))
            answer = await wire.answer(to_head)
            wire.close()
        finally:
            server.close()
        return answer

    return asyncio.run(talk())


@pytest.mark.parametrize(
    ("sent", "ending"),
    [
        (b"", "none"),
        (b"HTTP/1.1 200", "cut"),
        (b"hello\r\n\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "cut"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\na", "broken"),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", "whole"),
    ],
)
def test_how_an_answer_ended(sent: bytes, ending: str) -> None:
    """Only a valid end makes an answer whole."""
    assert read(sent).ending == ending


def test_errors_are_the_gateways_own_only_in_their_whole_shape() -> None:
    """llama-server's errors have a number for a code, and pages have none."""
    assert refusal().code == "queue_full"
    assert refusal(content=b'{"error": {"message": "m", "type": "t", "code": 400}}').code == ""
    assert refusal(content=b"[]").code == ""
    assert refusal(request_id="").code == ""


def test_a_request_is_judged_by_what_may_come() -> None:
    """Another's answer, an error that was not due, a cut: all are wrong."""
    ledger = Ledger("t")
    good, refused, late, foreign, cut = (ledger.ask("plain") for _ in range(5))
    assert good.judge(Answer("whole", 200, [("x-request-id", good.id)]))
    refused.judge(refusal(request_id=refused.id), [(503, "queue_full")])
    late.judge(refusal(request_id=late.id), [(429, "rate_limit_exceeded")])
    foreign.judge(Answer("whole", 200, [("x-request-id", good.id)]))
    cut.judge(Answer("cut", 200, [("x-request-id", cut.id)]))
    verdicts = [ask.verdict for ask in ledger.asks]
    assert verdicts == ["whole", "refused", "wrong", "wrong", "wrong"]
    ledger.ask("plain")
    assert len(ledger.failures) == 4, "one that never ended counts too"
    assert len(ledger.wrong_so_far) == 3
    assert "another one's" in ledger.report(ledger.wrong_so_far)
    assert "plain" in ledger.table()
    good.end("left")
    assert good.verdict == "wrong", "nothing is judged twice"


def test_the_access_log_has_to_agree() -> None:
    """One line each, with the status that the client saw; none for public pages."""
    ledger = Ledger("t")
    for verdict in ("whole", "whole", "whole", "left", "unread", "cut"):
        ledger.ask("plain").end(verdict, status=200)
    ledger.ask("poll", public=True).end("whole", status=200)

    def line(number: int, status: int) -> list[str]:
        return ["ts", "user", "GET /v1", str(status), "1", "2", f"t-{number:07}"]

    lines = [line(1, 200), line(2, 503), line(4, 499), line(6, 502)]
    assert ledger.compare_log([*lines, ["too short"]]) == {"499": 1, "not in the log": 1}
    assert len(ledger.failures) == 3, "t-2 differs, t-3 is missing, a line is short"
    ledger.remarks.clear()
    ledger.compare_log([line(1, 200), line(2, 200), line(3, 200), line(5, 200), *lines[2:]])
    assert len(ledger.failures) == 1, "t-5 was served after all"


def test_vitals_at_the_end_are_those_at_the_beginning() -> None:
    """Memory may grow a little, all else not at all."""
    first = Vitals(100_000, 20, 5, 1)
    assert compare_vitals(first, Vitals(102_900, 20, 5, 1), 3.0) == []
    assert len(compare_vitals(first, Vitals(104_000, 21, 4, 0), 3.0)) == 4


def test_a_soak_without_reloads_has_not_tried_them() -> None:
    """A thousand in half an hour, whichever way."""
    assert judge_turns({"reload": 500, "SIGHUP": 500}, 1800) == []
    assert len(judge_turns({"reload": 500, "SIGHUP": 499}, 1800)) == 1
    assert judge_turns({"reload": 0}, 8) == []


def test_a_limit_is_broken_only_when_that_is_sure() -> None:
    """Three within a minute of a limit of two; not when they may have been further apart."""
    assert over_the_limit([(0, 1), (2, 3), (58, 59)], 2)
    assert not over_the_limit([(0, 1), (2, 3), (59, 61)], 2)
    assert not over_the_limit([(0, 1), (2, 3)], 2)


def test_every_fault_has_every_stage_and_form() -> None:
    """A script survives being a header, and what comes before its fault is no whole answer."""
    kinds = list(all_faults())
    assert len(set(kinds)) == len(kinds) == 3 * (len(FAULTS) * len(STAGES) - 1) + 2
    for script in kinds:
        assert Script.read(str(script)) == script
        head, body, end = pieces(script, "id")
        if script.stage in STAGES and script.stage != "after end":
            assert len(before_fault(script, "id")) < len(head + b"".join(body) + end)


@pytest.mark.parametrize(
    ("script", "answer", "kept"),
    [
        (_STREAM_HANGS, Answer("cut", 200, _FIELDS, bytearray(_EVENT)), True),
        (_STREAM_CLOSES, Answer("cut", 200, _FIELDS, bytearray(_EVENT)), False),
        (_STREAM_HANGS, Answer("whole", 200, _FIELDS, bytearray(_EVENT)), False),
        (_STREAM_HANGS, Answer("cut", 200, _FIELDS), False),
        (_PLAIN_CLOSES, Answer("cut", 200, _FIELDS), True),
        (_PLAIN_CLOSES, Answer("whole", 200, _FIELDS), False),
        (_MORE, Answer("whole", 200, _FIELDS, bytearray(b'{"id": "a"}')), True),
        (_MORE, Answer("whole", 200, _FIELDS, bytearray(b'{"id": "b"}')), False),
        (_PLAIN_CLOSES, Answer("none"), False),
    ],
)
def test_promises(script: Script, answer: Answer, kept: bool) -> None:
    """What a client has to get when the engine fails."""
    assert (broken_promise(script, answer, "a") == "") is kept


def test_promises_before_the_first_byte() -> None:
    """502, or 504 for an engine that says nothing."""
    closes, hangs = (Script(True, "chunked", "in head", fault) for fault in ("closes", "hangs"))
    unavailable = refusal(502, _ERROR.replace(b"queue_full", b"engine_unavailable"))
    timeout = refusal(504, _ERROR.replace(b"queue_full", b"engine_timeout"))
    assert broken_promise(closes, unavailable, "a") == ""
    assert broken_promise(hangs, timeout, "a") == ""
    assert broken_promise(hangs, unavailable, "a")
    assert broken_promise(closes, timeout, "a")


def test_the_tally_adds_up() -> None:
    """Wrongs are part of what was tried."""
    tally = Tally()
    tally.add("row", count=0)
    tally.add_all("row", 5, ["one was wrong"])
    assert tally.rows == {"row": [5, 1]}
    assert tally.wrong == 1
    assert "one was wrong" in str(tally)


def test_options() -> None:
    """Sizes for every day, and those for the figures."""
    assert parse(["--seconds", "5"]).seconds == 5
    assert parse_chaos(["--thorough"]).leavers == 10_000
    assert parse_chaos(["--only", "storm"]).only == ("storm",)
    with pytest.raises(SystemExit):
        parse_chaos(["--only", "rain"])
    assert make_settings("mock", Path("/nowhere"))["ENGINE"] == "mock"


def run(program: str, *options: str) -> str:
    """Run one of the programs and return what it printed; it must be content."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / program), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_short_soak() -> None:
    """A few seconds; growth of memory says nothing in so short a time."""
    said = run("soak.py", "--seconds", "8", "--warm-up", "3", "--clients", "8", "--growth", "50")
    assert "Everything is accounted for." in said


@pytest.mark.slow
def test_a_little_chaos() -> None:
    """Client faults, a few leavers, one SIGTERM and one kill -9."""
    said = run(
        "chaos.py", "--only", "clients,leavers,sigterm,gateway-kill",
        "--leavers", "40", "--sigterms", "1", "--gateway-kills", "1",
    )  # fmt: skip
    assert "Wrong:" not in said


@pytest.mark.slow
def test_a_small_siege(compiler: None) -> None:
    """Some idle ones and some slow heads; how quick all is says nothing beside other tests."""
    said = run(
        "siege.py", "--only", "idle,head", "--idle", "30", "--attackers", "20", "--seconds", "1",
        "--most", "100000",
    )  # fmt: skip
    assert "30 answered at first, 30 at the end" in said
    assert "{'408': 20}" in said
