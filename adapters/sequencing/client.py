"""A queue of commands whose sequencer is another process.

What was sent and not answered when a host dies is sent again to the next one, so a death costs its
callers a wait and nothing else: idempotency keys turn what did commit into ``duplicate`` with the
original receipt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import Any

from adapters.sequencing.frames import Frames, frame
from ledger.application.command_wire import (
    Replied,
    Submitted,
    decode_outcomes,
    decode_replies,
    encode_commands,
    encode_submissions,
    error_of,
)
from ledger.application.ports import ConnectionLost
from ledger.application.sequencer import SequencerClosed
from ledger.application.submissions import check_size
from ledger.application.watching import BatchDone, Unwatched, Watch
from ledger.application.workingset import Prepared
from ledger.domain.commands import Command, Outcome, tenant_of
from ledger.domain.errors import Unavailable

START_TIMEOUT_S = 60.0
"""How long the first host may take until it is there."""
GREETING_TIMEOUT_S = 5.0
"""How long a host may take to say that it is there, before it is tried again."""
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0)
"""Waits between attempts to reach a host; the last one repeats."""
PATIENCE_S = 25.0
"""How long callers wait for the next host before they are told that there is none."""
MAX_SENDS = 4
"""How often commands are sent whose host dies under them: they may be what kills it."""
LAST_ANSWERS_S = 5.0
"""How long the end waits for what is not answered yet."""

_log = logging.getLogger(__name__)


class _Sent:
    """A submission, until it is answered."""

    __slots__ = ("commands", "message", "origin", "queued_s", "sends", "told")

    def __init__(
        self,
        message: Submitted,
        commands: Sequence[Prepared],
        told: asyncio.Future[list[Outcome]] | Future[list[Outcome]],
        origin: object,
    ) -> None:
        self.message = message
        self.commands = commands
        self.told = told
        self.origin = origin
        self.queued_s = time.monotonic()
        self.sends = 0

    def answer(self, outcomes: list[Outcome]) -> None:
        # A caller who is gone is passed over.
        if not self.told.done():
            with suppress(InvalidStateError):
                self.told.set_result(outcomes)

    def fail(self, error: Exception) -> None:
        if not self.told.done():
            with suppress(InvalidStateError):
                self.told.set_exception(error)


class _Link(asyncio.Protocol):
    """A connection to a host."""

    def __init__(self, queue: RemoteSequencer) -> None:
        self._queue = queue
        self._frames = Frames()
        self.transport: asyncio.Transport
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a stream's

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            if message:
                self._queue.hear(decode_replies(message))
            elif not self.greeted.done():
                self.greeted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError("the host is gone"))
            self.greeted.exception()
        self._queue.lost(self)


class RemoteSequencer:
    """Queues commands for the sequencer of another process; a `LedgerQueue`.

    It works on an event loop, `running`; meanwhile callers may be on any thread and any loop.

    Args:
        path: of the host's socket.
        watch: told of what was committed for this process.
        patience_s: how long callers wait for the next host before they are told.

    Attributes:
        watch: the same.
        deciding: nobody decides here, so nobody has to wait.
    """

    def __init__(
        self,
        path: str,
        *,
        watch: Watch | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.watch = watch or Unwatched()
        self.deciding = nullcontext()
        self._path = path
        self._patience_s = patience_s
        self._numbers = count()
        self._sent: dict[int, _Sent] = {}
        self._out: list[_Sent] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: _Link | None = None
        self._reaching: asyncio.Task[None] | None = None
        self._down = False
        self._answered = asyncio.Event()

    # -- the callers' side ------------------------------------------------------------

    def prepare(self, command: Command) -> Prepared:
        """Return the command as it is: the host rates it."""
        return Prepared(tenant_of(command), command)

    def submit(self, commands: Sequence[Prepared]) -> Future[list[Outcome]]:
        """Queue commands; the future answers after their commit, one outcome a command.

        Raises:
            InvalidInput: ``too_many_commands`` above 10,000 in one submission.
            SequencerClosed: it does not run.
        """
        future: Future[list[Outcome]] = Future()
        if not commands:
            future.set_result([])
            return future
        sent = self._submission(commands, future)
        loop = self._loop
        if loop is None:
            raise _closed()
        try:
            loop.call_soon_threadsafe(self._queue, sent)
        except RuntimeError:
            raise _closed() from None
        return future

    async def submit_async(self, commands: Sequence[Prepared]) -> list[Outcome]:
        """Queue commands and wait for their commit without blocking the event loop.

        A caller that is cancelled stops waiting; its commands may still be committed.
        """
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            return await asyncio.wrap_future(self.submit(commands))
        told: asyncio.Future[list[Outcome]] = loop.create_future()
        self._queue(self._submission(commands, told))
        return await told

    @property
    def reachable(self) -> bool:
        """Return whether there is a host."""
        return self._link is not None

    def close(self) -> None:
        """Do nothing: leaving `running` is the end."""

    def _submission(
        self,
        commands: Sequence[Prepared],
        told: asyncio.Future[list[Outcome]] | Future[list[Outcome]],
    ) -> _Sent:
        check_size(commands)
        kinds, forms = encode_commands([one.command for one in commands])
        message = Submitted(next(self._numbers), kinds, forms)
        return _Sent(message, commands, told, self.watch.origin())

    # -- on the loop ------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reach the host, and queue commands until this is left, which answers what waits.

        Raises:
            Unavailable: ``sequencer_unreachable`` if there is no host within a minute.
        """
        loop = asyncio.get_running_loop()
        self._reach()
        if self._reaching is None or not await _within(self._reaching, START_TIMEOUT_S):
            await self._stop()
            raise Unavailable(
                f"the sequencer's process has not come up in {START_TIMEOUT_S:g} s; its log lines"
                " above say why",
                code="sequencer_unreachable",
            )
        self._loop = loop
        try:
            yield
        finally:
            # What threads had queued by now comes first.
            await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWERS_S):
                    while self._sent:
                        self._answered.clear()
                        await self._answered.wait()
            self._loop = None
            await self._stop()

    async def _stop(self) -> None:
        reaching, self._reaching = self._reaching, None
        if reaching is not None:
            reaching.cancel()
            await asyncio.wait([reaching])
        link, self._link = self._link, None
        if link is not None:
            link.transport.close()
        self._fail(list(self._sent.values()), "the server has ended")

    def _queue(self, sent: _Sent) -> None:
        if self._loop is None:
            sent.fail(_closed())
            return
        self._sent[sent.message.number] = sent
        self._out.append(sent)
        # All that is queued in one turn of the loop is one message.
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._link is not None:
            self._send(self._link, out)
        elif self._down:
            self._fail(out, "the sequencer's process cannot be reached")

    def _send(self, link: _Link, out: Sequence[_Sent]) -> None:
        for one in out:
            one.sends += 1
        link.transport.write(frame(encode_submissions([one.message for one in out])))

    def hear(self, replies: Iterable[Replied]) -> None:
        """Take what became of batches."""
        for reply in replies:
            for _ in range(reply.repeats):
                self.watch.repeated()
            done: list[_Sent] = []
            outcomes: list[Outcome] = []
            for answered in reply.answers:
                sent = self._sent.get(answered.number)
                if sent is None:
                    # Sent again, and both were answered.
                    continue
                # Who is answered is forgotten after that: what cannot be read ends the link.
                if answered.failure is not None:
                    sent.fail(error_of(answered.failure))
                    del self._sent[answered.number]
                    continue
                found = decode_outcomes(answered)
                sent.answer(found)
                del self._sent[answered.number]
                done.append(sent)
                outcomes += found
            if done:
                self.watch.done(
                    BatchDone(
                        [prepared for one in done for prepared in one.commands],
                        outcomes,
                        [one.origin for one in done],
                        queued_s=min(one.queued_s for one in done),
                        begun_s=reply.begun_s,
                        done_s=reply.done_s,
                        size=reply.size,
                        counted=reply.counted,
                    )
                )
        if not self._sent:
            self._answered.set()

    # -- the host comes and goes ------------------------------------------------------

    def lost(self, link: _Link) -> None:
        """Take note that a connection ended: look for the next host."""
        if link is self._link:
            self._link = None
            if self._sent:
                _log.info("%d submissions wait for the next sequencer", len(self._sent))
            self._reach()

    def _reach(self) -> None:
        self._reaching = asyncio.get_running_loop().create_task(self._find_host())

    async def _find_host(self) -> None:
        """Connect to a host, however long it takes; meanwhile callers are told after a while."""
        # By the clock, for a socket that nobody accepts from takes connections all the same.
        giving_up = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)
        try:
            tried = 0
            while (link := await self._greeted()) is None:
                await asyncio.sleep(RETRY_DELAYS_S[min(tried, len(RETRY_DELAYS_S) - 1)])
                tried += 1
        finally:
            giving_up.cancel()
        self._down = False
        self._link = link
        given_up = [one for one in self._sent.values() if one.sends >= MAX_SENDS]
        self._fail(given_up, "the sequencer's process died under this several times")
        waiting = set(map(id, self._out))
        again = [one for one in self._sent.values() if id(one) not in waiting]
        if again:
            self.watch.repeated()
            self._send(link, again)

    def _give_up(self) -> None:
        self._down = True
        self._fail(list(self._sent.values()), "the sequencer's process cannot be reached")

    async def _greeted(self) -> _Link | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                transport, link = await loop.create_unix_connection(lambda: _Link(self), self._path)
                try:
                    await link.greeted
                except BaseException:
                    transport.abort()
                    raise
        except (OSError, TimeoutError):
            return None
        # A host that is gone since its greeting was missed by `lost`: this was no link of ours yet.
        return None if transport.is_closing() else link

    def _fail(self, some: Sequence[_Sent], why: str) -> None:
        for one in some:
            self._sent.pop(one.message.number, None)
            one.fail(
                ConnectionLost(
                    f"{why}; whether this was recorded is not known: send it again",
                    code="sequencer_unreachable",
                )
            )
        if not self._sent:
            self._answered.set()


async def _within(task: asyncio.Task[Any], seconds: float) -> bool:
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)


def _closed() -> SequencerClosed:
    return SequencerClosed("the ledger is closed; open it again")
