"""
Who listens on a port of this machine.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from pathlib import Path

from attrs import frozen

from twisted_llama.errors import StartupError

_TABLES = ("tcp", "tcp6")
_LISTEN = "0A"


@frozen
class Listener:
    """
    A listening TCP socket.

    @ivar address: what it is bound to.
    @ivar inode: what tells it from others.
    """

    address: str
    inode: str

    @property
    def is_public(self) -> bool:
        """
        Whether another machine could reach it.
        """
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return not (mapped or address).is_loopback


def parse_listeners(table: str, port: int) -> list[Listener]:
    """
    Read a table as the kernel shows it in C{/proc/net/tcp}.

    @param table: its text; lines that cannot be read are skipped.
    """
    listeners = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, port_hex = fields[1].partition(":")
        try:
            if int(port_hex, 16) == port:
                listeners.append(Listener(_parse_address(address), fields[9]))
        except ValueError:
            continue
    return listeners


def _parse_address(text: str) -> str:
    # The kernel prints words of 32 bits in the byte order of the machine.
    packed = bytes.fromhex(text)
    if sys.byteorder == "little":
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    return str(ipaddress.ip_address(packed))


def listeners_on(port: int, proc_net: Path = Path("/proc/net")) -> frozenset[Listener]:
    """
    @return: who listens on a port; empty where the kernel does not say.
    """
    found: set[Listener] = set()
    for name in _TABLES:
        try:
            table = (proc_net / name).read_text("ascii", "replace")
        except OSError:
            continue
        found.update(parse_listeners(table, port))
    return frozenset(found)


def ensure_port_free(host: str, port: int) -> None:
    """
    Check that the engine will be able to listen.

    @param port: 0 is always free.
    @raise StartupError: another program listens there, or we may not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: a port that is only cooling down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise StartupError(
                    f"PORT_BACKEND {port} is taken by another program on {host}. Stop it, or set "
                    "PORT_BACKEND to a free port."
                ) from None
            raise StartupError(
                f"PORT_BACKEND {port} on {host} cannot be used: {problem.strerror}. Set "
                "PORT_BACKEND to another port."
            ) from None


def free_loopback_port() -> int:
    """
    @return: a port of 127.0.0.1 that nobody used a moment ago.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
