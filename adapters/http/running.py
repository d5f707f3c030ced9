"""Running a server: in this process, or in several that this one looks after."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from adapters.http import listening
from adapters.http.server import OpenApp, ServerSettings, obey_signals, serve
from adapters.http.supervisor import Prepare, Supervisor


@contextlib.contextmanager
def bound(settings: ServerSettings, *, say: Callable[[str], None]) -> Iterator[list[socket.socket]]:
    """Bind the sockets, which nobody can connect to before `run`; close them in the end.

    Args:
        settings: host and port.
        say: takes a warning for people.

    Raises:
        CannotListen: ``port_in_use``, ``cannot_listen``.
        InvalidInput: ``invalid_host``, ``invalid_port``.
    """
    sockets = listening.bind(settings.host, settings.port)
    try:
        if not listening.is_local(sockets):
            say(
                f"warning: whoever reaches {settings.host} can try keys, and what is sent is not "
                "encrypted: put a proxy with TLS before it (docs/runbooks/server.md)"
            )
        yield sockets
    finally:
        listening.close(sockets)


def run(
    sockets: Sequence[socket.socket],
    settings: ServerSettings,
    *,
    open_app: OpenApp,
    prepare: Prepare,
    beside: Callable[[], AbstractContextManager[None]],
    ready: Callable[[], None],
    on_death: Callable[[int], None],
) -> bool:
    """Serve until a signal ends it; return whether everything in flight was answered.

    Args:
        sockets: of `bound`.
        settings: how.
        open_app: opens what a process serves; for workers it is sent to them.
        prepare: called first in each worker.
        beside: opened in the supervisor, where there is one, once the workers answer.
        ready: called once requests are answered.
        on_death: called with the slot of a worker that is gone.

    Raises:
        CannotListen: somebody else took the port meanwhile.
        WorkersFailed: they do not come up.
    """
    listening.listen(sockets)
    if settings.workers == 1:
        return serve(open_app, settings, sockets, on_ready=ready, orders=obey_signals)
    with contextlib.ExitStack() as stack:

        def all_ready() -> None:
            ready()
            stack.enter_context(beside())

        return Supervisor(
            open_app, prepare, settings, sockets, on_ready=all_ready, on_death=on_death
        ).run()
