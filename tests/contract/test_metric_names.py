"""
The names that dashboards are built on.
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.gateway.running import Gateway
from tests.gateway.talking import CHAT, chat

#: Each with its labels.
NAMES = {
    "llm_gateway_requests_total": {"endpoint", "status"},
    "llm_gateway_request_duration_seconds_bucket": {"endpoint", "le"},
    "llm_gateway_time_to_first_token_seconds_bucket": {"endpoint", "le"},
    "llm_gateway_generation_duration_seconds_bucket": {"le"},
    "llm_gateway_tokens_generated_total": set(),
    "llm_gateway_prompt_tokens_total": set(),
    "llm_gateway_active_requests": set(),
    "llm_gateway_queue_depth": set(),
    "llm_gateway_queue_wait_seconds_bucket": {"le"},
    "llm_gateway_queue_rejections_total": {"reason"},
    "llm_gateway_rate_limited_total": set(),
    "llm_gateway_auth_failures_total": {"reason"},
    "llm_gateway_bytes_sent_total": set(),
    "llm_gateway_client_disconnects_total": set(),
    "llm_gateway_engine_state": {"state"},
    "llm_gateway_engine_restarts_total": set(),
    "llm_gateway_model_info": {"model"},
    "llm_gateway_relay_overhead_seconds_bucket": {"le"},
    "process_cpu_seconds_total": set(),
    "python_info": {"implementation", "major", "minor", "patchlevel", "version"},
}


def samples(gateway: Gateway) -> dict[str, list[tuple[dict[str, str], float]]]:
    """
    Labels and values of all samples, by name.
    """
    answer = gateway.ask("GET", "/metrics", headers={"Accept": "text/plain"})
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_text(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_every_name_is_there_with_its_labels(real: Gateway) -> None:
    """After a request of a real engine, whose tokens are counted as it tells them."""
    before = samples(real)
    answer = real.ask("POST", CHAT, body=chat(7))
    assert real.ask("POST", CHAT, body=chat(7), key="sk-nobody-has-this-key").status == 401
    after = samples(real)
    assert {name: set(after[name][0][0]) for name in NAMES} == NAMES
    for name, told in (
        ("llm_gateway_tokens_generated_total", "completion_tokens"),
        ("llm_gateway_prompt_tokens_total", "prompt_tokens"),
    ):
        assert after[name][0][1] - before[name][0][1] == answer.json["usage"][told]
    assert after["llm_gateway_model_info"][0][0] == {"model": "tiny.gguf"}


def test_clients_cannot_make_series(real: Gateway) -> None:
    """However many paths they think of, and ways to spell one."""

    def count() -> int:
        return sum(map(len, samples(real).values()))

    for path in ("/a", "/v1/a", "/v1/models/a", "/%2e%2e/a"):
        real.ask("GET", path)
    # Asking for them is counted too, from the second time on.
    count()
    before = count()
    for at in range(30):
        for path in (f"/a{at}", f"/v1/a{at}", f"/v1/models/a{at}", f"/%2e%2e/{at}"):
            real.ask("GET", path)
    assert count() == before
