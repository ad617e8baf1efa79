"""
The gateway itself as a target of the benchmarks, and no gateway at all.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass

from peers import Peer, Place, Variant, clean_environ, first_line, write_keys
from programs import HERE, BenchError, build, free_port

ROOT = HERE.parent
_SERVE = (
    "import sys; from twisted_llama.cli.main import main;"
    "sys.argv[:] = ['llama-gateway', 'serve']; sys.exit(main())"
)


@dataclass
class Gateway(Peer):
    """
    The gateway itself, with everything on.
    """

    command: tuple[str, ...] = ()
    name = "gateway"
    notes = (
        "one process; API keys checked, limits, queue, access log to a file, metrics and "
        "token counting on"
    )
    ready_path = "/ready"
    start_seconds = 60.0

    def _argv(self) -> list[str] | None:
        if self.command:
            return list(self.command)
        sys.path.insert(0, str(ROOT))
        try:
            found = importlib.util.find_spec("twisted_llama.cli.main")
        except ModuleNotFoundError:
            found = None
        finally:
            sys.path.remove(str(ROOT))
        if found is None:
            return None
        return [sys.executable, "-c", _SERVE]

    def version(self) -> str | None:
        if self._argv() is None:
            return None
        code = (
            "import platform, twisted, httptools, twisted_llama;"
            "print(getattr(twisted_llama, '__version__', 'work tree'),"
            "'on Python', platform.python_version(), 'Twisted', twisted.__version__)"
        )
        return first_line([sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)})

    def missing(self) -> str:
        return "twisted_llama.cli.main is not there yet"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        argv = self._argv()
        if argv is None:
            raise BenchError(self.missing())
        keyfile, _ = write_keys(place.directory, variant.keys)
        logs = place.directory / "logs"
        logs.mkdir(exist_ok=True)
        settings = {
            "ENGINE": "external",
            "BACKEND_HOST": "127.0.0.1",
            "PORT_BACKEND": str(place.engine_port),
            "HOST": "127.0.0.1",
            "PORT": str(place.port),
            "PORT_HEALTH": str(free_port()),
            "AUTH_KEYS_FILE": str(keyfile),
            "DATA_DIR": str(place.directory),
            "LOG_DIR": str(logs),
            "MAX_CONCURRENT_REQUESTS": "20000",
            "MAX_REQUESTS_PER_MINUTE": "100000000",
            "MAX_CONNECTIONS": "20000",
            "MAX_CONNECTIONS_PER_IP": "20000",
            **dict(variant.environ),
        }
        if variant.unobserved:
            argv = [sys.executable, str(HERE / "unobserved.py")]
            settings.update(LOG_DIR="/dev/null/none", LOG_LEVEL="error")
        return argv, clean_environ(place.directory, PYTHONPATH=str(ROOT), **settings)


class Directly(Peer):
    """
    No gateway: what the engine and the network take by themselves.
    """

    name = "direct"
    notes = "no gateway: the load generator asks the engine itself; CPU is the engine's own"

    def version(self) -> str | None:
        return "engine stand-in"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        argv = [str(build("engine")), "--port", str(place.port), "--life", "3600"]
        return argv, clean_environ(place.directory)
