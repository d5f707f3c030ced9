"""The sessions of a process: who hears of which budget, who has lost a session, how far they are.

News come from the ledger's feed on a thread of its own and are handed to the event loop of each
session that they concern.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from adapters.http.stream.frames import (
    BudgetConfirmRequired,
    BudgetDowngraded,
    BudgetExhausted,
    BudgetFrame,
    BudgetThreshold,
    encode,
)
from adapters.http.stream.session import Code
from ledger.application.documents.amounts import measured_text, utc_text
from ledger.application.documents.budgets import scope_text
from ledger.application.live import CLOSED, CREDIT, Attached, Attribution, LiveFeed, News, Told
from ledger.application.protection_reads import BudgetStanding, ProtectionReads
from ledger.application.streams import Progress, StreamSession, StreamSessions
from ledger.domain.budgets import BudgetTerms
from ledger.domain.errors import NotFound, Unavailable

KEEP_S = 1.0
"""How often it is written down how far sessions are."""
TOUCH_S = 3600.0
"""How often that is done for a session that has come no further."""
AGAIN_S = 30.0
"""After that time a session is told again of a refusal that no step stands behind."""
_KINDS: dict[str, type[BudgetFrame]] = {
    "inform": BudgetThreshold,
    "warn": BudgetThreshold,
    "projected": BudgetThreshold,
    "downgrade": BudgetDowngraded,
    "confirm": BudgetConfirmRequired,
    "stop": BudgetExhausted,
    CLOSED: BudgetExhausted,
    CREDIT: BudgetExhausted,
}

_log = logging.getLogger(__name__)


class Member(Protocol):
    """A connection that has a session."""

    @property
    def kept(self) -> StreamSession:
        """The session, as it was when the connection got it."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it runs."""
        ...

    @property
    def acked(self) -> int:
        """All frames up to this one are done."""
        ...

    def tell(self, told: Told) -> None:
        """Take news that concern it."""
        ...

    def close(self, code: Code, reason: str) -> None:
        """Close the connection."""
        ...


class Budgets:
    """What one connection was told of budgets.

    Args:
        attribution: says which budgets concern it.
        clock: monotonic seconds.
    """

    def __init__(
        self, attribution: Attribution, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._attribution = attribution
        self._clock = clock
        self._told_s: dict[tuple[object, ...], float] = {}

    def frame(self, told: Told) -> str | None:
        """Return the frame of news; None where they do not concern it or were told."""
        if not told.concerns(self._attribution) or not self._is_new(told.news):
            return None
        return encode(frame_of(told.news, told.terms, currency=told.currency))

    def standing(self, budgets: Iterable[BudgetStanding]) -> list[str]:
        """Return frames of the steps that budgets have reached."""
        frames = []
        for one in budgets:
            if not self._attribution.in_scope(one.terms):
                continue
            for news in _reached(one):
                if self._is_new(news):
                    currency = one.tenant.currency
                    frames.append(
                        encode(frame_of(news, one.terms, currency=currency, standing=True))
                    )
        return frames

    def _is_new(self, news: News) -> bool:
        now_s = self._clock()
        if news.place >= 0:
            return self._told_s.setdefault(news.key, now_s) == now_s
        key = (news.budget, news.step)
        last_s = self._told_s.get(key)
        if last_s is not None and now_s - last_s < AGAIN_S:
            return False
        self._told_s[key] = now_s
        return True


def _reached(one: BudgetStanding) -> Iterable[News]:
    terms, used = one.terms, one.spent + one.held
    for place in one.fired:
        step = terms.steps[place]
        threshold = step.threshold(terms.limit)
        yield News(step.kind, place, one.number, one.window, threshold, used, 0)
    if terms.state == "closed":
        yield News(CLOSED, -1, one.number, one.window, terms.limit, used, 0)


def frame_of(
    news: News, terms: BudgetTerms | None, *, currency: str, standing: bool = False
) -> BudgetFrame:
    """Return the frame of news.

    Args:
        news: what happened.
        terms: of the budget; None for credit.
        currency: of the ledger.
        standing: it happened before the connection began.
    """
    measure = terms.measure if terms is not None else news.measure or "charge"
    frame = _KINDS[news.step](
        budget=terms.name if terms is not None else CREDIT,
        step=news.step,
        scope=scope_text(terms) if terms is not None else "tenant",
        measure=measure,
        currency=(terms.currency or currency) if terms is not None else currency,
        window=utc_text(news.window),
        threshold=measured_text(news.threshold, measure),
        limit=measured_text(terms.limit if terms is not None else news.threshold, measure),
        used=measured_text(news.used, measure),
        at=utc_text(news.at),
        standing=standing,
        **_more(news, terms, measure),
    )
    return frame


def _more(news: News, terms: BudgetTerms | None, measure: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if terms is not None and 0 <= news.place < len(terms.steps):
        model = terms.steps[news.place].model
        if model:
            found["model"] = model
    if news.forecast:
        found["forecast"] = measured_text(news.forecast, measure)
    limit_at = utc_text(news.limit_at)
    if limit_at is not None:
        found["limit_at"] = limit_at
    return found


class Hub:
    """The connections of a process that have a session.

    Args:
        feed: tells news.
        sessions: where it is written down how far sessions are.
        protection: knows how budgets stand.
    """

    def __init__(
        self, *, feed: LiveFeed, sessions: StreamSessions, protection: ProtectionReads
    ) -> None:
        self._feed = feed
        self._sessions = sessions
        self._protection = protection
        self._members: dict[str, dict[str, Member]] = {}
        self._kept: dict[Member, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._keepers: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    # -- who is there -----------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._kept)

    def members(self) -> list[Member]:
        """Return all connections that have a session."""
        with self._lock:
            return list(self._kept)

    def listen(self) -> None:
        """Begin to hear news, once; blocks.

        Raises:
            Unavailable: the database cannot be reached.
        """
        with self._starting:
            if self._stop is None:
                self._stop = self._feed.start(self)

    def join(self, member: Member) -> None:
        """Let a connection hear news; one of this process that had the session has lost it."""
        kept = member.kept
        with self._lock:
            sessions = self._members.setdefault(kept.tenant, {})
            before = sessions.get(kept.session)
            if before is None or before.kept.attachment < kept.attachment:
                sessions[kept.session] = member
            self._kept[member] = (kept.acked, time.monotonic())
        if before is not None:
            self._lost(min((before, member), key=lambda one: one.kept.attachment))
        if member.loop not in self._keepers or self._keepers[member.loop].done():
            self._keepers[member.loop] = member.loop.create_task(self._keep())

    def leave(self, member: Member) -> None:
        """Let a connection hear nothing more."""
        kept = member.kept
        with self._lock:
            self._kept.pop(member, None)
            sessions = self._members.get(kept.tenant, {})
            if sessions.get(kept.session) is member:
                del sessions[kept.session]
            if not sessions:
                self._members.pop(kept.tenant, None)

    def standing(self, tenant: str) -> Sequence[BudgetStanding]:
        """Return how a tenant's budgets stand; blocks."""
        try:
            return self._protection.budgets(tenant=tenant)
        except NotFound:
            # Its ledger opens with its first usage.
            return ()

    def close(self) -> None:
        """Hear no more news; blocks for a moment."""
        with self._starting:
            if self._stop is not None:
                self._stop()
                self._stop = None

    # -- what the feed tells, on its thread -------------------------------------------

    def told(self, news: Sequence[Told]) -> None:
        """Hand news to the sessions of their tenants."""
        for one in news:
            with self._lock:
                members = list(self._members.get(one.tenant, {}).values())
            for member in members:
                # A loop that is closed has nobody left to tell.
                with contextlib.suppress(RuntimeError):
                    member.loop.call_soon_threadsafe(member.tell, one)

    def attached(self, attached: Attached) -> None:
        """Close the connection of this process that had a session."""
        with self._lock:
            member = self._members.get(attached.tenant, {}).get(attached.session)
        if member is not None and member.kept.attachment < attached.attachment:
            self._lost(member)

    @staticmethod
    def _lost(member: Member) -> None:
        with contextlib.suppress(RuntimeError):
            member.loop.call_soon_threadsafe(
                member.close, Code.TAKEN_OVER, "another connection has taken the session over"
            )

    # -- how far they are -------------------------------------------------------------

    async def _keep(self) -> None:
        """Write down how far sessions are, until none is left on this loop."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(KEEP_S)
            mine = [one for one in self.members() if one.loop is loop]
            if not mine:
                return
            await self.keep(mine)

    async def keep(self, members: Sequence[Member]) -> None:
        """Write down how far some connections are; close those that have lost their session."""
        now_s = time.monotonic()
        changed: dict[tuple[str, str, int], Member] = {}
        progress = []
        for member in members:
            kept = member.kept
            acked, at_s = self._kept.get(member, (kept.acked, now_s))
            if member.acked > acked or now_s - at_s > TOUCH_S:
                # Read once: what is written is never ahead of what was done.
                done = member.acked
                changed[kept.tenant, kept.session, kept.attachment] = member
                progress.append(Progress(kept.tenant, kept.session, kept.attachment, done))
        if not progress:
            return
        try:
            lost = await asyncio.to_thread(self._sessions.keep, progress)
        except Unavailable as error:
            _log.warning("how far sessions are is not written down now: %s", error)
            return
        for one in progress:
            member = changed[one.tenant, one.session, one.attachment]
            if member in self._kept:
                self._kept[member] = (one.acked, now_s)
        for one in lost:
            self._lost(changed[one.tenant, one.session, one.attachment])
