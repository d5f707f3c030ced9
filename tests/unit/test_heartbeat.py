"""Heartbeats: silence is held against a worker only while somebody listens."""

from __future__ import annotations

import asyncio
import multiprocessing

from adapters.http import heartbeat
from adapters.http.heartbeat import BEAT, Pulse


def test_a_silence_is_too_long_past_the_limit_and_a_beat_ends_it() -> None:
    """It begins anew with each beat."""
    pulse = Pulse(3.0)
    assert [pulse.pass_by(1.0) for _ in range(4)] == [False, False, False, True]
    pulse.beat()
    assert not pulse.pass_by(1.0)


def test_time_in_which_nobody_listened_is_not_held_against_a_worker() -> None:
    """After a suspended machine goes on, all of them have been silent for hours."""
    pulse = Pulse(3.0)
    assert not pulse.pass_by(3600.0)
    pulse.beat()
    assert not pulse.pass_by(1.0)


def test_an_event_loop_does_not_wait_for_a_supervisor_that_does_not_listen() -> None:
    """It drops beats that the pipe has no room for, and what there is can be read."""
    theirs, ours = multiprocessing.Pipe()

    class Loop(asyncio.SelectorEventLoop):
        def call_later(self, delay, callback, *args, context=None):  # type: ignore[no-untyped-def] # as its base
            # So many beats at once that the pipe is full long before the last of them.
            if self.beats < 100_000:
                self.beats += 1
                self.call_soon(callback)

        beats = 0

    loop = Loop()

    async def run() -> None:
        heartbeat.begin(ours, loop)
        while loop.beats < 100_000:
            await asyncio.sleep(0)

    try:
        loop.run_until_complete(run())
        assert theirs.recv_bytes() == BEAT
    finally:
        loop.close()
        theirs.close()
        ours.close()
