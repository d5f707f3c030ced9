"""The journal in plain text, for beancount and for hledger; amounts stand in full.

Both programs check that what they read balances. A booking's name and external id go with it, so
that making the journal again gives the same text. Forms: beancount's language syntax (v3) and
hledger's journal format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ledger.domain.journal import Booking
from ledger.domain.money import text

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What ends a description or a tag's value, or begins a comment, in hledger.
_MARKS = re.compile(r"[;|,\s]+")


def beancount(booked: Sequence[Booking]) -> Iterator[str]:
    """Yield a beancount file, line by line.

    Args:
        booked: in any order; of any tenants and currencies.
    """
    yield '; Made from the ledger; it can be made again.\noption "title" "Tallybook"\n'
    for currency in sorted({one.currency for one in booked}):
        yield f'option "operating_currency" "{currency}"\n'
    if booked:
        first = min(one.day for one in booked)
        for name in _accounts(booked):
            yield f"{first.isoformat()} open {beancount_account(name)}\n"
    for one in sorted(booked, key=_by_day):
        payee, said = _quoted(one.tenant), _quoted(_words(one))
        yield f"\n{one.day.isoformat()} * {payee} {said} ^{one.external_id}\n"
        yield f"  tenant: {payee}\n  name: {_quoted(one.name)}\n"
        for line in one.lines:
            yield f"  {beancount_account(line.account)}  {text(line.amount)} {one.currency}\n"


def hledger(booked: Sequence[Booking]) -> Iterator[str]:
    """Yield an hledger journal, line by line.

    Args:
        booked: as of `beancount`.
    """
    yield "; Made from the ledger; it can be made again.\ndecimal-mark .\n"
    for name in _accounts(booked):
        yield f"account {name}\n"
    for one in sorted(booked, key=_by_day):
        tenant, said = _plain(one.tenant), _plain(_words(one))
        yield f"\n{one.day.isoformat()} * ({one.external_id}) {tenant} | {said}\n"
        yield f"    ; tenant:{tenant}\n"
        for line in one.lines:
            yield f"    {line.account}  {text(line.amount)} {one.currency}\n"


def beancount_account(name: str) -> str:
    """Return an account as beancount spells it: Assets:Receivable:Unbilled."""
    return ":".join(
        "-".join(word[:1].upper() + word[1:] for word in part.split("-"))
        for part in name.split(":")
    )


def _by_day(booking: Booking) -> tuple[str, Booking]:
    return booking.day.isoformat(), booking


def _accounts(booked: Sequence[Booking]) -> list[str]:
    return sorted({line.account for one in booked for line in one.lines})


def _words(booking: Booking) -> str:
    return f"{booking.rule.value.replace('_', ' ')} {booking.reference}".strip()


def _quoted(value: str) -> str:
    shown = _CONTROLS.sub(" ", value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


def _plain(value: str) -> str:
    return _MARKS.sub(" ", _CONTROLS.sub(" ", value)).strip() or "-"
