"""A case's parameters, each of which has to be read: none is ignored in silence."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any


class CaseError(Exception):
    """A case cannot be read; the message says why."""


def number(value: Any, name: str) -> Decimal:
    """Return a number written as text or as a JSON number, exactly as it stands there."""
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            parsed = Decimal(value)
        except InvalidOperation:
            parsed = Decimal("NaN")
        if parsed.is_finite():
            return parsed
    raise CaseError(f"{name} is {value!r}; a number as text would be right")


class Params:
    """The members of an object of the file; remembers which were read."""

    def __init__(self, members: Any, name: str) -> None:
        if not isinstance(members, Mapping):
            raise CaseError(f"{name} is {members!r}; an object would be right")
        self._members = members
        self._name = name
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether a member is there and not null."""
        return self._members.get(name) is not None

    def raw(self, name: str) -> Any:
        """Return a member as it is, None if it is null or not there."""
        self._read.add(name)
        return self._members.get(name)

    def number(self, *names: str) -> Decimal | None:
        """Return the first of these members that is there and not null."""
        found = None
        for name in names:
            value = self.raw(name)
            if value is not None and found is None:
                found = number(value, f"{self._name}.{name}")
        return found

    def needed(self, name: str) -> Decimal:
        """Return a number that has to be there."""
        found = self.number(name)
        if found is None:
            raise CaseError(f"{self._name} has no {name}")
        return found

    def whole(self, name: str) -> int | None:
        """Return a whole number."""
        found = self.number(name)
        if found is not None and found != int(found):
            raise CaseError(f"{self._name}.{name} is {found}; a whole number would be right")
        return None if found is None else int(found)

    def choice(self, name: str, known: Mapping[Any, Any], default: Any) -> Any:
        """Return what a word means."""
        word = self.raw(name)
        if word is None:
            return default
        if not isinstance(word, str | bool) or word not in known:
            raise CaseError(
                f"{self._name}.{name} is {word!r}; known are {', '.join(map(str, known))}"
            )
        return known[word]

    def objects(self, name: str) -> list[Params]:
        """Return a list of objects."""
        found = self.raw(name)
        if not isinstance(found, list):
            raise CaseError(f"{self._name}.{name} is {found!r}; a list would be right")
        return [Params(item, f"{self._name}.{name}[{index}]") for index, item in enumerate(found)]

    def check_all_read(self) -> None:
        """Check that nothing was left out.

        Raises:
            CaseError: if a member that says something was never read.
        """
        left = [
            name
            for name, value in self._members.items()
            if name not in self._read and value is not None
        ]
        if left:
            raise CaseError(f"{self._name} has what this kind of case does not know: {left}")
