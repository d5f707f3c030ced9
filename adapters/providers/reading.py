"""Read members of decoded provider responses, each failure with the JSON pointer of its field.

A member that is ``null`` is absent. Nothing here converts: a count is an integer (or an integral
`Decimal`), a duration a `Decimal` or an integer, and everything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import decimals_of

NO_USAGE = "no_usage_in_stream"
"""Flag of a stream that stated no usage: the caller's own counts are all there is."""

MAX_COUNT = 10**15
"""Largest count believed; anything above is a defect of the response."""

Response = Mapping[str, Any] | Sequence[Any]
"""A decoded response, or a stream's decoded events in order."""

_STANDARD_TIERS = frozenset({"", "default", "standard", "auto", "on_demand"})
_TOKEN_FIELD = re.compile(r"(?:_tokens|_token_count|Tokens|TokenCount)$")
_LATEST_SECOND = 253_402_300_799  # 9999-12-31, the last that datetime can hold


def reject(code: str, message: str, pointer: str) -> InvalidInput:
    """Return the error to raise for the field at ``pointer``."""
    return InvalidInput(f"{message} (at {pointer or 'the top'})", code=code, pointer=pointer)


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON object of a response and where it stands.

    Attributes:
        value: the object's members.
        pointer: JSON pointer (RFC 6901) to it; "" is the whole response.
    """

    value: Mapping[str, Any]
    pointer: str = ""

    def at(self, name: str | int) -> str:
        """Return the pointer to the member ``name``."""
        return f"{self.pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"

    def get(self, name: str) -> Any:
        """Return the member as it came; None where it is absent or null."""
        return self.value.get(name)

    def child(self, name: str) -> Node | None:
        """Return the member object.

        Raises:
            InvalidInput: ``unknown_response_shape`` if it is something else.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise reject("unknown_response_shape", f"{name} is not an object", self.at(name))
        return Node(value, self.at(name))

    def need(self, name: str) -> Node:
        """Return the member object that the response must have.

        Raises:
            InvalidInput: ``missing_usage`` if it is absent.
        """
        node = self.child(name)
        if node is None:
            raise reject("missing_usage", f"the response has no {name}", self.at(name))
        return node

    def items(self, name: str) -> Iterator[Node]:
        """Yield the objects of a member array; none where it is absent.

        Raises:
            InvalidInput: ``unknown_response_shape`` if it is not an array of objects.
        """
        value = self.get(name)
        if value is None:
            return
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise reject("unknown_response_shape", f"{name} is not an array", self.at(name))
        yield from nodes_of(value, self.at(name))

    def text(self, name: str) -> str:
        """Return the member string; "" where it is absent.

        Raises:
            InvalidInput: ``unknown_response_shape`` if it is not a string.
        """
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise reject("unknown_response_shape", f"{name} is not a string", self.at(name))
        return value

    def count(self, name: str) -> int | None:
        """Return the member count, 0 to 10^15; None where it is absent.

        Raises:
            InvalidInput: ``invalid_count``.
        """
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, Decimal) and value.is_finite() and not decimals_of(value):
            value = int(value) if abs(value) <= MAX_COUNT else MAX_COUNT + 1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
            raise reject(
                "invalid_count", f"{name} is not a whole number from 0 to 10^15", self.at(name)
            )
        return value

    def need_count(self, name: str) -> int:
        """Return the member count that the response must state.

        Raises:
            InvalidInput: ``missing_usage``, ``invalid_count``.
        """
        value = self.count(name)
        if value is None:
            raise reject("missing_usage", f"the response does not state {name}", self.at(name))
        return value

    def seconds(self, name: str) -> Decimal:
        """Return the member duration in seconds, at most 6 decimals.

        Raises:
            InvalidInput: ``missing_usage``, ``invalid_count``, ``too_precise``.
        """
        value = self.get(name)
        if value is None:
            raise reject("missing_usage", f"the response does not state {name}", self.at(name))
        if isinstance(value, int) and not isinstance(value, bool):
            value = Decimal(value)
        if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value <= MAX_COUNT:
            raise reject(
                "invalid_count",
                f"{name} is not a duration of 0 or more seconds, decoded as a decimal",
                self.at(name),
            )
        if decimals_of(value) > QUANTITY_DECIMALS:
            raise reject("too_precise", f"{name} has more than 6 decimals", self.at(name))
        return value

    def moment(self, name: str) -> datetime | None:
        """Return the member as UTC if it is a time in Unix seconds; None where it is not."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return None
        if isinstance(value, Decimal) and not value.is_finite():
            return None
        if not 0 < value <= _LATEST_SECOND:
            return None
        whole = int(value)
        microseconds = int((Decimal(value) - whole).scaleb(6))
        return datetime.fromtimestamp(whole, UTC).replace(microsecond=microseconds)


def nodes_of(values: Sequence[Any], pointer: str = "") -> list[Node]:
    """Return the objects of an array.

    Raises:
        InvalidInput: ``unknown_response_shape`` if one is not an object.
    """
    nodes = []
    for index, value in enumerate(values):
        where = f"{pointer}/{index}"
        if not isinstance(value, Mapping):
            raise reject("unknown_response_shape", "an element is not an object", where)
        nodes.append(Node(value, where))
    return nodes


def events_of(response: Response) -> list[Node] | None:
    """Return the events of a stream; None if ``response`` is one object."""
    return None if isinstance(response, Mapping) else nodes_of(response)


def whole_of(response: Response) -> Node:
    """Return a response that is one object.

    Raises:
        InvalidInput: ``unknown_response_shape`` for a list: this response is never streamed.
    """
    if isinstance(response, Mapping):
        return Node(response)
    raise reject("unknown_response_shape", "this response is one object, not a stream", "")


def leaves(counts: Mapping[str, int | Decimal | None]) -> dict[str, Decimal]:
    """Return the stated counts as quantities; what is None is left out, a stated 0 is kept."""
    return {name: Decimal(value) for name, value in counts.items() if value is not None}


def flagged(*groups: Sequence[str] | set[str] | frozenset[str]) -> tuple[str, ...]:
    """Return the flags of all groups, sorted, once each."""
    return tuple(sorted({flag for group in groups for flag in group}))


def tier_and_batch(value: str) -> tuple[str, bool]:
    """Return the service tier in our words ("" is the standard one) and whether it is batch."""
    tier = value.strip().lower()
    if tier == "batch":
        return "", True
    return ("" if tier in _STANDARD_TIERS else tier), False


def picked(node: Node, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the named members that are present, as they came."""
    return {name: node.value[name] for name in names if node.get(name) is not None}


def unknown_token_fields(usage: Node, known: frozenset[str], path: str = "") -> set[str]:
    """Return a flag for every non-zero token count in ``usage`` that no rule reads."""
    flags: set[str] = set()
    for name, value in usage.value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            flags |= unknown_token_fields(Node(value), known, here)
        elif (
            isinstance(value, int | Decimal)
            and not isinstance(value, bool)
            and value != 0
            and name not in known
            and _TOKEN_FIELD.search(name)
        ):
            flags.add(f"unknown_usage_field:{here}")
    return flags
