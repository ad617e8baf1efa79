"""
A real redis-server for the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

FOUND = shutil.which("redis-server") is not None and shutil.which("redis-cli") is not None
MISSING = "redis-server is missing: apt-get install redis-server"

# Makes every acceptance as much older as time is to pass: Redis' clock cannot be set.
_AGE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local entries = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    redis.call('ZINCRBY', key, -tonumber(ARGV[1]) * 1000000, entries[i])
  end
end
"""


class RedisServer:
    """
    One redis-server on a UNIX socket, which keeps nothing on disk.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = str(directory / "redis.sock")
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """
        Returns when it accepts connections.
        """
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", self.socket, "--save", ""),
                *("--appendonly", "no", "--dir", str(self._directory)),
                *self._options,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line or "ready to accept connections" in line:
                return
        raise AssertionError(f"redis-server ended with status {self._process.wait()}")

    def kill(self) -> None:
        """
        End it as a crash would.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def hang(self) -> None:
        """
        It lives and answers nothing.
        """
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """
        It answers again.
        """
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def run(self, *command: str) -> str:
        """
        What redis-cli answers.
        """
        return subprocess.run(
            ["redis-cli", "-s", self.socket, *command],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def age(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.run("EVAL", _AGE, "0", str(seconds))
