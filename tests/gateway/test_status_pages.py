"""
The pages that need no key, and what a stranger is told on all others.
"""

from __future__ import annotations

import json

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.gateway.conftest import ORIGIN
from tests.gateway.running import Gateway, until
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.talking import CHAT, Answer, ask, chat, fresh_id, named

PUBLIC = ("/ping", "/health", "/ready", "/metrics")
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


def test_ping(mocked: Gateway) -> None:
    """Nothing but its status; a query changes nothing."""
    for path in ("/ping", "/ping?now"):
        answer = mocked.ask("GET", path, key=None)
        assert (answer.status, answer.body, answer["Content-Length"]) == (200, b"", "0")


def test_health(mocked: Gateway) -> None:
    """All that it promises, and nothing secret."""
    health = mocked.health()
    assert health["status"] == "ok"
    assert health["uptime_seconds"] > 0
    assert health["engine"].keys() >= {
        *("state", "model", "pid", "restarts", "ready_since", "last_exit")
    }
    assert health["engine"]["state"] == "ready"
    assert health["engine"]["model"] == "little.gguf"
    assert health["engine"]["restarts"] == 0
    assert health["engine"]["last_exit"] is None
    assert health["queue"] == {
        "max_concurrent": 16,
        "max_queue_size": 0,
        "active": 0,
        "waiting": 0,
    }
    assert health["authentication"]["enabled"] is True
    assert health["authentication"]["keys"] == 8
    assert health["version"]
    assert str(mocked.data_dir) not in str(health)


def test_ready(mocked: Gateway) -> None:
    """200, with the same facts."""
    answer = mocked.ask("GET", "/ready", key=None)
    assert answer.status == 200
    assert answer.json["engine"] == mocked.health()["engine"]


@pytest.mark.parametrize("path", PUBLIC)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(mocked: Gateway, method: str, path: str) -> None:
    """405, and which ones there are."""
    answer = mocked.ask(method, path, key=None, body=b"")
    assert answer.status == 405
    assert answer.error["code"] == "method_not_allowed"
    assert set((answer["Allow"] or "").split(", ")) == {"GET", "HEAD"}


def test_the_status_pages_ask_the_engine_nothing(relay: Gateway, engine: ScriptedEngine) -> None:
    """They tell what the gateway knows."""
    before = [asked.id for asked in engine.asked() if asked.id]
    for path in PUBLIC:
        assert relay.ask("GET", path, key=None).status == 200
    assert [asked.id for asked in engine.asked() if asked.id] == before


def requests(gateway: Gateway) -> dict[str, int]:
    """
    How many requests were counted, by path.
    """
    figures = gateway.ask("GET", "/metrics", key=None).json["gateway"]
    return dict(figures["requests_by_path"])


def test_metrics_as_json(mocked: Gateway) -> None:
    """Requests, tokens and bytes are counted when they are over."""
    before = mocked.ask("GET", "/metrics", key=None).json["gateway"]
    assert before.keys() >= {
        "total_requests",
        "active_requests",
        "requests_by_path",
        "errors_by_type",
        "requests_success",
        "requests_error",
        "requests_authenticated",
        "requests_unauthorized",
        "bytes_sent",
        "queue_depth",
        "queue_rejections",
        "queue_wait_seconds_total",
        "uptime_seconds",
    }
    mocked.ask("POST", CHAT, body=chat())
    mocked.ask("POST", CHAT, body=chat(), key="sk-wrong-wrong-wrong")
    after = mocked.ask("GET", "/metrics", key=None).json["gateway"]
    assert after["requests_authenticated"] == before["requests_authenticated"] + 1
    assert after["requests_unauthorized"] == before["requests_unauthorized"] + 1
    assert after["requests_by_path"][CHAT] == before["requests_by_path"].get(CHAT, 0) + 2
    assert after["bytes_sent"] > before["bytes_sent"]


def test_the_health_port_counts_nothing(mocked: Gateway) -> None:
    """Whatever is asked there, it is no activity."""
    before = requests(mocked)
    for path in ("/", "/health", "/v1/models", "/asked-of-health%2Fx?x", "//"):
        for method in ("GET", "HEAD"):
            answer = ask(mocked.health_port, method, path)
            assert (answer.status, answer.body) == (200, b"")
            assert (answer["Content-Type"] or "").startswith("text/plain")
    assert ask(mocked.health_port, "POST", "/", body=b"").status == 405
    after = requests(mocked)
    # Looking is counted too, the first look only in the second.
    before.pop("/metrics", None)
    after.pop("/metrics")
    assert after == before
    # Lines of other tests may still be on their way into the log.
    assert not [line for line in mocked.access_lines() if "asked-of-health" in line]


def samples(gateway: Gateway, accept: str) -> dict[tuple[str, ...], float]:
    """
    The values of all metrics by name and labels, read by Prometheus' own parser.
    """
    answer = gateway.ask("GET", "/metrics", key=None, headers={"Accept": accept})
    wanted = accept.partition(";")[0]
    assert (answer["Content-Type"] or "").startswith(wanted)
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in parse(answer.body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_metrics_for_prometheus(mocked: Gateway, accept: str) -> None:
    """Both of its formats, with counts of what was served."""
    before = samples(mocked, accept)
    mocked.ask("POST", CHAT, body=chat(5))
    after = samples(mocked, accept)
    counted = ("llm_gateway_requests_total", f"endpoint={CHAT}", "status=200")
    assert after[counted] == before.get(counted, 0) + 1
    tokens = ("llm_gateway_tokens_generated_total",)
    assert after[tokens] == before[tokens] + 5
    assert after[("llm_gateway_engine_state", "state=ready")] == 1
    names = {name for name, *_ in after}
    assert "llm_gateway_request_duration_seconds_bucket" in names
    assert "llm_gateway_time_to_first_token_seconds_bucket" in names
    assert "process_resident_memory_bytes" in names


def test_clients_cannot_make_series(mocked: Gateway) -> None:
    """Paths that are not known are counted together."""
    strange = fresh_id("strange")
    mocked.ask("GET", f"/v1/{strange}")
    mocked.ask("GET", f"/{strange}")
    assert strange not in str(samples(mocked, "text/plain").keys())
    assert strange not in str(requests(mocked))


# -- strangers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk-nobody-has-this-key"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "sk-a-bare-key-without-scheme"},
        {"Authorization": "Bearer"},
        {"X-Api-Key": "sk-nobody-has-this-key"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/nowhere", "/reload", "/slots"])
def test_no_entry(mocked: Gateway, path: str, headers: dict[str, str]) -> None:
    """The same 401 everywhere, and nothing of the key in it."""
    request_id = fresh_id("stranger")
    answer = mocked.ask(
        "POST", path, key=None, body=b"{}", headers={**headers, **named(request_id)}
    )
    assert answer.status == 401
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["code"] == "invalid_api_key"
    assert answer.error["param"] == "authorization"
    assert answer["WWW-Authenticate"] == "Bearer"
    assert "nobody" not in answer.error["message"]
    line = mocked.access_line(request_id)
    assert f" | - | POST {path} | 401 | " in line


def test_both_ways_to_show_a_key(mocked: Gateway) -> None:
    """The scheme in any case, or a header of its own."""
    for headers in (
        {"Authorization": f"bEaReR {mocked.key}"},
        {"X-Api-Key": mocked.key},
    ):
        assert mocked.ask("GET", "/v1/models", key=None, headers=headers).status == 200


def test_reload_is_for_posting(mocked: Gateway) -> None:
    """405 for who has a key."""
    answer = mocked.ask("GET", "/reload")
    assert answer.status == 405
    assert answer["Allow"] == "POST"


# -- limits of keys


def test_the_limit_of_a_key(mocked: Gateway, limited_keys: list[str]) -> None:
    """What is left is told each time, and when to come again; another key is not concerned."""
    key = limited_keys.pop()
    answers = [mocked.ask("GET", "/v1/models", key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer["x-ratelimit-limit-requests"] for answer in answers] == ["2"] * 3
    remaining = [answer["x-ratelimit-remaining-requests"] for answer in answers]
    assert remaining == ["1", "0", "0"]
    assert all(answer["x-ratelimit-reset-requests"] for answer in answers)
    refused = answers[2]
    assert 1 <= int(refused["Retry-After"] or 0) <= 60
    assert refused.error["type"] == "rate_limit_error"
    assert refused.error["code"] == "rate_limit_exceeded"
    assert "2" in refused.error["message"]
    assert mocked.ask("GET", "/v1/models").status == 200
    assert mocked.ask("GET", "/ping", key=key).status == 200


# -- pages of other origins


def allowed(answer: Answer) -> bool:
    """
    Whether a browser shows an answer to a page of the allowed origin.
    """
    shown = answer["Access-Control-Allow-Origin"] == ORIGIN
    assert shown == (answer["Vary"] == "Origin")
    assert answer["Access-Control-Allow-Credentials"] is None
    if shown:
        assert "x-ratelimit-reset-requests" in (answer["Access-Control-Expose-Headers"] or "")
        assert "Retry-After" in (answer["Access-Control-Expose-Headers"] or "")
    return shown


def test_answers_to_pages(mocked: Gateway, limited_keys: list[str]) -> None:
    """Of every status, errors too."""
    key = limited_keys.pop()
    headers = {"Origin": ORIGIN}
    answers = [
        mocked.ask("POST", CHAT, body=chat(), headers=headers),
        mocked.ask("POST", CHAT, body=chat(stream=True), headers=headers),
        mocked.ask("GET", "/ping", key=None, headers=headers),
        mocked.ask("GET", "/v1/models", key=None, headers=headers),
        mocked.ask("GET", "/nowhere", headers=headers),
        mocked.ask("PUT", "/health", body=b"", headers=headers),
        *(mocked.ask("GET", "/v1/models", key=key, headers=headers) for _ in range(3)),
    ]
    statuses = [answer.status for answer in answers]
    assert statuses == [200, 200, 200, 401, 404, 405, 200, 200, 429]
    assert all(allowed(answer) for answer in answers)


def test_answers_to_other_pages(mocked: Gateway) -> None:
    """No origin, or one that is not named, gets nothing."""
    assert not allowed(mocked.ask("GET", "/v1/models"))
    assert not allowed(mocked.ask("GET", "/v1/models", headers={"Origin": "https://evil.test"}))


@pytest.mark.parametrize("path", [CHAT, "/health", "/nowhere"])
def test_preflight(mocked: Gateway, path: str) -> None:
    """A browser may ask first, without a key, on every path."""
    answer = mocked.ask("OPTIONS", path, key=None, headers=PREFLIGHT)
    assert (answer.status, answer.body) == (204, b"")
    assert allowed(answer)
    assert answer["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert "Authorization" in (answer["Access-Control-Allow-Headers"] or "")
    assert answer["Access-Control-Max-Age"] == "86400"


def test_other_options(mocked: Gateway, relay: Gateway) -> None:
    """Without a question of a browser, or with CORS off, OPTIONS is an ordinary request."""
    assert mocked.ask("OPTIONS", CHAT, key=None).status == 401
    assert relay.ask("OPTIONS", CHAT, key=None, headers=PREFLIGHT).status == 401


# -- the access log


def test_a_line_for_every_request(mocked: Gateway, limited_keys: list[str]) -> None:
    """Of a protected path, whatever became of it, with its key's id; no line for the others."""
    key = limited_keys.pop()
    ids = {word: fresh_id(word) for word in ("ok", "lost", "limited", "large", "refused", "ping")}
    mocked.ask("POST", CHAT, body=chat(), headers=named(ids["ok"]))
    mocked.ask("GET", "/ping", key=None, headers=named(ids["ping"]))
    mocked.ask("GET", "/nowhere", headers=named(ids["lost"]))
    for _ in range(2):
        mocked.ask("GET", "/v1/models", key=key)
    mocked.ask("GET", "/v1/models?key=x", key=key, headers=named(ids["limited"]))
    mocked.ask("POST", CHAT, body=b" " * 100_001, headers=named(ids["large"]))
    mocked.ask("POST", CHAT, body=b"{", headers=named(ids["refused"]))
    lines = {word: mocked.access_line(ids[word]) for word in ids if word != "ping"}
    fields = {word: line.split(" | ") for word, line in lines.items()}
    assert [len(each) for each in fields.values()] == [7] * 5
    assert fields["ok"][1:4] == ["user", f"POST {CHAT}", "200"]
    assert fields["lost"][1:4] == ["user", "GET /nowhere", "404"]
    assert fields["limited"][2:4] == ["GET /v1/models", "429"]
    assert fields["limited"][1].startswith("limited-")
    assert fields["large"][1:4] == ["user", f"POST {CHAT}", "413"]
    assert fields["refused"][1:4] == ["user", f"POST {CHAT}", "400"]
    assert not any(ids["ping"] in line for line in mocked.access_lines())


def test_lines_as_json(relay: Gateway) -> None:
    """With the same facts and more, and no query."""
    request_id = fresh_id()
    relay.ask("GET", "/v1/models?secret=1", headers=named(request_id))
    line = json.loads(relay.access_line(request_id))
    assert line.keys() == {
        "ts",
        "key_id",
        "method",
        "path",
        "status",
        "duration_ms",
        "bytes",
        "request_id",
        "queue_ms",
        "first_byte_ms",
        "model",
        "tokens",
    }
    assert (line["key_id"], line["method"], line["path"]) == ("user", "GET", "/v1/models")
    assert line["status"] == 200
    assert line["bytes"] > 0


def test_request_ids(mocked: Gateway) -> None:
    """A good one is kept; another is replaced, in the answer and in the log."""
    made = mocked.ask("GET", "/v1/models", headers=named("bad id | x"))["X-Request-Id"]
    assert made
    assert made != "bad id | x"
    assert mocked.access_status(made) == 200
    assert not any("bad id" in line for line in mocked.access_lines())


def test_the_boot_log(mocked: Gateway) -> None:
    """Every setting with its source, under a name that is always the same."""
    latest = mocked.data_dir / "logs" / "_boot" / "latest.txt"
    text = until(lambda: latest.exists() and latest.read_text(), "the boot log")
    assert "max_request_body_size" in str(text).lower()
    engine_log = mocked.data_dir / "logs" / "llama" / "latest.txt"
    assert "mock engine: listening" in engine_log.read_text()
