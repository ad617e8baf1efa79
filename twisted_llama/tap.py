"""
C{twistd llama-gateway}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.application.service import IService, Service
from twisted.python import usage

from twisted_llama.assembly.debug_shell import DebugShell
from twisted_llama.assembly.gateway import GatewayService
from twisted_llama.assembly.monotonic import MonotonicTime
from twisted_llama.engine.resolution import resolve_engine
from twisted_llama.errors import StartupError
from twisted_llama.settings import Settings
from twisted_llama.telemetry.logs import LoggedMultiService, make_observer, own_log_sink
from twisted_llama.telemetry.writer import LogWriter


class Plainspoken(Service):
    """
    Starts a service and, if that is not possible, ends the process with the
    reason in one line: C{twistd} would show a traceback.
    """

    def __init__(self, service: IService) -> None:
        self._service = service

    def privilegedStartService(self) -> None:
        """
        See C{IService.privilegedStartService}.
        """
        self._start(self._service.privilegedStartService)

    def startService(self) -> None:
        """
        See C{IService.startService}.
        """
        super().startService()
        self._start(self._service.startService)

    def stopService(self) -> object:
        """
        See C{IService.stopService}.
        """
        super().stopService()
        return self._service.stopService()

    def _start(self, start: Callable[[], object]) -> None:
        try:
            start()
        except StartupError as error:
            raise SystemExit(f"FATAL: {error}") from None


class Options(usage.Options):
    """
    The command line of C{twistd llama-gateway}; everything else is a setting.
    """

    synopsis = "[options]"
    longdesc = (
        "A gateway in front of llama.cpp's llama-server. It is set up by environment variables "
        "or a YAML file; 'llama-gateway config show' lists them."
    )
    optFlags: ClassVar = [["check", None, "Check the settings, say what is wrong, and exit."]]
    optParameters: ClassVar = [
        ["config", "c", None, "YAML file with settings (GATEWAY_CONFIG)."],
        ["auth", None, None, "What checks keys, such as keyfile:PATH (see --help-auth-kinds)."],
    ]

    def opt_help_auth_kinds(self) -> None:
        """
        List what can check keys, and exit.
        """
        from twisted_llama.auth.selection import known_kinds

        raise SystemExit(known_kinds())


def makeService(options: Options) -> IService:
    """
    Make the gateway; what prevents that ends the process with one line.
    """
    try:
        return _make_service(options)
    except StartupError as error:
        raise SystemExit(f"FATAL: {error}") from None


def _make_service(options: Options) -> IService:
    # The edge: here the one reactor is chosen, and handed on from here.
    from twisted.internet import reactor

    overrides = {} if options["auth"] is None else {"auth": options["auth"]}
    loaded = Settings.load(os.environ, options["config"], overrides)
    settings = loaded.settings
    if options["check"]:
        resolve_engine(settings)
        raise SystemExit(0)
    twistd_options: Any = options.parent or {}
    sink = own_log_sink(twistd_options, settings.log_max_bytes, settings.log_keep)
    if sink is None:
        top = LoggedMultiService(None)
    else:
        writer = LogWriter(MonotonicTime(reactor), sink, "the gateway's log")
        top = LoggedMultiService(make_observer(writer.put, settings.log_format, settings.log_level))
        writer.setServiceParent(top)
    gateway: IService
    if settings.debug_shell:
        gateway = DebugShell(loaded, reactor, os.environ)
    else:
        gateway = GatewayService(loaded, reactor, os.environ)
    Plainspoken(gateway).setServiceParent(top)
    return top
