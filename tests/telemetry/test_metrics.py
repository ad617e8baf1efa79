"""
Tests of the metrics: what is counted, and the three forms in which it is shown.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.task import Clock

from tests.telemetry.exchanges import finished_exchange, logged_failures
from twisted_llama.telemetry.metrics import Metrics
from twisted_llama.telemetry.tallies import DURATION_BOUNDS, Histogram

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
PREFIX = "llm_gateway_"


@frozen
class Gate:
    """A gate's figures."""

    active: int = 2
    waiting: int = 3


@frozen
class Engine:
    """An engine's figures."""

    state: str = "ready"
    restarts: int = 4
    model: str | None = "model.gguf"


@frozen
class Limits:
    """Figures of shared limits."""

    fallbacks: int = 5


def make_metrics(clock: Clock | None = None, engine: Engine | None = None) -> Metrics:
    """Metrics with fixed figures of others."""
    status = engine or Engine()
    return Metrics((clock or Clock()).seconds, Gate(), lambda: status, Limits(), lambda: 6)


def relayed(**facts: object) -> object:
    """A relayed exchange with all its facts."""
    given_facts = {
        "relayed": True,
        "authenticated": True,
        "queue_seconds": 0.2,
        "overhead_seconds": 0.0003,
        "first_token_seconds": 0.4,
        "generation_seconds": 0.9,
        "prompt_tokens": 11,
        "generated_tokens": 22,
    }
    return finished_exchange(**{**given_facts, **facts})  # type: ignore[arg-type]


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    """All samples by name and labels; both formats must agree on ours."""
    text = metrics.render_prometheus(openmetrics=False).decode()
    openmetrics = metrics.render_prometheus(openmetrics=True).decode()
    samples, again = (
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith(PREFIX)
        }
        for families in (parse_text(text), parse_openmetrics(openmetrics))
    )
    assert samples == again
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample's value."""
    return samples[PREFIX + name, frozenset(labels.items())]


CHAT = "/v1/chat/completions"


def test_a_relayed_request() -> None:
    """Everything that is counted of one."""
    metrics = make_metrics()
    metrics.observe([relayed()])  # type: ignore[arg-type]
    samples = scrape(metrics)
    assert value(samples, "requests_total", endpoint=CHAT, status="200") == 1
    assert value(samples, "request_duration_seconds_sum", endpoint=CHAT) == 1.5
    assert value(samples, "request_duration_seconds_bucket", endpoint=CHAT, le="1.0") == 0
    assert value(samples, "request_duration_seconds_bucket", endpoint=CHAT, le="2.5") == 1
    assert value(samples, "request_duration_seconds_bucket", endpoint=CHAT, le="+Inf") == 1
    assert value(samples, "request_duration_seconds_count", endpoint=CHAT) == 1
    assert value(samples, "time_to_first_token_seconds_sum", endpoint=CHAT) == 0.4
    assert value(samples, "generation_duration_seconds_sum") == 0.9
    assert value(samples, "tokens_generated_total") == 22
    assert value(samples, "prompt_tokens_total") == 11
    assert value(samples, "bytes_sent_total") == 321
    assert value(samples, "queue_wait_seconds_sum") == 0.2
    assert value(samples, "relay_overhead_seconds_sum") == 0.0003
    assert value(samples, "relay_overhead_seconds_count") == 1


def test_figures_of_others() -> None:
    """Gate, engine, limits and logs are asked at every scrape."""
    clock = Clock()
    metrics = make_metrics(clock)
    clock.advance(7)
    samples = scrape(metrics)
    assert value(samples, "active_requests") == 2
    assert value(samples, "queue_depth") == 3
    assert value(samples, "engine_restarts_total") == 4
    assert value(samples, "engine_state", state="ready") == 1
    assert value(samples, "engine_state", state="failed") == 0
    assert value(samples, "model_info", model="model.gguf") == 1
    assert value(samples, "limits_fallbacks_total") == 5
    assert value(samples, "log_lines_lost_total") == 6
    assert value(samples, "uptime_seconds") == 7


def test_process_and_python_are_there() -> None:
    """The library's own collectors."""
    text = make_metrics().render_prometheus(openmetrics=False).decode()
    names = {family.name for family in parse_text(text)}
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= names


def test_optional_figures() -> None:
    """Without shared limits, lost lines or a model there are no such samples."""
    metrics = Metrics(Clock().seconds, Gate(), lambda: Engine(model=None))
    names = {name for name, _ in scrape(metrics)}
    assert not names & {
        PREFIX + "limits_fallbacks_total",
        PREFIX + "log_lines_lost_total",
        PREFIX + "model_info",
    }


@pytest.mark.parametrize("model", ['we"ird\\\n.gguf', "\udcff.gguf"])
def test_a_strange_model_name(model: str) -> None:
    """It does not break the formats."""
    samples = scrape(make_metrics(engine=Engine(model=model)))
    assert any(name == PREFIX + "model_info" for name, _ in samples)


@pytest.mark.parametrize(
    ("reason", "label"), [("missing", "missing"), ("new one", "other"), (None, "other")]
)
def test_auth_failures(reason: str | None, label: str) -> None:
    """By the reason, one of a fixed list."""
    metrics = make_metrics()
    metrics.observe(
        [
            finished_exchange(
                status=401, outcome="refused", error_code="invalid_api_key", error_reason=reason
            )
        ]
    )
    samples = scrape(metrics)
    assert value(samples, "auth_failures_total", reason=label) == 1
    assert value(samples, "auth_failures_total", reason="expired") == 0
    assert metrics.render_json()["gateway"]["requests_unauthorized"] == 1


def test_an_address_that_is_held_off_has_no_valid_key_either() -> None:
    """Among the failures of keys, and not among the limits of keys."""
    metrics = make_metrics()
    metrics.observe(
        [
            finished_exchange(
                status=429,
                outcome="refused",
                error_code="too_many_invalid_keys",
                error_reason="held_off",
            )
        ]
    )
    samples = scrape(metrics)
    assert value(samples, "auth_failures_total", reason="held_off") == 1
    assert value(samples, "rate_limited_total") == 0
    assert metrics.render_json()["gateway"]["requests_unauthorized"] == 1


@pytest.mark.parametrize("code", ["queue_full", "queue_timeout", "model_loading", "draining"])
def test_queue_rejections(code: str) -> None:
    """They waited too."""
    metrics = make_metrics()
    metrics.observe(
        [finished_exchange(status=503, outcome="refused", error_code=code, queue_seconds=2.0)]
    )
    samples = scrape(metrics)
    assert value(samples, "queue_rejections_total", reason=code) == 1
    assert value(samples, "queue_wait_seconds_sum") == 2
    assert metrics.render_json()["gateway"]["queue_rejections"] == 1


def test_rate_limited() -> None:
    """Counted apart from other refusals."""
    metrics = make_metrics()
    metrics.observe(
        [finished_exchange(status=429, outcome="refused", error_code="rate_limit_exceeded")]
    )
    assert value(scrape(metrics), "rate_limited_total") == 1


def test_a_client_that_left() -> None:
    """Status 499 and a count; its time and bytes are counted as others'."""
    metrics = make_metrics()
    metrics.observe([relayed(status=499, outcome="client_gone")])  # type: ignore[arg-type]
    samples = scrape(metrics)
    assert value(samples, "requests_total", endpoint=CHAT, status="499") == 1
    assert value(samples, "client_disconnects_total") == 1


def test_requests_without_a_path() -> None:
    """Only their number and bytes are counted."""
    metrics = make_metrics()
    metrics.observe([finished_exchange(b"", named_path=False, status=400)])
    samples = scrape(metrics)
    assert value(samples, "malformed_requests_total") == 1
    assert not any(name == PREFIX + "requests_total" for name, _ in samples)
    assert metrics.render_json()["gateway"]["total_requests"] == 0


def test_a_defect_costs_one_count() -> None:
    """Those who ended in the same turn are counted."""
    metrics = make_metrics()
    with logged_failures() as logged:
        metrics.observe(
            [finished_exchange(), finished_exchange(started="no number"), finished_exchange()]
        )
    assert value(scrape(metrics), "request_duration_seconds_count", endpoint=CHAT) == 2
    assert len(logged) == 1


def test_labels_do_not_grow_with_what_is_sent() -> None:
    """Unknown labels and error codes share one."""
    metrics = make_metrics()
    for number in range(200):
        metrics.observe(
            [finished_exchange(endpoint=f"/made/up/{number}", status=500, error_code=f"e{number}")]
        )
    samples = scrape(metrics)
    assert value(samples, "requests_total", endpoint="other", status="500") == 200
    assert len(metrics.render_json()["gateway"]["errors_by_type"]) == 65  # type: ignore[arg-type]


def test_json() -> None:
    """All names, and sums that agree."""
    clock = Clock()
    metrics = make_metrics(clock)
    metrics.observe([relayed()])  # type: ignore[arg-type]
    metrics.observe([finished_exchange(b"/ping", public=True)])
    metrics.observe([finished_exchange(status=404, outcome="refused", error_code="not_found")])
    metrics.observe([relayed(outcome="cut")])  # type: ignore[arg-type]
    metrics.observe([relayed(status=499, outcome="client_gone")])  # type: ignore[arg-type]
    metrics.observe([relayed(status=500)])  # type: ignore[arg-type]
    metrics.observe([relayed(status=422)])  # type: ignore[arg-type]
    clock.advance(2.5)
    assert json.loads(json.dumps(metrics.render_json())) == {
        "gateway": {
            "total_requests": 7,
            "active_requests": 2,
            "requests_by_path": {"/ping": 1, CHAT: 6},
            "errors_by_type": {
                "client_disconnected": 1,
                "not_found": 1,
                "response_cut": 1,
                "status_4xx": 1,
                "status_5xx": 1,
            },
            "requests_success": 2,
            "requests_error": 5,
            "requests_authenticated": 5,
            "requests_unauthorized": 0,
            "bytes_sent": 7 * 321,
            "queue_depth": 3,
            "queue_rejections": 0,
            "queue_wait_seconds_total": 1.0,
            "uptime_seconds": 2.5,
        }
    }


def test_content_types() -> None:
    """As Prometheus knows them."""
    assert Metrics.content_type(False) == b"text/plain; version=0.0.4; charset=utf-8"
    assert Metrics.content_type(True).startswith(b"application/openmetrics-text; version=1.0.0")


@given(st.lists(st.floats(0, 1000)))
def test_histogram_counts_by_upper_bound(values: list[float]) -> None:
    """Each bucket holds what does not exceed its bound and exceeds the one before."""
    histogram = Histogram(DURATION_BOUNDS)
    for number in values:
        histogram.add(number)
    for index, bound in enumerate(DURATION_BOUNDS):
        assert sum(histogram.counts[: index + 1]) == sum(number <= bound for number in values)
    assert sum(histogram.counts) == len(values)


def test_the_dashboard_names_only_what_exists() -> None:
    """Every metric of the dashboard is in the output of a gateway at work."""
    metrics = make_metrics()
    metrics.observe([relayed()])  # type: ignore[arg-type]
    text = metrics.render_prometheus(openmetrics=False).decode()
    existing = {sample.name for family in parse_text(text) for sample in family.samples}
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts += [variable["query"]["query"] for variable in dashboard["templating"]["list"][1:]]
    named = set(re.findall(r"\b(?:llm_gateway|process|python)_\w+", " ".join(texts)))
    assert len(named) > 20
    assert named <= existing


def test_the_scrape_example_is_yaml() -> None:
    """And asks for the path that there is."""
    import yaml

    example = yaml.safe_load((GRAFANA / "prometheus.yml").read_text())
    assert example["scrape_configs"][0]["metrics_path"] == "/metrics"
