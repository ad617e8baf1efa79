"""
A real browser and the pages that it is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page.html"
PATIENCE_SECONDS = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


def find_browser() -> str | None:
    """
    The program, if there is one.
    """
    return shutil.which("chromium") or shutil.which("chromium-browser")


class PageServer:
    """
    The origin of one page, which sends back to it what it has seen.

    @ivar origin: what a browser calls it.
    @ivar words: what stands in the page for its placeholders.
    """

    def __init__(self) -> None:
        self.words: Mapping[str, str] = {}
        self._seen: queue.Queue[dict[str, Any]] = queue.Queue()
        page_server = self

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = (PAGE.read_text() % page_server.words).encode()
                self.send_response(200 if self.path == "/" else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                page_server._seen.put(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def seen(self) -> dict[str, Any]:
        """
        Wait for what the page has seen.
        """
        return self._seen.get(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """
        Serve no more.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def browsing(program: str, directory: Path, url: str, *more: str) -> Iterator[None]:
    """
    A browser that shows a page, for as long as a C{with} statement.

    @param directory: an empty one, for its profile; it remembers nothing.
    """
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    log = directory / "browser.log"
    # A name of its own, since the browser makes sockets there, whose paths must be short.
    with log.open("wb") as output, tempfile.TemporaryDirectory(prefix="surf") as short:
        process = subprocess.Popen(
            [program, *_FLAGS, *more, f"--user-data-dir={directory / 'profile'}", url],
            env={**environment, "HOME": str(directory), "TMPDIR": short},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield
        except queue.Empty:
            raise AssertionError(f"the page said nothing: {log.read_text()[-3000:]}") from None
        finally:
            # With all its children, which are in the session that it was given.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
