"""Traces: a span a request, the batch under it, and nothing at all unless it is asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.http_world import FixedKeyring, Watching
from fakes.server_process import event
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from adapters.bootstrap import http_app, open_ledger
from adapters.http import tracing
from adapters.http.spans import Traces
from ledger.application.watching import Unwatched, Watches

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    """An application that is traced.

    Attributes:
        client: calls it.
        tallybook: the use cases behind it.
    """

    def __init__(self, url: str) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = Traces(provider)
        self._url = url

    def spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended since this was asked last."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def both(self) -> list[ReadableSpan]:
        """Return the next two spans: a batch's may end after the answer that it was for."""
        found = self.spans()
        deadline = time.monotonic() + 30
        while len(found) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            found += self.spans()
        return found

    def __enter__(self) -> Traced:
        """Open it."""
        keyring = FixedKeyring()
        keyring.add("acme", tenant="acme")
        watch = Watches([Unwatched(), self.traces])
        self._opened = open_ledger(self._url, watch=watch)
        self.tallybook = self._opened.__enter__()
        app = http_app(self.tallybook, keyring=keyring, observer=Watching())
        headers = {"Authorization": "Bearer acme"}
        self.client = TestClient(
            self.traces.around(app), raise_server_exceptions=False, headers=headers
        )
        self.client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.client.__exit__()
        self._opened.__exit__(None, None, None)
        self.traces.close()


@pytest.fixture
def traced(database_url: str) -> Iterator[Traced]:
    """Give an application that is traced."""
    with Traced(database_url) as opened:
        yield opened


def test_a_request_is_a_span_with_its_route_and_the_batch_is_under_it(traced: Traced) -> None:
    """It belongs to the client's trace where that sends one."""
    given = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "r-1"}
    assert traced.client.post("/v2/events", json=event("secret-e"), headers=given).is_success
    batch, request = sorted(traced.both(), key=lambda span: span.name != "sequencer batch")
    assert (request.name, request.kind) == ("POST /v2/events", SpanKind.SERVER)
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v2/events",
        "http.response.status_code": 200,
        "tallybook.request_id": "r-1",
        "tallybook.key": "key-acme",
    }
    assert batch.parent is not None
    assert batch.parent.span_id == request.context.span_id
    assert batch.context.trace_id == request.context.trace_id
    attributes = dict(batch.attributes or {})
    assert attributes["tallybook.batch.commands"] == 1
    assert request.start_time is not None
    assert request.end_time is not None
    assert request.start_time <= (batch.start_time or 0) <= (batch.end_time or 0)
    assert (batch.end_time or 0) <= request.end_time


def test_what_is_not_sampled_or_no_success_is_traced_as_such(
    traced: Traced, monkeypatch: Any
) -> None:
    """No span for a client that wants none; a failure is an error, a refusal is not; no path."""
    unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert traced.client.post("/v2/events", json=event("e-1"), headers=unsampled).is_success
    assert traced.spans() == []
    assert traced.client.get("/v2/holds/secret-h").status_code == 404
    [refused] = traced.spans()
    assert refused.name == "GET /v2/holds/{hold}"
    assert refused.status.status_code is StatusCode.UNSET
    assert traced.client.get("/secret-path").status_code == 404
    [unknown] = traced.spans()
    assert unknown.name == "GET"
    monkeypatch.setattr(traced.tallybook.protection_reads, "for_tenant", lambda tenant: 1 // 0)
    assert traced.client.get("/v2/holds/secret-h").status_code == 500
    [failed] = traced.spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert not failed.events
    assert "secret" not in "".join(span.to_json() for span in (refused, unknown, failed))


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, ""),
        ({"OTEL_SERVICE_NAME": "x"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
    ],
)
def test_the_environment_says_where_traces_go(environment: dict[str, str], exporter: str) -> None:
    """Nowhere, unless it names an exporter or an endpoint; what is not there is warned about."""
    assert tracing.exporter_of(environment) == exporter


def test_nothing_that_traces_is_loaded_unless_it_is_asked_for() -> None:
    """And where it is asked for and not there, the server goes on without it and says so."""
    program = """
import sys
from adapters import bootstrap
from adapters.http import app, tracing
assert tracing.open_traces({}) is None
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
sys.modules["opentelemetry.sdk"] = None
assert tracing.open_traces({"OTEL_TRACES_EXPORTER": "otlp"}) is None
"""
    run = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "pip install 'tallybook[otel]'" in run.stderr
