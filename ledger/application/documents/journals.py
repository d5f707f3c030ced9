"""The journal as documents: bookings, the trial balance, and the forms of an export.

Amounts in JSON are text, in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from ledger.application.documents.encoding import plain_json
from ledger.application.documents.journal_csv import in_files, netsuite, quickbooks
from ledger.application.documents.journal_text import beancount, hledger
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import AccountBalance, Booking
from ledger.domain.money import text


def bookings_document(bookings: Iterable[Booking]) -> dict[str, Any]:
    """Return bookings; a debit is above zero, a credit below."""
    return {
        "bookings": [
            {
                "id": one.external_id,
                "name": one.name,
                "tenant": one.tenant,
                "currency": one.currency,
                "day": one.day.isoformat(),
                "rule": one.rule.value,
                "reference": one.reference,
                "lines": [
                    {"account": line.account, "amount": text(line.amount)} for line in one.lines
                ],
            }
            for one in bookings
        ]
    }


def trial_balance_document(rows: Sequence[AccountBalance]) -> dict[str, Any]:
    """Return a trial balance."""
    return {
        "accounts": [
            {
                "account": one.account,
                "currency": one.currency,
                "debits": text(one.debits),
                "credits": text(one.credits),
                "balance": text(one.balance),
            }
            for one in rows
        ]
    }


class JournalForm(StrEnum):
    """Who is to read an export."""

    JSON = "json"
    BEANCOUNT = "beancount"
    HLEDGER = "hledger"
    NETSUITE = "netsuite"
    QUICKBOOKS = "quickbooks"

    @property
    def media_type(self) -> str:
        """Return the media type of its files."""
        if self is JournalForm.JSON:
            return "application/json"
        return f"text/{'csv' if self.is_rows else 'plain'}; charset=utf-8"

    @property
    def is_rows(self) -> bool:
        """Whether it is CSV."""
        return self in (JournalForm.NETSUITE, JournalForm.QUICKBOOKS)


def export_files(
    form: JournalForm, booked: Sequence[Booking], *, accounts: Mapping[str, str], lines: int
) -> Iterator[bytes]:
    """Yield an export in files of so many lines at most, for programs that import no more.

    Args:
        form: NetSuite or QuickBooks.
        booked: as of `export_pieces`.
        accounts: likewise.
        lines: of a file, its head included; no entry is in two files.

    Raises:
        InvalidInput: ``invalid_parameter`` for another form.
    """
    if not form.is_rows:
        raise InvalidInput(
            f"{form.value} is one file; leave lines out, or give netsuite or quickbooks",
            code="invalid_parameter",
            pointer="/lines",
        )
    texts = (piece.decode() for piece in export_pieces(form, booked, accounts=accounts))
    for text_ in in_files(texts, lines=lines):
        yield text_.encode()


def export_pieces(
    form: JournalForm, booked: Sequence[Booking], *, accounts: Mapping[str, str]
) -> Iterator[bytes]:
    """Yield an export piece by piece.

    Args:
        form: who reads it.
        booked: in any order.
        accounts: names there by names here, for NetSuite and QuickBooks; see docs/spec/journal.md.

    Raises:
        InvalidInput: ``invalid_parameter`` for names where the form has the ledger's own.
    """
    texts: Iterator[str]
    match form:
        case JournalForm.NETSUITE:
            texts = netsuite(booked, accounts=accounts)
        case JournalForm.QUICKBOOKS:
            texts = quickbooks(booked, accounts=accounts)
        case _ if accounts:
            raise InvalidInput(
                f"{form.value} has the ledger's own accounts; leave names for them out",
                code="invalid_parameter",
                pointer="/accounts",
            )
        case JournalForm.BEANCOUNT:
            texts = beancount(booked)
        case JournalForm.HLEDGER:
            texts = hledger(booked)
        case _:
            yield plain_json(bookings_document(booked)) + b"\n"
            return
    for text_ in texts:
        yield text_.encode()
