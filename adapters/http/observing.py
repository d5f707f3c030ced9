"""What a server says of its requests: a line each, for those who want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from adapters.http.exchange import Exchange
from adapters.http.gate import Observer


class AccessLog:
    """Logs every request; route templates, never paths, which hold ids of clients.

    Args:
        log: where; the process's structured log when left out.
    """

    def __init__(self, log: Any = None) -> None:
        self._log = log if log is not None else structlog.get_logger("access")

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Log a request; why one failed is in a line of its own, under the same request id."""
        del error
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=exchange.method,
            route=exchange.route or "-",
            status=exchange.status,
            ms=round(seconds * 1000, 1),
            key=exchange.caller.key if exchange.caller is not None else "-",
        )


class Observers:
    """Several in one.

    Args:
        observers: told in this order.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Tell each."""
        for one in self._observers:
            one.finished(exchange, seconds=seconds, error=error)


class Silent:
    """Says nothing."""

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Take no note."""
