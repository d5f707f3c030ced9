"""Messages on a stream of bytes: a length of 4 bytes, big-endian, and the message."""

from __future__ import annotations

_HEAD = 4

GREETING = b""
"""What a host says first: it is there and takes commands."""


def frame(message: bytes) -> bytes:
    """Return a message with its length before it."""
    return len(message).to_bytes(_HEAD, "big") + message


class Frames:
    """Puts messages together again as their bytes come."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the messages that are whole by now."""
        held = self._bytes
        held += data
        messages = []
        at = 0
        while len(held) - at >= _HEAD:
            end = at + _HEAD + int.from_bytes(held[at : at + _HEAD], "big")
            if end > len(held):
                break
            messages.append(bytes(held[at + _HEAD : end]))
            at = end
        del held[:at]
        return messages
