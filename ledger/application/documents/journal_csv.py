"""The journal as CSV for programs that import journal entries: NetSuite and QuickBooks Online.

Both know few decimals, so bookings are rounded there, after those that are summed by day were
summed by month (`ledger.domain.journal.by_month`). One booking is one journal entry, and its
external id stays the same whenever the file is made again.

Columns and limits: docs/spec/journal.md, "What the vendors say". A text that begins like a formula
gets an apostrophe.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from ledger.application.documents.invoice_csv import safe_text
from ledger.domain.journal import (
    PROVIDER_PAYABLE,
    Booking,
    JournalLine,
    by_month,
    in_minor_units,
)
from ledger.domain.money import EXACT, minor_units

NETSUITE = (
    "External ID",
    "Date",
    "Currency",
    "Memo",
    "Account",
    "Debit",
    "Credit",
    "Name",
    "Line Memo",
)
QUICKBOOKS = (
    "JournalNo",
    "JournalDate",
    "AccountName",
    "Debits",
    "Credits",
    "Description",
    "Name",
    "Currency",
)

_NETSUITE_DECIMALS = 2
_MOST = Decimal(10) ** 10 - 1
"""Largest amount of a line: more digits before the decimals fit into no import."""


def netsuite(
    booked: Iterable[Booking], *, accounts: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield a file for NetSuite, head and entries; days are ISO 8601.

    Args:
        booked: of any tenants and currencies.
        accounts: names there by names here, or by the beginning of one up to a colon.
    """

    def row(one: Booking, line: JournalLine, name: str) -> Sequence[str]:
        debit, credit = _both(one, line, at_most=_NETSUITE_DECIMALS)
        memo = _memo(one)
        day = one.day.isoformat()
        whom = _whom(one, line)
        return (one.external_id, day, one.currency, memo, name, debit, credit, whom, memo)

    return _file(NETSUITE, booked, accounts or {}, row, at_most=_NETSUITE_DECIMALS)


def quickbooks(
    booked: Iterable[Booking], *, accounts: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Yield a file for QuickBooks Online, head and entries; days are MM/DD/YYYY.

    Args:
        booked: as of `netsuite`.
        accounts: likewise.
    """

    def row(one: Booking, line: JournalLine, name: str) -> Sequence[str]:
        debit, credit = _both(one, line)
        day = f"{one.day:%m/%d/%Y}"
        whom = _whom(one, line)
        return (one.external_id, day, name, debit, credit, _memo(one), whom, one.currency)

    return _file(QUICKBOOKS, booked, accounts or {}, row)


def _file(
    head: Sequence[str],
    booked: Iterable[Booking],
    accounts: Mapping[str, str],
    row: Callable[[Booking, JournalLine, str], Sequence[str]],
    *,
    at_most: int | None = None,
) -> Iterator[str]:
    yield _csv(head)
    for booking in by_month(booked):
        one = in_minor_units(booking, at_most=at_most)
        if one is None:
            continue
        yield "".join(
            _csv(row(one, part, _theirs(line.account, accounts)))
            for line in one.lines
            for part in _parts(line)
        )


def in_files(texts: Iterable[str], *, lines: int) -> Iterator[str]:
    """Yield files with the head of one, and so many lines at most; no entry is in two of them.

    Args:
        texts: as `netsuite` and `quickbooks` yield them: the head, then entries.
        lines: of a file, its head included; an entry that has more gets a file of its own.
    """
    head, *entries = texts
    made, count = [head], 1
    for entry in entries:
        own = sum(1 for _ in csv.reader(io.StringIO(entry, newline="")))
        if count + own > lines and count > 1:
            yield "".join(made)
            made, count = [head], 1
        made.append(entry)
        count += own
    yield "".join(made)


def _parts(line: JournalLine) -> Iterator[JournalLine]:
    """Yield a line in pieces of which each is small enough."""
    left = abs(line.amount)
    while left > _MOST:
        yield JournalLine(line.account, _MOST.copy_sign(line.amount))
        left = EXACT.subtract(left, _MOST)
    yield JournalLine(line.account, left.copy_sign(line.amount))


def _whom(booking: Booking, line: JournalLine) -> str:
    """Return whose a line is: the provider that is to be paid, else the tenant."""
    head, _, provider = line.account.rpartition(":")
    return provider if head == PROVIDER_PAYABLE else booking.tenant


def _theirs(name: str, accounts: Mapping[str, str]) -> str:
    """Return what an account is called there: the longest beginning that has a name."""
    words = name.split(":")
    for length in range(len(words), 0, -1):
        found = accounts.get(":".join(words[:length]))
        if found is not None:
            return found
    return name


def _both(booking: Booking, line: JournalLine, *, at_most: int = 4) -> tuple[str, str]:
    shown = f"{abs(line.amount):.{min(minor_units(booking.currency), at_most)}f}"
    return (shown, "") if line.amount > 0 else ("", shown)


def _memo(booking: Booking) -> str:
    return f"{booking.rule.value.replace('_', ' ')} {booking.reference}".strip()


def _csv(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([safe_text(cell) for cell in cells])
    return out.getvalue()
