"""
Tests of the lines of the access log.
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.telemetry.exchanges import STARTED_WALL, finished_exchange, logged_failures, tap_of
from twisted_llama.http.sse import UsageTap
from twisted_llama.telemetry.access_log import AccessLog, format_json, format_text
from twisted_llama.telemetry.exchange import Exchange

KEY = "sk-" + "k" * 43
JSON_NAMES = [
    *("ts", "key_id", "method", "path", "status", "duration_ms", "bytes"),
    *("request_id", "queue_ms", "first_byte_ms", "model", "tokens"),
]

hostile_bytes = st.one_of(
    st.binary(),
    st.text(alphabet='a|" \\\r\n\t\x00\x1b\x7f\x85\x9b\u2028\u2029{}%', max_size=20).map(
        str.encode
    ),
)
hostile_text = st.one_of(st.text(), st.text(alphabet='a|" \\\r\n\x1b\x85\u2028\ud800', max_size=20))


def naming(model: str) -> UsageTap:
    """What remembers an answer by this model."""
    return tap_of(b'{"model":%b}' % json.dumps(model).encode("ascii"))


@st.composite
def hostile_exchanges(draw: st.DrawFn) -> Exchange:
    """Exchanges in which everything that others choose is hostile."""
    started = draw(st.floats(0, 1e9))
    exchange = Exchange(
        draw(hostile_bytes),
        draw(hostile_bytes),
        "other",
        draw(hostile_bytes),
        started,
        draw(st.floats(0, 4e9)),
    )
    exchange.finished = started + draw(st.floats(0, 1e6))
    exchange.key_id = draw(hostile_text)
    exchange.status = draw(st.integers(100, 999))
    exchange.tap = draw(st.none() | st.builds(naming, hostile_text))
    exchange.generated_tokens = draw(st.none() | st.integers(0))
    exchange.first_byte_seconds = draw(st.none() | st.floats(0, 1e6))
    return exchange


@given(hostile_exchanges())
def test_text_is_one_line_of_seven_fields(exchange: Exchange) -> None:
    """No client forges a line or a field, whatever it sends."""
    line = format_text(exchange)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \| [^ |]+ \| [^ |]+ [^ |]+"
        r" \| \d{3} \| \d+ \| \d+ \| [^ |]+",
        line,
    )
    assert line.isascii()
    assert line.isprintable()


@given(hostile_exchanges())
def test_json_parses_and_has_all_names(exchange: Exchange) -> None:
    """No client breaks the JSON, and control characters are not in its words."""
    line = format_json(exchange)
    assert line.isascii()
    assert line.isprintable()
    record = json.loads(line)
    assert list(record) == JSON_NAMES
    assert record["model"] == exchange.read_model()
    assert record["tokens"] == exchange.generated_tokens
    for name in ("key_id", "method", "path", "request_id"):
        assert record[name].isprintable()


def test_text_line() -> None:
    """The fields in their order; the time is that of the end."""
    exchange = finished_exchange(key_id="alice")
    assert format_text(exchange) == (
        "2023-11-14T22:13:21.500Z | alice | POST /v1/chat/completions | 200 | 1500 | 321 | req-1"
    )


def test_json_line() -> None:
    """All facts of a relayed request."""
    exchange = finished_exchange(
        key_id="alice",
        queue_seconds=0.25,
        first_byte_seconds=0.0125,
        tap=tap_of('{"model": "Modell-ä.gguf"}'.encode()),
        generated_tokens=7,
    )
    assert json.loads(format_json(exchange)) == {
        "ts": "2023-11-14T22:13:21.500Z",
        "key_id": "alice",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "duration_ms": 1500.0,
        "bytes": 321,
        "request_id": "req-1",
        "queue_ms": 250.0,
        "first_byte_ms": 12.5,
        "model": "Modell-ä.gguf",
        "tokens": 7,
    }


@pytest.mark.parametrize("format_line", [format_text, format_json])
def test_a_key_sent_as_path_or_request_id_is_masked(format_line: object) -> None:
    """A secret does not get into the log by being put in the wrong place."""
    assert callable(format_line)
    exchange = finished_exchange(b"/v1/" + KEY.encode(), request_id=KEY.encode())
    line = format_line(exchange)
    assert KEY not in line
    assert line.count("sk-***") == 2


def test_wall_clock_of_the_start_and_monotonic_duration() -> None:
    """A clock that was set back meanwhile changes nothing."""
    exchange = finished_exchange(started=100.0, finished=100.001)
    assert exchange.started_wall == STARTED_WALL
    assert format_text(exchange).startswith("2023-11-14T22:13:20.001Z | - | ")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_protected_paths_are_logged(log_format: str) -> None:
    """Refused ones too, with the key id - where there was none."""
    lines: list[str] = []
    assert log_format in ("text", "json")
    log = AccessLog(lines.extend, "json" if log_format == "json" else "text")
    exchange = finished_exchange(status=401, outcome="refused")
    log.observe([exchange])
    assert lines == [format_json(exchange) if log_format == "json" else format_text(exchange)]


def test_public_and_broken_ones_are_not_logged() -> None:
    """Public paths and requests that named none are left out."""
    lines: list[str] = []
    log = AccessLog(lines.extend)
    log.observe([finished_exchange(b"/ping", public=True)])
    log.observe([finished_exchange(b"", named_path=False, status=400)])
    assert lines == []


def test_nothing_is_formatted_when_nothing_is_logged() -> None:
    """Without a place to write to, not even the fields are looked at."""
    AccessLog(None).observe([finished_exchange(started="no number")])


def test_a_defect_costs_one_line() -> None:
    """Those who ended in the same turn are logged."""
    lines: list[str] = []
    good = finished_exchange()
    with logged_failures() as logged:
        AccessLog(lines.extend).observe([good, finished_exchange(started="no number"), good])
    assert lines == [format_text(good)] * 2
    assert len(logged) == 1


def test_repr_of_an_exchange_tells_which() -> None:
    """For debugging: request id, method, path, status."""
    assert repr(finished_exchange()) == ("<Exchange b'req-1' b'POST' b'/v1/chat/completions' 200>")
