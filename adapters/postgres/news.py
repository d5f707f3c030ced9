"""News that a batch writes with its commits; `adapters.postgres.live` reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from adapters.postgres import arrays
from adapters.postgres.exchange import Exchange, Parameters
from ledger.application.live import News, news_body
from ledger.application.ports import LedgerWrite
from ledger.domain.entries import stream_of

NEWS_CHANNEL = "tallybook_news"
"""Channel that wakes feeds for news; ``wake_news`` names it too."""
SESSIONS_CHANNEL = "tallybook_sessions"
"""Channel on which it is told that a connection has taken a session over."""
AGAIN_S = 5.0
"""How often at most a process tells that the same budget refuses, where no step says it."""
_KEPT = 1000


def attached_payload(*, tenant: str, session: str, attachment: int) -> str:
    """Return what `SESSIONS_CHANNEL` is told when a connection takes a session over."""
    return msgspec.json.encode((tenant, session, attachment)).decode()


class NewsDesk:
    """Chooses what of a batch is told; one a store.

    Refusals that no step of a ladder stands behind come with every call that is refused; they are
    told again only after `AGAIN_S`.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[object, ...], float] = {}
        self._telling: set[tuple[object, ...]] = set()

    def write(self, exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
        """Ask for writing what is to be told, and for waking who listens."""
        rows = self.rows(writes)
        if rows is not None:
            exchange.ask("insert_news", rows)
            exchange.ask("wake_news")

    def rows(self, writes: Sequence[LedgerWrite]) -> Parameters | None:
        """Return the parameters of ``insert_news``; None where there is nothing to tell."""
        self._telling.clear()
        found = [
            (write, place, news)
            for write in writes
            if write.news
            for place, news in enumerate(write.news)
            if news.place >= 0 or self._due(write.state.tenant_id, news)
        ]
        if not found:
            return None
        return {
            "tenants": arrays.int4s([write.state.tenant_id for write, _, _ in found]),
            "streams": arrays.texts([stream_of(write.state.tenant_id) for write, _, _ in found]),
            "versions": arrays.int8s([write.state.version for write, _, _ in found]),
            "places": arrays.int4s([place for _, place, _ in found]),
            "budgets": arrays.int4s([news.budget for _, _, news in found]),
            "times": arrays.int8s([news.at for _, _, news in found]),
            "bodies": arrays.byteas([news_body(news) for _, _, news in found]),
        }

    def _due(self, tenant_id: int, news: News) -> bool:
        key = (tenant_id, news.budget, news.step)
        last_s = self._last.get(key)
        if key in self._telling or (last_s is not None and self._clock() - last_s < AGAIN_S):
            return False
        self._telling.add(key)
        return True

    def committed(self) -> None:
        """Take note that what `rows` returned last is told."""
        if len(self._last) > _KEPT:
            self._last.clear()
        self._last.update(dict.fromkeys(self._telling, self._clock()))
