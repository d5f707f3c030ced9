"""Spans: one a request, and under it the batch of the sequencer that its commands were in.

Only `adapters.http.tracing` imports this module, when traces are asked for. Names and attributes
are those of OpenTelemetry's conventions for HTTP servers, but for ``url.path`` and ``url.query``,
which hold ids of clients. Streams are not traced: a session of hours is no span.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from adapters.http.exchange import KEY, Exchange
from ledger.application.watching import BatchDone

SERVICE = "tallybook"
"""Name of the service, unless the environment has another."""
_CARRIED = ("traceparent", "tracestate")

App = Callable[[Any, Any, Any], Awaitable[None]]


def exporting(exporter: str, *, named: bool) -> Traces:
    """Return what traces this process and sends its spans away.

    Args:
        exporter: ``otlp``, whose address and the like the environment says, or ``console``.
        named: whether the environment names the service.
    """
    attributes: dict[str, str | int] = {"process.pid": os.getpid()}
    if not named:
        attributes["service.name"] = SERVICE
    provider = TracerProvider(resource=Resource.create(attributes))
    if exporter == "console":
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - large
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


class Traces:
    """Traces requests, as an ASGI application around another, and batches, as a `Watch`.

    Args:
        provider: makes spans and knows where they go; closed with this.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()
        self._batches = count(1)

    def around(self, app: App) -> App:
        """Return an application that traces what another one answers."""

        async def traced(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            method = scope["method"]
            with self._tracer.start_as_current_span(
                method, self._parent(scope), kind=SpanKind.SERVER, record_exception=False
            ) as span:
                span.set_attribute("http.request.method", method)
                await app(scope, receive, send)
                # The gate behind this leaves the exchange in the scope.
                _describe(span, scope[KEY])

        return traced

    def close(self) -> None:
        """Send what is left, and stop."""
        self._provider.shutdown()

    def _parent(self, scope: Mapping[str, Any]) -> Context:
        """Return the context that the client was in, or an empty one."""
        carrier = {}
        for name, value in scope["headers"]:
            text = name.decode("latin-1")
            if text in _CARRIED:
                carrier[text] = value.decode("latin-1")
        return self._propagator.extract(carrier, Context())

    # -- the sequencer ----------------------------------------------------------------

    def origin(self) -> object:
        """Return the span of the request that submits."""
        return trace.get_current_span().get_span_context()

    def done(self, batch: BatchDone) -> None:
        """Put a span under every request that had commands in a batch and is traced."""
        number = next(self._batches)
        now_ns = time.time_ns() - time.monotonic_ns()
        for origin in batch.origins:
            if not isinstance(origin, SpanContext) or not origin.trace_flags.sampled:
                continue
            parent = trace.set_span_in_context(NonRecordingSpan(origin), Context())
            span = self._tracer.start_span(
                "sequencer batch",
                parent,
                start_time=now_ns + int(batch.begun_s * 1e9),
                attributes={
                    "tallybook.batch": number,
                    "tallybook.batch.commands": batch.size,
                    "tallybook.batch.submissions": len(batch.origins),
                },
            )
            span.end(now_ns + int(batch.done_s * 1e9))

    def unreadable(self, items: int) -> None:
        """Take no note."""

    def repeated(self) -> None:
        """Take no note: the batch's span is as long as all of its runs."""


def _describe(span: Span, exchange: Exchange) -> None:
    status = exchange.status or 499
    if exchange.route:
        span.update_name(f"{exchange.method} {exchange.route}")
        span.set_attribute("http.route", exchange.route)
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("tallybook.request_id", exchange.request_id)
    if exchange.caller is not None:
        span.set_attribute("tallybook.key", exchange.caller.key)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
