"""
What a page in a real browser can do with the gateway: all that C{CORS_ORIGINS} allows its
origin, and nothing from any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.surfing import PageServer, browsing, find_browser
from tests.conftest import Require
from tests.gateway.running import Gateway, make_secret, running
from tests.gateway.talking import fresh_id, named

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway_and_pages(
    tmp_path_factory: pytest.TempPathFactory, require: Require
) -> Iterator[tuple[Gateway, PageServer, PageServer]]:
    """
    A gateway, a page of an origin that it allows, and the same page elsewhere.
    """
    require(find_browser(), "chromium is missing: apt-get install chromium")
    allowed, other = PageServer(), PageServer()
    limited = {page: make_secret() for page in (allowed, other)}
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        {
            "ENGINE": "mock",
            "EXTRA_ARGS": "-np 4 --delay-ms 20",
            "CORS_ORIGINS": allowed.origin,
        },
        key_lines=tuple(f"limited-{at}:{key}:1" for at, key in enumerate(limited.values())),
    )
    try:
        with running(gateway):
            for page in (allowed, other):
                page.words = {
                    "gateway": f"http://127.0.0.1:{gateway.port}",
                    "key": gateway.key,
                    "limited": limited[page],
                }
            yield gateway, allowed, other
    finally:
        allowed.close()
        other.close()


def show(page: PageServer, directory: Path) -> dict[str, Any]:
    """
    Show a page in a browser.

    @return: what it has seen.
    """
    program = find_browser()
    assert program is not None
    with browsing(program, directory, page.origin + "/"):
        seen = page.seen()
    assert seen["origin"] == page.origin
    return seen


@pytest.fixture(scope="module")
def seen(
    gateway_and_pages: tuple[Gateway, PageServer, PageServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """
    What the page of the allowed origin has seen.
    """
    return show(gateway_and_pages[1], tmp_path_factory.mktemp("allowed"))


def test_a_page_can_ask(seen: dict[str, Any]) -> None:
    """
    With its key, after a preflight; it can read the answer and the headers that are its
    business.
    """
    models = seen["models"]
    assert models["status"] == 200
    assert models["body"]["data"]
    assert models["request_id"].startswith("req-")
    assert models["limit"] == "100000"
    assert int(models["remaining"]) < 100000
    assert models["reset"] == "1m0s"
    assert models["hidden"] is None
    assert seen["own_id"]["status"] == 200
    assert seen["own_id"]["request_id"] == "from-the-page"
    assert seen["chat"]["body"]["choices"][0]["message"]["content"]


def test_a_page_can_stream(seen: dict[str, Any]) -> None:
    """
    Tokens come one by one.
    """
    stream = seen["stream"]
    assert stream["status"] == 200
    assert stream["kind"].startswith("text/event-stream")
    assert len(stream["chunks"]) > 3
    text = "".join(stream["chunks"])
    assert text.endswith("data: [DONE]\n\n")
    for event in text.split("\n\n")[:-2]:
        assert json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk"


def test_a_page_can_stop(
    seen: dict[str, Any], gateway_and_pages: tuple[Gateway, PageServer, PageServer]
) -> None:
    """
    An answer that it wants no more is ended in the engine too.
    """
    gateway, _, _ = gateway_and_pages
    assert seen["abandoned"]["name"] == "AbortError"
    assert gateway.access_status(seen["abandoned"]["id"]) == 499
    gateway.wait_queue(0, 0)


def test_a_page_can_read_errors(seen: dict[str, Any]) -> None:
    """
    They are answers like others, not failures of the network.
    """
    for name in ("no_key", "wrong_key"):
        assert seen[name]["status"] == 401
        assert seen[name]["body"]["error"]["code"] == "invalid_api_key"
        assert seen[name]["request_id"]
    assert seen["nothing"]["status"] == 404
    assert seen["within_limit"]["status"] == 200
    assert seen["within_limit"]["remaining"] == "0"
    over = seen["over_limit"]
    assert over["status"] == 429
    assert over["body"]["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(over["retry_after"]) <= 60
    assert over["limit"] == "1"
    assert seen["health"]["body"]["status"] == "ok"


def test_what_no_page_can_do(seen: dict[str, Any]) -> None:
    """
    Other methods, and requests with cookies.
    """
    assert seen["put"] == seen["with_cookies"] == {"failed": "TypeError"}


def test_a_page_from_elsewhere_can_do_nothing(
    gateway_and_pages: tuple[Gateway, PageServer, PageServer], tmp_path: Path
) -> None:
    """
    Not even with a key: the browser keeps every answer from it.
    """
    gateway, _, other = gateway_and_pages
    last = fresh_id()
    gateway.ask("GET", "/nowhere", headers=named(last))
    # Lines are written a moment later, in order.
    gateway.access_line(last)
    before = len(gateway.access_lines())
    seen = show(other, tmp_path)
    del seen["origin"]
    assert len(seen) > 10
    assert all(what == {"failed": "TypeError"} for what in seen.values()), seen
    # Nothing but preflights, and what a page may send to anybody: a request without a key.
    for line in gateway.access_lines()[before:]:
        assert " | - | OPTIONS " in line or " | 401 | " in line, line
