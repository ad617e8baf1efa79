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
from twisted_llama.http import relay
from twisted_llama.http.sse import UsageTap
from twisted_llama.telemetry.exchange import Exchange


class Blind(RequestWatcher):
    """
    Tells nobody.
    """

    def _tell_later(self, exchange: Exchange) -> None:
        return


def shut() -> None:
    """
    Put what sees nothing in the place of what sees.
    """
    UsageTap.feed = lambda self, payload: None  # type: ignore[method-assign]  # that is the point
    relay.has_only_tokens = lambda payload: True  # the same
    graph.RequestWatcher = Blind  # type: ignore[misc]  # the same


if __name__ == "__main__":
    shut()
    sys.argv[:] = ["llama-gateway", "serve"]
    sys.exit(main())
