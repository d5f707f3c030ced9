"""Model names: which priced model the name in a provider's response means.

A name that is itself a priced model means that model. Otherwise the clauses of the price
sources decide, in their order; the first that holds wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ledger.domain.errors import InvalidInput
from ledger.domain.prices import ModelMatch

_MEMO_LIMIT = 100_000
_MAX_DEPTH = 16


class ModelNames:
    """Resolves model names.

    Args:
        matches: clauses in order of precedence.
        known: ``(provider, model)`` pairs that have prices.
    """

    def __init__(
        self, matches: Iterable[ModelMatch], *, known: Collection[tuple[str, str]]
    ) -> None:
        self._known = known
        self._clauses: dict[str, list[ModelMatch]] = {}
        for match in matches:
            self._clauses.setdefault(match.provider, []).append(match)
        self._memo: dict[tuple[str, str], str] = {}

    def resolve(self, provider: str, model: str) -> str:
        """Return the priced model that ``model`` means, or ``model`` itself if none does."""
        place = (provider, model)
        found = self._memo.get(place)
        if found is None:
            found = self._search(provider, model)
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[place] = found
        return found

    def _search(self, provider: str, model: str) -> str:
        if (provider, model) in self._known:
            return model
        for match in self._clauses.get(provider, ()):
            if (provider, match.model) in self._known and holds(match.clause, model):
                return match.model
        return model


def holds(clause: Mapping[str, Any], name: str) -> bool:
    """Tell whether a clause (see `ModelMatch`) holds for a model name; case is ignored.

    Raises:
        InvalidInput: ``invalid_match`` for a clause of no known form.
    """
    return _holds(clause, name.lower(), 0)


def _holds(clause: Mapping[str, Any], name: str, depth: int) -> bool:
    if len(clause) != 1 or depth > _MAX_DEPTH:
        raise InvalidInput("a match clause has one member", code="invalid_match")
    [(kind, value)] = clause.items()
    if kind in ("or", "and"):
        parts = (_holds(part, name, depth + 1) for part in value)
        return any(parts) if kind == "or" else all(parts)
    if kind == "regex":
        return re.search(value, name, re.IGNORECASE) is not None
    test = _TESTS.get(kind)
    if test is None:
        raise InvalidInput(f"there is no match clause {kind!r}", code="invalid_match")
    return test(name, value.lower())


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda name, value: name == value,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda name, value: value in name,
}
