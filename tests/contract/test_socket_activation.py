"""
Ports that the system opens for a gateway.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.gateway.running import PATIENCE_SECONDS, SCRIPTS, clean_environment, make_secret, until
from tests.gateway.talking import CHAT, ask, chat

# As systemd does it: the sockets are the descriptors from 3 on, and LISTEN_PID is the process.
LAUNCH = """
import os, sys
first, second = map(int, sys.argv[1:3])
os.dup2(os.dup(second), 4, inheritable=True)
os.dup2(first, 3, inheritable=True)
unit = "llama-gateway.socket"
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=f"{unit}:{unit}")
os.execv(sys.argv[3], sys.argv[3:])
"""


def test_sockets_of_systemd(tmp_path: Path) -> None:
    """GATEWAY_ENDPOINT and HEALTH_ENDPOINT of the kind systemd: take what is handed over."""
    secret = make_secret()
    keys = tmp_path / "api_keys.txt"
    keys.write_text(f"user:{secret}\n")
    keys.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        # Numbers above those that they become.
        sockets = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (one, two)]
        gateway = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCH, *map(str, sockets)),
                *(str(SCRIPTS / "twistd"), "-n", "--pidfile=", "llama-gateway"),
            ],
            env={
                **clean_environment(),
                "DATA_DIR": str(tmp_path),
                "ENGINE": "mock",
                "PORT_BACKEND": "0",
                "GATEWAY_ENDPOINT": "systemd:domain=INET:index=0",
                "HEALTH_ENDPOINT": "systemd:domain=INET:index=1",
            },
            cwd=tmp_path,
            pass_fds=sockets,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for descriptor in sockets:
                os.close(descriptor)
            ports = [each.getsockname()[1] for each in (one, two)]
            assert ask(ports[1], "GET", "/").status == 200
            until(lambda: ask(ports[0], "GET", "/ready").status == 200, "it is ready")
            assert ask(ports[0], "POST", CHAT, key=secret, body=chat()).status == 200
            gateway.send_signal(signal.SIGTERM)
            output, _ = gateway.communicate(timeout=PATIENCE_SECONDS)
            assert gateway.returncode == 0, output
            assert "Traceback" not in output, output
        finally:
            gateway.kill()
            gateway.communicate()
