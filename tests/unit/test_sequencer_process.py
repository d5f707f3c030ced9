"""A sequencer's process is kept going: its socket is there, and another one takes its place."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from fakes.server_process import wait_until

from adapters.sequencing import place, process
from adapters.sequencing.place import TOUCH_EVERY_S, NoPlace, Place
from adapters.sequencing.process import SequencerProcess


class _Process:
    """A process that ends when it is told."""

    pid = 1

    def __init__(self) -> None:
        self.sentinel, self._life = os.pipe()
        self.exitcode: int | None = None

    def kill(self) -> None:
        """End."""
        if self.exitcode is None:
            self.exitcode = -9
            os.close(self._life)

    def join(self, timeout_s: float | None = None) -> None:
        """Be asked to end, or be gone."""
        if timeout_s is not None:
            self.kill()
        os.close(self.sentinel)


class _Kept(SequencerProcess):
    """Starts processes that are none.

    Args:
        failing: how many starts after the first one fail.
    """

    def __init__(self, *, failing: int = 0) -> None:
        super().__init__(cast(Any, None), lambda: None)
        self.started: list[_Process] = []
        self._failing = failing

    def _start(self) -> None:
        if self.started and self._failing:
            self._failing -= 1
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if not self._place.keep():
            self._place.renew()
        _, self._orders = process._spawn.Pipe(duplex=False)
        self.started.append(_Process())
        self._process = cast(Any, self.started[-1])
        self._started_s = 0.0


@pytest.fixture
def made() -> Iterator[Place]:
    """Give a place."""
    it = Place()
    yield it
    it.close()


@contextmanager
def temporary(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Let temporary files go elsewhere."""
    with monkeypatch.context() as changed:
        changed.setattr(tempfile, "tempdir", str(folder))
        yield


def reach(path: str) -> None:
    """Connect to a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_is_made_where_the_temporary_directory_allows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is too long for a socket, or nobody's, is no reason not to start."""
    long = tmp_path / ("l" * 110)
    long.mkdir()
    for folder in (long, tmp_path / "missing"):
        with temporary(monkeypatch, folder):
            found = Place()
        reach(found.path)
        assert Path(found.path).parent.stat().st_mode & 0o777 == 0o700
        found.close()
        assert not Path(found.path).parent.exists()
    assert list(long.iterdir()) == []
    monkeypatch.setattr(place, "_OTHER_PARENTS", ())
    with temporary(monkeypatch, long), pytest.raises(NoPlace, match="too long") as none:
        Place()
    assert none.value.code == "socket_unavailable"
    assert list(long.iterdir()) == []


def test_a_socket_that_was_removed_is_made_again_under_its_name(made: Place) -> None:
    """With its directory, or alone."""
    folder = Path(made.path).parent
    for alone in (True, False):
        assert made.keep()
        if alone:
            Path(made.path).unlink()
        else:
            shutil.rmtree(folder)
        assert not made.keep()
        made.renew()
        assert made.keep()
        reach(made.path)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_is_in_use_does_not_look_forgotten(made: Place) -> None:
    """Directory and socket are touched when they are old."""
    both = [Path(made.path), Path(made.path).parent]
    old = both[0].stat().st_mtime - 2 * TOUCH_EVERY_S
    for one in both:
        os.utime(one, (old, old))
    assert made.keep()
    assert all(one.stat().st_mtime > old + TOUCH_EVERY_S for one in both)


def test_a_process_whose_socket_was_removed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could reach it again; its successor is where it was."""
    monkeypatch.setattr(process, "LOOK_EVERY_S", 0.01)
    with _Kept() as kept:
        Path(kept.path).unlink()
        wait_until(lambda: len(kept.started) == 2)
        assert kept.started[0].exitcode == -9
        assert kept.started[1].exitcode is None
        reach(kept.path)


def test_a_process_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine may have no room for one at the moment."""
    monkeypatch.setattr(process, "RESTART_DELAYS_S", (0.0,))
    with _Kept(failing=2) as kept:
        kept.started[0].kill()
        wait_until(lambda: len(kept.started) == 2)
        assert caplog.text.count("another sequencer cannot be started") == 2


def test_signals_of_a_terminal_wait_while_a_process_starts() -> None:
    """They would end it before it can say that they are not for it; afterwards all is as before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with process._end_signals_wait():
        waiting = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert waiting >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
