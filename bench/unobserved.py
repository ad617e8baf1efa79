"""
The gateway with its eyes shut: no line in the access log, no metrics, no counting
of tokens.  C{make bench} holds the gateway against it, to know what observing
costs; it is of no other use.
"""

from __future__ import annotations

import sys

from twisted_llama.cli.main import main
from twisted_llama.http import relay
from twisted_llama.http.sse import UsageTap
from twisted_llama.telemetry.batch import ExchangeBatch


def shut() -> None:
    """
    Put what sees nothing in the place of what sees.
    """
    UsageTap.feed = lambda self, payload: True  # type: ignore[method-assign]  # that is the point
    relay.ENDING, relay.TOKEN_ENDS = slice(0), b""
    ExchangeBatch.add = lambda self, exchange: None  # type: ignore[method-assign]  # the same


if __name__ == "__main__":
    shut()
    sys.argv[:] = ["llama-gateway", "serve"]
    sys.exit(main())
