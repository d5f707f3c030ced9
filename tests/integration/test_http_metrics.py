"""``/metrics``: what it counts, who may read it, and that workers count together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.http_world import FixedKeyring
from fakes.server_process import event, running, wait_until
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from adapters.bootstrap import http_app, open_ledger
from adapters.http.metrics import Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Ask = Callable[..., Any]


def parsed(text: str) -> Samples:
    """Return the samples of a text in Prometheus's form."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """Return a sample."""
    return samples.get((name, frozenset(labels.items())))


@pytest.fixture
def ask(database_url: str) -> Iterator[Ask]:
    """Call an application that counts, with a key."""
    metrics, keyring = Metrics(), FixedKeyring()
    keyring.add("platform", tenant=None)
    keyring.add("scraper", tenant=None, scopes=("metrics",))
    keyring.add("reader", tenant=None, scopes=("read", "support"))
    keyring.add("acme", tenant="acme")
    with open_ledger(database_url, watch=metrics) as tallybook:
        app = http_app(tallybook, keyring=keyring, observer=metrics, metrics=metrics)
        with TestClient(app) as client:

            def call(method: str, path: str, key: str | None, document: Any = None) -> Any:
                headers = {} if key is None else {"Authorization": f"Bearer {key}"}
                return client.request(method, path, headers=headers, json=document)

            yield call


def test_metrics_need_a_key_of_the_platform_for_them(ask: Ask) -> None:
    """They tell how busy everybody is; no other scope but admin opens them."""
    assert ask("GET", "/metrics", None).json()["code"] == "missing_key"
    assert ask("GET", "/metrics", "reader").json()["code"] == "missing_scope"
    assert ask("GET", "/metrics", "acme").json()["code"] == "platform_only"
    answer = ask("GET", "/metrics", "scraper")
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    assert ask("GET", "/metrics", "platform").status_code == 200
    assert ask("GET", "/v2/tenants", "scraper").status_code == 403


def test_what_happens_is_counted_and_nobody_is_named(ask: Ask) -> None:
    """Events by outcome, flags, holds by code, decisions, batches, requests, the ledger's state."""
    events = [event("e-1"), event("e-1"), {**event("e-1"), "time": "2026-11-20T13:00:00Z"}, {}]
    assert ask("POST", "/v2/events", "acme", events).json()["conflict"] == 1
    for hold, amount in (("h-1", "1"), ("h-2", "1000000000")):
        ask("POST", "/v2/holds", "acme", {"hold": hold, "amount": amount})
    assert ask("GET", "/v2/holds/h-1", "acme").status_code == 200
    ask("GET", "/nowhere/acme", "acme")
    text = ask("GET", "/metrics", "scraper").text
    found = parsed(text)
    for outcome in ("accepted", "duplicate", "conflict"):
        assert value(found, "tallybook_events_total", kind="usage", outcome=outcome) == 1
    assert value(found, "tallybook_events_total", kind="unreadable", outcome="rejected") == 1
    assert value(found, "tallybook_event_flags_total", flag="unpriced") == 1
    assert value(found, "tallybook_unpriced_events") == 1
    assert value(found, "tallybook_holds_total", operation="authorize", code="created") == 1
    denied = "denied_exceeds_budget"
    assert value(found, "tallybook_holds_total", operation="authorize", code=denied) == 1
    assert value(found, "tallybook_hold_decisions_total", decision="deny") == 1
    assert value(found, "tallybook_batch_commands_sum") == 5
    requests = "tallybook_http_requests_total"
    assert value(found, requests, method="GET", route="/v2/holds/{hold}", status="200") == 1
    assert value(found, requests, method="POST", route="/v2/holds", status="200") == 2
    assert value(found, requests, method="GET", route="-", status="404") == 1
    assert value(found, "tallybook_database_up") == 1
    assert (value(found, "tallybook_projection_lag") or 0) > 0
    assert "acme" not in text
    assert "h-1" not in text


def test_open_streams_are_counted(ask: Ask, database_url: str) -> None:
    """They rise with each session and fall when it ends."""
    del ask
    metrics, keyring = Metrics(), FixedKeyring()
    keyring.add("platform", tenant=None)

    def streams() -> float | None:
        return metrics.registry.get_sample_value("tallybook_stream_connections")

    with open_ledger(database_url, watch=metrics) as tallybook:
        app = http_app(tallybook, keyring=keyring, observer=metrics, metrics=metrics)
        with TestClient(app) as client:
            headers = {"Authorization": "Bearer platform"}
            with client.websocket_connect("/v2/stream?tenant=acme", headers=headers):
                assert streams() == 1
            wait_until(lambda: streams() == 0)


def test_workers_count_together_and_a_dead_one_s_counts_stay(database_url: str) -> None:
    """Whichever answers tells of all; who takes a dead one's place goes on where it stopped."""
    with running(database_url, "--workers", "2", "--open-metrics") as server:
        token = server.ready["admin_key"]

        def scrape() -> Samples:
            status, _, body = server.call("GET", "/metrics")
            assert status == 200
            return parsed(body.decode())

        def events() -> float:
            name = "tallybook_events_total"
            return value(scrape(), name, kind="usage", outcome="accepted") or 0

        for number in range(20):
            assert server.call("POST", "/v2/events", event(f"a-{number}"), token=token)[0] == 200
        assert events() == 20
        assert value(scrape(), "tallybook_workers") == 2
        before = server.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len({*server.workers()} - {*before}) == 2)
        for number in range(20):
            assert server.call("POST", "/v2/events", event(f"b-{number}"), token=token)[0] == 200
        assert events() == 40
        wait_until(lambda: value(scrape(), "tallybook_workers") == 2)
        assert value(scrape(), "tallybook_worker_deaths_total") == 2
        assert server.stop() == 0, server.log()
