"""The life of a sequencer's process: take what its clients send, commit it, answer.

One thread does everything. While a batch is committed the next one fills in the sockets' buffers.
A client that is gone has its commands committed all the same, as those of a caller who stops
waiting are.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from adapters.sequencing.frames import GREETING, Frames, frame
from ledger.application.command_wire import (
    Answered,
    Replied,
    decode_commands,
    decode_submissions,
    encode_outcomes,
    encode_replies,
    failure_of,
)
from ledger.application.sequencer import Sequencer
from ledger.application.submissions import Submission, take
from ledger.application.watching import BatchDone, Watch
from ledger.domain.commands import Outcome
from ledger.domain.errors import LedgerError

OpenSequencer = Callable[[Watch], AbstractContextManager[Sequencer]]
"""Opens a sequencer that tells a watch of its batches; can be sent to another process."""
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that whole groups of processes get, and that are not for a sequencer."""
_CHUNK = 1 << 18
_log = logging.getLogger(__name__)


class _Client:
    """A process that sends commands.

    Args:
        wire: to it.
    """

    __slots__ = ("frames", "out", "replies", "wire")

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.frames = Frames()
        self.out = bytearray(frame(GREETING))
        self.replies: list[Replied] = []


class _Asked:
    """One submission of a client: hears what became of it."""

    __slots__ = ("client", "error", "number", "outcomes")

    def __init__(self, client: _Client, number: int) -> None:
        self.client = client
        self.number = number
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def set_result(self, result: list[Outcome], /) -> None:
        self.outcomes = result

    def set_exception(self, error: BaseException, /) -> None:
        self.error = error


class Replies:
    """Puts what became of batches into words for the clients; the host's `Watch`."""

    def __init__(self) -> None:
        self._repeats = 0

    def origin(self) -> object:
        """Return nothing: the host says itself whose a submission is."""
        return None

    def done(self, batch: BatchDone) -> None:
        """Give each client its part of a batch."""
        parts: dict[_Client, list[Answered]] = {}
        for asked in batch.origins:
            if isinstance(asked, _Asked):
                answer = Answered(asked.number, encode_outcomes(asked.outcomes))
                parts.setdefault(asked.client, []).append(answer)
        for nth, (client, answers) in enumerate(parts.items()):
            repeats, self._repeats = self._repeats, 0
            client.replies.append(
                Replied(batch.size, nth > 0, batch.begun_s, batch.done_s, repeats, answers)
            )

    def unreadable(self, items: int) -> None:
        """Take no note: clients do."""

    def repeated(self) -> None:
        """Tell the next client that hears anything."""
        self._repeats += 1


class Host:
    """Commits what clients send.

    Args:
        sequencer: whose watch is ``replies``.
        replies: see there.
        listener: clients come here.
        orders: its end is the order to end, once no client is left.

    Attributes:
        last: no other process takes this one's place.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        replies: Replies,
        listener: socket.socket,
        orders: Connection,
    ) -> None:
        self._sequencer = sequencer
        self._replies = replies
        self._listener = listener
        self._orders = orders
        self._clients: set[_Client] = set()
        self._waiting: deque[Submission] = deque()
        self._selector = selectors.DefaultSelector()
        self.last = False

    def run(self) -> None:
        """Serve until the end."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._orders, selectors.EVENT_READ, self._stop)
        while self._clients or not self.last:
            for key, events in self._selector.select():
                if isinstance(key.data, _Client):
                    self._serve(key.data, events)
                else:
                    key.data()
            while self._waiting:
                self._commit(take(self._waiting))
        self._selector.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            wire, _ = self._listener.accept()
            wire.setblocking(False)
            client = _Client(wire)
            self._clients.add(client)
            self._selector.register(wire, selectors.EVENT_READ, client)
            self._send(client)

    def _stop(self) -> None:
        """Take the end of the orders: whoever looks after this process is done, or dead."""
        self.last = True
        self._selector.unregister(self._orders)

    def _serve(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(client)
        if events & selectors.EVENT_READ and client in self._clients:
            self._receive(client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.wire.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        prepare = self._sequencer.prepare
        for message in client.frames.feed(data):
            for submitted in decode_submissions(message):
                asked = _Asked(client, submitted.number)
                try:
                    prepared = [prepare(command) for command in decode_commands(submitted)]
                except Exception as error:
                    self._fail(asked, error)
                    continue
                self._waiting.append(Submission(prepared, asked, asked))

    def _commit(self, taken: Sequence[Submission]) -> None:
        self._sequencer.answer(taken)
        for one in taken:
            if isinstance(one.told, _Asked) and one.told.error is not None:
                self._fail(one.told, one.told.error)
        for client in list(self._clients):
            if client.replies:
                self._send(client)

    def _fail(self, asked: _Asked, error: BaseException) -> None:
        if not isinstance(error, LedgerError):
            _log.error("a batch failed: %s", error, exc_info=error)
        answer = Answered(asked.number, failure=failure_of(error))
        asked.client.replies.append(Replied(0, True, 0.0, 0.0, 0, [answer]))
        self._send(asked.client)

    def _send(self, client: _Client) -> None:
        """Send what there is, now or when the client takes it."""
        if client not in self._clients:
            client.replies.clear()
            return
        if client.replies:
            client.out += frame(encode_replies(client.replies))
            client.replies.clear()
        try:
            while client.out:
                del client.out[: client.wire.send(client.out)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.out else 0)
        if self._selector.get_key(client.wire).events != wanted:
            self._selector.modify(client.wire, wanted, client)

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.wire)
        client.wire.close()


def live(
    open_sequencer: OpenSequencer,
    prepare: Callable[[], None],
    listener: socket.socket,
    orders: Connection,
) -> None:
    """Be the sequencer's process: the whole life of it.

    It ends when whoever looks after it says so or is gone. Signals that end a whole group of
    processes are for that one: it still has requests in flight, which want to be answered.
    """
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Whoever started it has let them wait.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)
    prepare()
    replies = Replies()
    try:
        with open_sequencer(replies) as sequencer:
            host = Host(sequencer, replies, listener, orders)
            _log.info("process %d commits", os.getpid())
            host.run()
            if host.last:
                # Whoever made the socket may be dead.
                path = Path(listener.getsockname())
                with suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()
    except Exception as error:
        # An error of the ledger's, such as a database that is away, says all there is to say.
        trace = None if isinstance(error, LedgerError) else error
        _log.error("the sequencer's process cannot go on: %s", error, exc_info=trace)
        os._exit(1)
