"""A line of the access log says what was asked of which route, and holds nothing of clients."""

from __future__ import annotations

import structlog
from structlog.testing import LogCapture

from adapters.http.exchange import Exchange
from adapters.http.observing import AccessLog
from ledger.application.access import Caller


def test_a_request_is_one_line_with_its_route_and_the_key_s_id() -> None:
    """Neither the path, which holds ids, nor a header, which holds the token, is in it."""
    lines = LogCapture()
    exchange = Exchange("POST", {b"authorization": b"Bearer swordfish"}, b"tenant=acme", "r-1")
    exchange.route, exchange.status = "/v2/holds/{hold}/capture", 200
    exchange.path = {"hold": "secret-hold"}
    exchange.caller = Caller(key="k1", tenant="acme", scopes=frozenset({"read"}))
    log = AccessLog(structlog.wrap_logger(structlog.PrintLogger(), processors=[lines]))
    log.finished(exchange, seconds=0.0123, error=None)
    assert lines.entries == [
        {
            "event": "request",
            "log_level": "info",
            "request_id": "r-1",
            "method": "POST",
            "route": "/v2/holds/{hold}/capture",
            "status": 200,
            "ms": 12.3,
            "key": "k1",
        }
    ]


def test_a_request_that_came_to_no_route_is_logged_too() -> None:
    """It has no caller and no template."""
    lines = LogCapture()
    log = AccessLog(structlog.wrap_logger(structlog.PrintLogger(), processors=[lines]))
    log.finished(Exchange("GET", {}, b"", "r-2"), seconds=0.0, error=ValueError("x"))
    [line] = lines.entries
    assert (line["route"], line["key"], line["status"]) == ("-", "-", 0)
