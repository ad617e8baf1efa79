"""
The gateway's own log: C{twisted.logger} events as lines of text or JSON.

How it gets in place.  C{twistd} makes its own observer (plain text on stdout)
when its C{AppLogger} starts, which is after C{makeService} and before any
service starts; but first it looks for an C{ILogObserver} set as a component on
the C{Application}.  C{makeService} never sees the C{Application}; the service that
it returns does, because it is given it as its parent.  So the outermost service
is a L{LoggedMultiService}, which sets the component in C{setServiceParent}: it
works the same for C{twistd -n llama-gateway} and for a C{.tac} file, and
C{--logger} on the command line still has the last word.  L{own_log_sink} keeps
C{--logfile}, C{--syslog} and running as a daemon meaning what they mean.  A program that is
not started by C{twistd} hands the observer to C{globalLogBeginner.beginLoggingTo}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from zope.interface import implementer

from .clean_text import controls_escaped, redacted
from .sinks import FileSink, Sink, StreamSink

LogFormat = Literal["text", "json"]

_STDERR: Final = 2
_LONGEST_MESSAGE: Final = 8192
_LONGEST_TRACEBACK: Final = 32768
_LEGACY_FIELDS: Final = frozenset({"format", "isError", "message", "printed", "system", "time"})


def format_event_text(event: LogEvent) -> str:
    """
    Make one line of an event, C{time LEVEL [namespace] message}, and one more for
    each line of its traceback, which begins with a tab.
    """
    line = f"{_timestamp(event)} {_level(event):<8} [{_namespace(event)}] {_message(event)}"
    traceback = _traceback(event)
    return "\n\t".join([line, *map(controls_escaped, traceback)])


def format_event_json(event: LogEvent) -> str:
    """
    Make an object on one line: C{ts}, C{level}, C{logger}, C{message}, and where
    there are such C{traceback} and C{fields} (the event's plain values by name).
    """
    record: dict[str, object] = {
        "ts": _timestamp(event),
        "level": _level(event),
        "logger": _namespace(event),
        "message": _message(event),
    }
    if traceback := _traceback(event):
        record["traceback"] = "\n".join(map(controls_escaped, traceback))
    if fields := {name: _plain(value) for name, value in event.items() if _shown(name, value)}:
        record["fields"] = fields
    return json.dumps(record)


def _timestamp(event: LogEvent) -> str:
    moment = event.get("log_time")
    milliseconds = int((moment if isinstance(moment, int | float) else time.time()) * 1000)
    second, millisecond = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{millisecond:03d}Z"


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return level.name if level is not None else "info"


def _namespace(event: LogEvent) -> str:
    return controls_escaped(str(event.get("log_namespace") or "-"))


def _message(event: LogEvent) -> str:
    text = redacted(formatEvent(event))
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + "…"
    return controls_escaped(text)


def _traceback(event: LogEvent) -> list[str]:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return []
    try:
        text = failure.getTraceback()
    except Exception as error:
        text = f"(no traceback: {error!r})"
    # The end of a traceback says most.
    return redacted(text)[-_LONGEST_TRACEBACK:].rstrip().split("\n")


def _shown(name: str, value: object) -> bool:
    return (
        not name.startswith("log_")
        and name not in _LEGACY_FIELDS
        and (value is None or isinstance(value, str | bytes | int | float))
    )


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return controls_escaped(redacted(value)[:_LONGEST_MESSAGE])
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


@implementer(ILogObserver)
class LineObserver:
    """
    An observer that makes lines of events and hands them on.

    @param put: takes one line: L{writer.LogWriter.put}.
    @param log_format: which form.
    """

    def __init__(self, put: Callable[[str], None], log_format: LogFormat) -> None:
        self._put = put
        self._format = format_event_json if log_format == "json" else format_event_text

    def __call__(self, event: LogEvent) -> None:
        self._put(self._format(event))


def make_observer(
    put: Callable[[str], None],
    log_format: LogFormat = "text",
    log_level: Literal["debug", "info", "warn", "error"] = "info",
) -> ILogObserver:
    """
    Make the observer of the gateway's own log.

    @param put: takes one line, at once and from any thread.
    @param log_level: events below it are not even formatted.
    """
    level = LogLevel.levelWithName(log_level)
    observer: ILogObserver = FilteringLogObserver(
        LineObserver(put, log_format), [LogLevelFilterPredicate(defaultLogLevel=level)]
    )
    return observer


def own_log_sink(
    twistd_options: Mapping[str, object], log_max_bytes: int, log_keep: int
) -> Sink | None:
    """
    Where the gateway's own log goes, as C{twistd}'s options ask for.

    @param twistd_options: C{options.parent} in C{makeService}; empty when the
        gateway was not started by C{twistd}.
    @return: stderr in the foreground; the C{--logfile}, or C{twistd.log} of a
        daemon; C{None} when the options name a log that C{twistd} makes
        itself (C{--syslog}, C{--logger}).
    """
    if twistd_options.get("syslog") or twistd_options.get("logger"):
        return None
    name = twistd_options.get("logfile") or ""
    if not name and not twistd_options.get("nodaemon", True):
        name = "twistd.log"
    if not name or name == "-":
        return StreamSink(_STDERR)
    return FileSink(Path(str(name)), log_max_bytes, log_keep)


class LoggedMultiService(MultiService):
    """
    The outermost service, which brings its log observer along.

    It differs from L{MultiService} in that the C{Application} it is put into
    gets the observer as its C{ILogObserver}, if it has none.

    @param observer: that observer; C{None} leaves the choice to C{twistd}.
    """

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """
        Enter C{parent}, and set the observer on it if it is an C{Application}.
        """
        observer = self._observer
        if (
            observer is not None
            and isinstance(parent, Componentized)
            and parent.getComponent(ILogObserver, None) is None
        ):
            parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)
