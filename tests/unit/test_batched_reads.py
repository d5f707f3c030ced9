"""Reading for many askers at once: each answer is of after its question."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import pytest

from ledger.application.batched import BatchedReads
from ledger.domain.errors import InvariantViolation, NotFound, Unavailable


class Store:
    """Counts its reads, and waits before each until it is let go on."""

    def __init__(self) -> None:
        self.value = 0
        self.reads: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def read(self, names: Sequence[str]) -> Mapping[str, int]:
        """Return the value for every name but ``nobody``."""
        value = self.value
        self.reads.append(sorted(names))
        self.begun.release()
        self.go_on.acquire()
        return {name: value for name in names if name != "nobody"}


async def begun(store: Store) -> None:
    """Wait until a read has begun."""
    await asyncio.to_thread(store.begun.acquire)


def test_askers_who_come_during_a_read_are_in_the_next_one() -> None:
    """One that is under way may have looked before they asked."""
    store = Store()
    batched = BatchedReads(store.read, name="test")

    async def ask() -> list[int | None]:
        first = asyncio.ensure_future(batched.ask("a"))
        await begun(store)
        store.value = 1
        later = [asyncio.ensure_future(batched.ask(name)) for name in ("a", "b", "a", "nobody")]
        await asyncio.sleep(0)
        store.go_on.release(2)
        return [await first, *[await one for one in later]]

    assert asyncio.run(ask()) == [0, 1, 1, 1, None]
    assert store.reads == [["a"], ["a", "b", "nobody"]]
    batched.close()


def test_a_failed_read_fails_its_own_askers_and_no_others() -> None:
    """The next batch is read as if nothing had happened; each gets an error of its own."""
    failures: list[Exception] = [NotFound("gone", code="gone"), ValueError("secret")]
    failures.append(InvariantViolation("broken"))

    def read(names: Sequence[str]) -> Mapping[str, int]:
        if failures:
            raise failures.pop(0)
        return dict.fromkeys(names, 7)

    batched = BatchedReads(read, name="test")

    async def ask() -> list[object]:
        two = await asyncio.gather(batched.ask("a"), batched.ask("a"), return_exceptions=True)
        for _ in range(2):
            two += await asyncio.gather(batched.ask("a"), return_exceptions=True)
        return [*two, await batched.ask("a")]

    first, second, hidden, broken, answer = asyncio.run(ask())
    assert isinstance(first, Unavailable)
    assert (first.code, first is second) == ("gone", False)
    assert "secret" not in str(hidden)
    assert isinstance(broken, InvariantViolation)
    assert answer == 7
    batched.close()


def test_an_asker_who_gives_up_takes_nobody_along() -> None:
    """The others of the batch are answered."""
    store = Store()
    batched = BatchedReads(store.read, name="test")

    async def ask() -> int | None:
        gone = asyncio.ensure_future(batched.ask("a"))
        stays = asyncio.ensure_future(batched.ask("a"))
        await begun(store)
        gone.cancel()
        store.go_on.release()
        return await stays

    assert asyncio.run(ask()) == 0
    batched.close()


def test_after_closing_nothing_is_read() -> None:
    """The answer says that the ledger is closed."""
    batched = BatchedReads(lambda names: dict.fromkeys(names, 1), name="test")
    assert asyncio.run(batched.ask("a")) == 1
    batched.close()
    with pytest.raises(Unavailable, match="closed"):
        asyncio.run(batched.ask("a"))
