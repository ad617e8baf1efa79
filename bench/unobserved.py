"""
The gateway with its eyes shut: no line in the access log, no metrics, no counting
of tokens.  C{make bench} holds the gateway against it, to know what observing
costs; it is of no other use.
"""

from __future__ import annotations

import sys

from twisted_llama.api.watcher import RequestWatcher
from twisted_llama.assembly import graph
from twisted_llama.cli.main import main
from twisted_llama.http.sse import Usage, UsageTap


class Blind(RequestWatcher):
    """
    Tells nobody.
    """

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]  # what the graph gives
        self._observers = ()


def shut() -> None:
    """
    Put what sees nothing in the place of what sees.
    """
    nothing = Usage()
    UsageTap.feed = lambda self, payload: None  # type: ignore[method-assign]  # that is the point
    UsageTap.read = lambda self: nothing  # type: ignore[method-assign]  # the same
    graph.RequestWatcher = Blind  # type: ignore[misc]  # the same


if __name__ == "__main__":
    shut()
    sys.argv[:] = ["llama-gateway", "serve"]
    sys.exit(main())
