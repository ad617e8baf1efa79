"""
C{DEBUG_SHELL=true}: hold still, so that somebody can look around.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_llama.assembly.listener import Listener, tcp_description
from twisted_llama.assembly.monotonic import MonotonicTime
from twisted_llama.assembly.signals import install_signals
from twisted_llama.health import make_health_site
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.turn import Turn
from twisted_llama.settings import LoadedSettings, effective
from twisted_llama.telemetry.clean_text import MASK, redacted

#: What the names of variables with secrets have in them.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|REDIS_URL|AUTH$", re.IGNORECASE)


def masked_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """
    The environment with its secrets masked, in order.
    """
    return [
        (name, MASK if _SECRET.search(name) and value else redacted(value))
        for name, value in sorted(environ.items())
    ]


class DebugShell(Service):
    """
    Shows settings and environment, answers on the health port, so that the
    platform leaves the machine alone, and waits.
    """

    log = Logger()

    def __init__(self, loaded: LoadedSettings, reactor: Any, environ: Mapping[str, str]) -> None:
        self._loaded = loaded
        self._reactor = reactor
        self._environ = environ
        settings = loaded.settings
        description = tcp_description(settings.host, settings.port_health)
        setting = f"PORT_HEALTH={settings.port_health}"
        if settings.health_endpoint is not None:
            description = settings.health_endpoint
            setting = f"HEALTH_ENDPOINT={description}"
        clock = MonotonicTime(reactor)
        self._deadlines = Deadlines(clock)
        site = make_health_site(self._deadlines, Turn(clock), time.time)
        self._listener = Listener(reactor, description, site, setting)

    def privilegedStartService(self) -> None:
        """
        Open the health port.
        """
        self._listener.privilegedStartService()

    def startService(self) -> None:
        """
        Show everything.
        """
        super().startService()
        for name, shown, source in effective(self._loaded):
            self.log.info("{name} = {shown} ({source})", name=name, shown=shown, source=source)
        for name, shown in masked_environment(self._environ):
            self.log.info("environment: {name}={shown}", name=name, shown=shown)
        self.log.info("DEBUG_SHELL=true: the engine is not started; waiting")
        self._reactor.callWhenRunning(
            install_signals, self._reactor, lambda name: self._reactor.stop(), lambda: None
        )

    def stopService(self) -> Deferred[None]:
        """
        Close the health port.
        """
        super().stopService()
        self._deadlines.stop()
        return self._listener.stopService()
