"""
A gateway in little, for tests that kill it: a reactor, a supervisor, and each
status as a line of JSON.

C{python -m tests.engine.run_supervisor SPEC_AS_JSON}; any line on stdin asks
the engine that it runs for a word, end of input stops.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from attrs import asdict
from twisted.internet import reactor as found
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO

from twisted_llama.engine.inquiry import HttpInquiry, single_use_agent
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.status import EngineStatus
from twisted_llama.engine.supervisor import EngineSupervisor
from twisted_llama.errors import StartupError

reactor: Any = found


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    given = json.loads(sys.argv[1])
    keys = Path(given.pop("keys"))
    for name in ("binary", "model_path"):
        if name in given:
            given[name] = Path(given[name])
    given["extra_args"] = tuple(given.get("extra_args", ()))
    supervisor = EngineSupervisor(
        EngineSpec(port=0, **given),
        reactor,
        environ=os.environ,
        on_fatal=lambda error: fatal(error),
        key_parents=[keys],
    )

    def fatal(error: StartupError) -> None:
        say(fatal=str(error))

    def publish(status: EngineStatus) -> None:
        say(**asdict(status))

    async def converse() -> None:
        inquiry = HttpInquiry(
            single_use_agent(reactor, 5),
            reactor,
            address=supervisor.address,
            key=supervisor.api_key,
            timeout_seconds=30,
        )
        body = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":3}'
        answers = [
            await inquiry.ask(b"POST", b"/v1/chat/completions", body=body),
            await inquiry.ask(b"GET", b"/slots"),
            await inquiry.ask(b"GET", b"/slots", with_key=False),
        ]
        say(answers=[(one.status, one.body.decode()) if one else None for one in answers])

    class Stdin(Protocol):
        def dataReceived(self, data: bytes) -> None:
            Deferred.fromCoroutine(converse())

        def connectionLost(self, reason: object = None) -> None:
            if reactor.running:
                reactor.stop()

    supervisor.on_change(publish)
    reactor.callWhenRunning(supervisor.startService)
    reactor.callWhenRunning(StandardIO, Stdin(), reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", supervisor.stopService)
    reactor.run()
    say(end=True)


if __name__ == "__main__":
    main()
