"""
Tests of the gateway's own log.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import Application, IService, MultiService
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twisted_llama.telemetry.logs import (
    LineObserver,
    LoggedMultiService,
    format_event_json,
    format_event_text,
    make_observer,
    own_log_sink,
)
from twisted_llama.telemetry.sinks import FileSink, StreamSink

KEY = "sk-" + "k" * 43


def event(text: str = "{who} came", **fields: object) -> LogEvent:
    """An event as C{Logger} makes them."""
    return {
        "log_format": text,
        "log_level": LogLevel.warn,
        "log_namespace": "room.thing",
        "log_time": 1_700_000_000.25,
        "who": "Ann",
        **fields,
    }


def failure(message: str) -> Failure:
    """A failure with a traceback."""
    try:
        raise ValueError(message)
    except ValueError:
        return Failure()


def test_text_line() -> None:
    """Time, level, namespace, message."""
    assert format_event_text(event()) == "2023-11-14T22:13:20.250Z warn     [room.thing] Ann came"


def test_json_line() -> None:
    """The same, and the event's plain values by name."""
    line = format_event_json(
        event(count=3, raw=b"\x1b\xff", ratio=float("nan"), thing=object(), isError=0)
    )
    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.250Z",
        "level": "warn",
        "logger": "room.thing",
        "message": "Ann came",
        "fields": {"who": "Ann", "count": 3, "raw": "\\x1b\\xff", "ratio": "nan"},
    }


def test_json_without_fields() -> None:
    """There is no empty object."""
    line = format_event_json({"log_format": "hello"})
    record = json.loads(line)
    assert (record["message"], record["level"], record["logger"]) == ("hello", "info", "-")
    assert "fields" not in record


@given(st.text(), st.binary())
def test_hostile_fields_stay_in_one_line(text: str, raw: bytes) -> None:
    """Whatever a client puts into a field, there is one line, and JSON parses."""
    hostile = event("{word} {raw}", word=text, raw=raw)
    line = format_event_text(hostile)
    assert len(f"{line}.".splitlines()) == 1
    line.encode("utf-8")
    json_line = format_event_json(hostile)
    assert json_line.isascii()
    assert json_line.isprintable()
    json.loads(json_line)


def test_a_traceback_follows_indented() -> None:
    """Its lines cannot be taken for events, even when the exception's text forges one."""
    forged = failure("bad\n2023-11-14T22:13:20.250Z info [x] forged\x1b")
    lines = format_event_text(event(log_failure=forged)).split("\n")
    assert all(line.startswith("\t") for line in lines[1:])
    assert lines[-1].endswith("forged\\x1b")
    record = json.loads(format_event_json(event(log_failure=forged)))
    assert "ValueError: bad" in record["traceback"]


def test_a_failure_that_cannot_be_shown() -> None:
    """The event is still logged."""

    class Unshowable(Failure):
        def getTraceback(self, *args: object, **kwargs: object) -> str:
            raise RuntimeError("no")

    text = format_event_text(event(log_failure=Unshowable(ValueError())))
    assert "(no traceback: RuntimeError('no'))" in text


def test_secrets_are_masked_everywhere() -> None:
    """In the message, the fields and the traceback."""
    bad = event("got {key}", key=KEY, log_failure=failure(f"bad {KEY}"))
    for line in (format_event_text(bad), format_event_json(bad)):
        assert KEY not in line
        assert "sk-***" in line


def test_long_messages_are_cut() -> None:
    """One event does not fill the log."""
    assert len(format_event_text(event("{long}", long="x" * 100_000))) < 9000


def test_level_filter() -> None:
    """Events below the level are left out, those without one too."""
    lines: list[str] = []
    publisher = LogPublisher(make_observer(lines.append, "text", "warn"))
    log = Logger("ns", observer=publisher)
    log.info("no")
    log.emit(LogLevel.warn, "yes")
    log.error("also")
    assert [line.rpartition(" ")[2] for line in lines] == ["yes", "also"]


def test_json_observer() -> None:
    """The format is chosen by its name."""
    lines: list[str] = []
    observer = LineObserver(lines.append, "json")
    assert verifyObject(ILogObserver, observer)
    observer(event())
    assert json.loads(lines[0])["message"] == formatEvent(event())


def test_events_of_the_older_log() -> None:
    """Twisted's older parts log by another interface."""
    lines: list[str] = []
    observer = make_observer(lines.append)
    globalLogPublisher.addObserver(observer)
    try:
        legacy_log.msg("an old\nmessage")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert lines[0].endswith("an old\\nmessage")


def test_the_application_gets_the_observer() -> None:
    """It is what twistd looks for before it makes its own."""
    observer = make_observer([].append)
    application = Application("gateway")
    service = LoggedMultiService(observer)
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is observer
    assert list(IService(application)) == [service]


def test_an_observer_that_is_there_stays() -> None:
    """A .tac file may choose its own."""
    theirs = make_observer([].append)
    application = Application("gateway")
    application.setComponent(ILogObserver, theirs)
    LoggedMultiService(make_observer([].append)).setServiceParent(application)
    assert application.getComponent(ILogObserver) is theirs


def test_without_observer_or_application() -> None:
    """Then it is an ordinary service."""
    application = Application("gateway")
    LoggedMultiService(None).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None
    parent = MultiService()
    LoggedMultiService(make_observer([].append)).setServiceParent(parent)
    assert len(list(parent)) == 1


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({}, None),
        ({"nodaemon": True, "logfile": None}, None),
        ({"nodaemon": 1, "logfile": "-"}, None),
        ({"nodaemon": False, "logfile": None}, "twistd.log"),
        ({"nodaemon": True, "logfile": "own.log"}, "own.log"),
    ],
)
def test_twistd_options_choose_the_place(
    options: dict[str, object],
    file: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They mean what they mean for every other program under twistd."""
    monkeypatch.chdir(tmp_path)
    sink = own_log_sink(options, 100, 1)
    if file is None:
        assert isinstance(sink, StreamSink)
    else:
        assert isinstance(sink, FileSink)
        assert sink.path == tmp_path / file


@pytest.mark.parametrize("options", [{"syslog": True}, {"logger": "some.factory"}])
def test_logs_that_twistd_makes_itself(options: dict[str, object]) -> None:
    """They are left to it."""
    assert own_log_sink(options, 100, 1) is None
