"""Days and instants in query parameters."""

from __future__ import annotations

from datetime import date

from ledger.application import ask_fields as fields
from ledger.domain.errors import InvalidInput


def instant(given: str | None, name: str) -> int | None:
    """Return an instant as microseconds since the epoch; a day is its start in UTC.

    Raises:
        InvalidInput: ``invalid_<name>``.
    """
    if given is None:
        return None
    if len(given) == 10:
        return fields.instant(f"{given}T00:00:00Z", f"/{name}")
    return fields.instant(given, f"/{name}")


def day(given: str | None, name: str) -> date | None:
    """Return a day as it is written, YYYY-MM-DD.

    Raises:
        InvalidInput: ``invalid_<name>``.
    """
    if given is None:
        return None
    try:
        if len(given) == 10:
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise InvalidInput(
        f"{name} {given[:40]!r} is no day; give one as 2026-11-01",
        code=f"invalid_{name}",
        pointer=f"/{name}",
    )
