"""A bound on requests that read whole logs: few at once, the others are told to come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from adapters.http.problems import HttpProblem


class Few:
    """Lets few requests at once into what takes long.

    Args:
        most: at once, of one process.
    """

    def __init__(self, most: int) -> None:
        self._free = BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count as one of them.

        Raises:
            HttpProblem: ``server_busy`` where there are as many already.
        """
        if not self._free.acquire(blocking=False):
            raise HttpProblem(
                "as many requests read whole logs as the process takes; try again",
                code="server_busy",
            )
        try:
            yield
        finally:
            self._free.release()
