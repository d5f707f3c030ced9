"""Listening sockets: bound once, shared by all workers, closed without cutting anybody off."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import select
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from ledger.domain.errors import InvalidInput, Unavailable

BACKLOG = 2048
"""Connections that may wait to be accepted."""
_SO_ATTACH_FILTER = 26
# One instruction of a classic BPF program: return 0, which drops the packet.
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)


class CannotListen(Unavailable):
    """The address cannot be listened on: ``port_in_use`` or ``cannot_listen``."""

    default_code = "cannot_listen"


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to all addresses of a host, not listening yet.

    Args:
        host: name or address.
        port: 0 takes a free one, the same for all addresses.

    Raises:
        CannotListen: ``port_in_use`` or ``cannot_listen``.
        InvalidInput: ``invalid_host`` if it has no address, ``invalid_port``.
    """
    if not 0 <= port <= 65535:
        raise InvalidInput("a port is a number from 0 to 65535", code="invalid_port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidInput(f"{host!r} is no address: {error}", code="invalid_host") from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, place in dict.fromkeys((one[0], one[4]) for one in found):
        try:
            sockets.append(_bound(family, (place[0], port, *place[2:])))
        except OSError as error:
            # `localhost` may stand for ::1 too where there is no IPv6.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                absent = error
                continue
            close(sockets)
            raise _refusal(error, host, port) from None
        port = sockets[-1].getsockname()[1]
    if absent is not None and not sockets:
        raise _refusal(absent, host, port)
    return sockets


def _bound(family: int, place: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def listen(sockets: Sequence[socket.socket]) -> None:
    """Let bound sockets take connections.

    Raises:
        CannotListen: somebody else listens there by now.
    """
    for one in sockets:
        host, port = one.getsockname()[:2]
        try:
            one.listen(BACKLOG)
        except OSError as error:
            raise _refusal(error, host, port) from None


def close(sockets: Sequence[socket.socket]) -> None:
    """Close this process's hold on sockets."""
    for one in sockets:
        one.close()


def turn_away(sockets: Sequence[socket.socket]) -> None:
    """Let no new connection come into being; those that wait to be accepted still do.

    To close a listening socket cuts off whoever is connected and not accepted yet. So the kernel
    is told to ignore packets to it first, then the waiting ones are accepted, then it is closed;
    who tries meanwhile tries again and is refused. Where the kernel cannot be told (not Linux), a
    connection that comes in the microseconds before the close is cut off.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("@HP", 1, ctypes.addressof(code))
    for one in sockets:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def has_waiting(sockets: Sequence[socket.socket]) -> bool:
    """Return whether a connection waits to be accepted."""
    watch = select.poll()
    for one in sockets:
        if one.fileno() >= 0:
            watch.register(one, select.POLLIN)
    return bool(watch.poll(0))


def is_local(sockets: Sequence[socket.socket]) -> bool:
    """Return whether only this machine can reach the sockets."""
    return all(
        ipaddress.ip_address(one.getsockname()[0].split("%")[0]).is_loopback for one in sockets
    )


def url_of(sockets: Sequence[socket.socket]) -> str:
    """Return the address for people."""
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(error: OSError, host: str, port: int) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(
            f"port {port} of {host} is in use; stop who uses it, or give another --port (0 takes "
            "a free one)",
            code="port_in_use",
        )
    return CannotListen(f"cannot listen on {host}, port {port}: {error.strerror}")
