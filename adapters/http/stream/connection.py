"""A connection: one WebSocket, the session that it carries, and the ledger behind it.

The reader takes frames and queues their commands without waiting for commits; each outcome goes
to the session, which says what may be sent; the writer sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from adapters.http.stream import commands, frames
from adapters.http.stream.commands import Context, Numbered
from adapters.http.stream.entrance import Entrance
from adapters.http.stream.live import Budgets, Hub
from adapters.http.stream.session import POLITE, Broken, Code, Limits, Session
from ledger.application import ask_fields
from ledger.application.access import Forbidden, KeyRefused, tenant_of
from ledger.application.live import Attribution, Told
from ledger.application.sequencer import SequencerClosed
from ledger.application.services import Services
from ledger.application.streams import StreamSession
from ledger.domain.commands import Command, Outcome
from ledger.domain.errors import InvalidInput, LedgerError, Unavailable

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CLOSE_TIMEOUT_S = 5.0
"""Longest time to say goodbye to a client that may not read."""
_REASON_CHARS = 120

_log = logging.getLogger(__name__)


def now_ms() -> int:
    """Return the milliseconds of a clock that only goes forward."""
    return time.monotonic_ns() // 1_000_000


class Gone(Exception):
    """The client is away."""


class Connection:
    """One WebSocket that was accepted.

    Args:
        receive: of the ASGI server.
        send: of the ASGI server.
        services: the use cases.
        hub: the sessions of this process.
        limits: bounds.
        entrance: who it is.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        services: Services,
        hub: Hub,
        limits: Limits,
        entrance: Entrance,
    ) -> None:
        self._receive = receive
        self._send = send
        self._services = services
        self._hub = hub
        self._limits = limits
        self._entrance = entrance
        self._session = Session(limits, now_ms=now_ms())
        self._context: Context | None = None
        self._budgets = Budgets(Attribution())
        self._kept: StreamSession | None = None
        self._changed = asyncio.Event()
        self._readable = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self.loop = asyncio.get_running_loop()

    # -- what the hub sees ------------------------------------------------------------

    @property
    def kept(self) -> StreamSession:
        """Return the session, as it was when this connection got it."""
        if self._kept is None:
            raise RuntimeError("the session has not begun")
        return self._kept

    @property
    def acked(self) -> int:
        """Return up to which frame all are done."""
        return self._session.acked

    def tell(self, told: Told) -> None:
        """Take news of a budget."""
        frame = self._budgets.frame(told)
        if frame is not None:
            self._session.push(frame)
            self._wake()

    def close(self, code: Code, reason: str) -> None:
        """Close the connection."""
        self._session.close(code, reason)
        self._wake()

    def drain(self) -> None:
        """Read no more, answer what came, then close resumably."""
        self._session.drain()
        self._wake()

    # -- how it runs ------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until one side closes."""
        writer = self._spawn(self._write())
        reader = self._spawn(self._read())
        self._tick()
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            # The writer ends when all is said; a reader that ends first leaves it the rest.
            if not writer.done() and not self._gone:
                await writer
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._leave()
        for task in (writer, reader):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _leave(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._kept is not None:
            try:
                await self._hub.keep([self])
            finally:
                self._hub.leave(self)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _wake(self) -> None:
        self._changed.set()
        if self._session.reads or self._session.closing is not None:
            self._readable.set()

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        before = now_ms()
        due_ms = self._session.tick(before)
        self._wake()
        if self._session.closing is None:
            delay_s = max(due_ms - before, 1) / 1000
            self._timer = self.loop.call_later(delay_s, self._tick)

    async def _write(self) -> None:
        """Send what waits, then the close."""
        session = self._session
        beat_s = self._limits.heartbeat_ms / 1000
        checked_s = time.monotonic()
        while session.closing is None or session.closing.code in POLITE:
            text = session.take(now_ms())
            if text is None:
                if session.closing is not None:
                    break
                self._changed.clear()
                await self._changed.wait()
            else:
                await self._send_within(text)
                if session.reads:
                    self._readable.set()
            if time.monotonic() - checked_s >= beat_s:
                checked_s = time.monotonic()
                self._spawn(self._check_key())
        if session.closing is not None and not self._gone:
            with contextlib.suppress(Gone, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._give(
                        {
                            "type": "websocket.close",
                            "code": int(session.closing.code),
                            "reason": session.closing.reason[:_REASON_CHARS],
                        }
                    )

    async def _send_within(self, text: str) -> None:
        """Send a text; a client that does not take it in time is closed."""
        try:
            async with asyncio.timeout(self._limits.stall_ms / 1000):
                await self._give({"type": "websocket.send", "text": text})
            self._session.sent(now_ms())
        except TimeoutError:
            self._session.close(Code.SLOW, "the client does not read what it is sent")
        except Gone:
            self._session.close(Code.IDLE, "the client is away")
        if self._session.closing is not None:
            self._wake()

    async def _give(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # The server has its own errors for a client that is away, all of these kinds.
            self._gone = True
            raise Gone(str(error)) from None

    async def _check_key(self) -> None:
        try:
            await self._entrance.again()
        except KeyRefused as error:
            self.close(Code.KEY_REFUSED, error.message)
        except Unavailable as error:
            _log.info("a key cannot be looked at now: %s", error)

    # -- what comes -------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while await self._may_read():
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    raise Gone
                self._session.heard(now_ms())
                await self._take(_text_of(message))
        except Gone:
            self._gone = True
            self._session.close(Code.IDLE, "the client is away")
        except Broken as error:
            self._session.close(Code.BROKEN, str(error))
        except KeyRefused as error:
            self._session.close(Code.KEY_REFUSED, error.message)
        except (Unavailable, SequencerClosed) as error:
            self._session.close(Code.UNAVAILABLE, error.message)
        except LedgerError as error:
            self._session.close(_code_of(error), error.message)
        finally:
            self._wake()

    async def _may_read(self) -> bool:
        """Wait until more may be read; False where nothing more will be."""
        while not self._session.reads:
            if self._session.closing is not None:
                return False
            self._readable.clear()
            await self._readable.wait()
        return True

    async def _take(self, text: str | bytes) -> None:
        if len(text) > frames.MAX_FRAME_BYTES:
            raise _TooBig(f"a message has more than {frames.MAX_FRAME_BYTES} bytes")
        try:
            tree = frames.tree_of(text)
        except InvalidInput as error:
            raise Broken(error.message) from None
        kind = tree.get("type")
        if self._context is None:
            await self._greet(kind, tree)
        elif kind == "heartbeat":
            _check_bare(tree)
        else:
            await self._work(commands.envelope(tree), tree, self._context)

    async def _work(self, of: Numbered, tree: Mapping[str, Any], context: Context) -> None:
        await self._pace()
        session = self._session
        try:
            if of.type == "end":
                commands.end_of(tree)
                session.receive(of.seq, last=True)
                self._spawn(self._end(of, context))
                return
            work = commands.work_of(tree, of, context)
        except LedgerError as error:
            session.receive(of.seq)
            session.answer(of.seq, [commands.refusal(of, error)])
            self._wake()
            return
        session.receive(of.seq)
        # Tasks begin in the order in which they are made, and each queues its command at once.
        self._spawn(self._run(of, work))

    async def _pace(self) -> None:
        """Wait until the key's rate lets a frame through."""
        wait_s = self._entrance.wait_s(self._entrance.caller)
        if wait_s <= 0:
            return
        self._session.hold(True)
        try:
            while wait_s > 0 and self._session.closing is None:
                await asyncio.sleep(wait_s)
                wait_s = self._entrance.wait_s(self._entrance.caller)
        finally:
            self._session.hold(False)
            self._session.heard(now_ms())

    async def _run(self, of: Numbered, work: commands.Work) -> None:
        try:
            outcome = await self._submit(work.command)
        except LedgerError as error:
            # Whether it was committed is unknown: it is neither answered nor acked.
            self.close(Code.UNAVAILABLE, error.message)
            return
        except Exception:
            _log.exception("frame %d of session %s failed", of.seq, self.kept.session)
            self.close(Code.FAILED, "the server failed")
            return
        self._session.answer(of.seq, work.answers(outcome))
        self._wake()

    async def _submit(self, command: Command) -> Outcome:
        sequencer = self._services.ledger.sequencer
        return (await sequencer.submit_async([sequencer.prepare(command)]))[0]

    # -- how a session begins ---------------------------------------------------------

    async def _greet(self, kind: object, tree: Mapping[str, Any]) -> None:
        if kind == "heartbeat":
            _check_bare(tree)
            return
        try:
            if kind == "hello":
                await self._hello(frames.read(tree, frames.Hello))
            elif kind == "resume":
                await self._resume(frames.read(tree, frames.Resume))
            else:
                raise Broken("the first frame is hello or resume")
        except InvalidInput as error:
            raise Broken(f"{error.pointer}: {error.message}") from None

    async def _hello(self, frame: frames.Hello) -> None:
        tenant = self._tenant(frame.tenant)
        session = secrets.token_hex(12) if frame.session is None else frame.session
        attribution = Attribution(
            session=ask_fields.name(session, "/session"),
            user=ask_fields.text(frame.user, "/user"),
            project=ask_fields.text(frame.project, "/project"),
            api_key=ask_fields.text(frame.api_key, "/api_key"),
            conversation=ask_fields.text(frame.conversation, "/conversation"),
            plugin=ask_fields.text(frame.plugin, "/plugin"),
            labels=ask_fields.labels(frame.labels, "/labels"),
        )
        await asyncio.to_thread(self._hub.listen)
        sessions = self._services.stream_sessions
        kept = await asyncio.to_thread(sessions.begin, tenant=tenant, attribution=attribution)
        self._session.push(
            frames.encode(
                frames.HelloAnswer(
                    session=kept.session,
                    epoch=kept.epoch,
                    from_=1,
                    heartbeat_ms=self._limits.heartbeat_ms,
                    window=self._limits.window,
                    max_frame_bytes=frames.MAX_FRAME_BYTES,
                )
            )
        )
        await self._begin(kept, seen=0)

    async def _resume(self, frame: frames.Resume) -> None:
        tenant = self._tenant(frame.tenant)
        session = ask_fields.name(frame.session, "/session")
        await asyncio.to_thread(self._hub.listen)
        sessions = self._services.stream_sessions
        kept = await asyncio.to_thread(
            sessions.resume, tenant=tenant, session=session, epoch=frame.epoch
        )
        code, message = "", ""
        if kept is None:
            code, message = "unknown_session", "there is no such session"
        elif kept.epoch != frame.epoch:
            code, message = "stale_epoch", "the session was begun anew"
        elif kept.ended:
            code, message = "session_ended", "the session is over"
        if kept is None or code:
            self._session.push(
                frames.encode(
                    frames.ResumeFailed(
                        session=session,
                        code=code,  # type: ignore[arg-type] # one of the three above
                        message=message,
                        routes=commands.ROUTES,
                    )
                )
            )
            self._wake()
            return
        seen = kept.acked if frame.last_seq is None else frame.last_seq
        self._session.push(
            frames.encode(
                frames.Resumed(
                    session=kept.session,
                    epoch=kept.epoch,
                    from_=seen + 1,
                    acked=max(seen, kept.acked),
                    heartbeat_ms=self._limits.heartbeat_ms,
                    window=self._limits.window,
                    max_frame_bytes=frames.MAX_FRAME_BYTES,
                )
            )
        )
        await self._begin(kept, seen=seen)

    def _tenant(self, named: str | None) -> str:
        return tenant_of(self._entrance.caller, self._entrance.tenant, named)

    async def _begin(self, kept: StreamSession, *, seen: int) -> None:
        self._kept = kept
        self._context = Context(kept.tenant, self._entrance.caller, kept.attribution)
        self._budgets = Budgets(kept.attribution)
        self._session.opened(seen=seen, acked=kept.acked)
        # First to hear, then to look: what is reached in between is told once all the same.
        self._hub.join(self)
        # From now on there are heartbeats.
        self._tick()
        standing = await asyncio.to_thread(self._hub.standing, kept.tenant)
        for frame in self._budgets.standing(standing):
            self._session.push(frame)
        self._wake()

    # -- how it ends ------------------------------------------------------------------

    async def _end(self, of: Numbered, context: Context) -> None:
        """Settle what is open, once all before is done; then the session is over."""
        try:
            while not self._session.before_end:
                self._changed.clear()
                await self._changed.wait()
            settled = await self._settle(context) if context.caller.may("holds:write") else []
            kept = self.kept
            await asyncio.to_thread(
                self._services.stream_sessions.end,
                tenant=kept.tenant,
                session=kept.session,
                attachment=kept.attachment,
            )
        except LedgerError as error:
            self.close(Code.UNAVAILABLE, error.message)
            return
        ended = frames.encode(frames.Ended(for_=of.id, seq=of.seq, settled=settled))
        self._session.answer(of.seq, [ended])
        self._wake()

    async def _settle(self, context: Context) -> list[dict[str, str]]:
        """Settle the open holds of the session; return what became of them."""
        kept = self.kept
        holds = await asyncio.to_thread(
            self._services.stream_sessions.open_holds, tenant=kept.tenant, session=kept.session
        )
        settling = [self._submit(commands.settling(hold, context)) for hold in holds]
        outcomes = await asyncio.gather(*settling)
        return [
            {"hold": hold.id, "status": outcome.status}
            for hold, outcome in zip(holds, outcomes, strict=True)
        ]


class _TooBig(LedgerError):
    default_code = "message_too_large"


def _code_of(error: LedgerError) -> Code:
    if isinstance(error, _TooBig):
        return Code.TOO_BIG
    return Code.FORBIDDEN if isinstance(error, Forbidden) else Code.BROKEN


def _text_of(message: Mapping[str, Any]) -> str | bytes:
    text = message.get("text")
    if text is None:
        raise Broken("frames are text messages, not binary ones")
    return str(text)


def _check_bare(tree: Mapping[str, Any]) -> None:
    try:
        frames.read(tree, frames.Heartbeat)
    except InvalidInput as error:
        raise Broken(f"heartbeat: {error.message}") from None
