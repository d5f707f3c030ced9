"""The journal's exports: other programs read them back and come to the same balances."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import msgspec
import pytest
from beancount import loader
from beancount.core.data import Transaction
from fakes import journal_samples as samples

from ledger.application.documents.journal_csv import netsuite, quickbooks
from ledger.application.documents.journal_text import beancount, beancount_account, hledger
from ledger.application.documents.journals import JournalForm, export_files, export_pieces
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import Booking, Rule, by_month, trial_balance
from ledger.domain.journal_rules import journal

HOSTILE = (
    'quote" back\\slash',
    "a\nb ; comment | note, tag: value",
    "=cmd()",
    "漢字 🎉 \u202e",
    "; *",
    "(x) ! 2026-01-01 open",
)


def booked() -> list[Booking]:
    """Return bookings of every rule, several currencies and tenants whose names are traps."""
    facts = samples.everything()
    facts += [
        samples.used("tokens.input", f"0.{place + 1:018d}", tenant=tenant)
        for place, tenant in enumerate(HOSTILE)
    ]
    return journal(facts)


def test_one_journal_has_documents_of_currencies_with_no_two_and_three_decimals() -> None:
    """Finalized, void, paid, uncollectible and paid after all, credited: what follows has all."""
    rules: dict[str, set[Rule]] = defaultdict(set)
    for one in booked():
        if one.reference:
            rules[one.currency].add(one.rule)
    assert set(rules) == {"EUR", "JPY", "KWD"}
    for found in rules.values():
        assert found == {
            Rule.INVOICE_FINALIZED,
            Rule.INVOICE_VOIDED,
            Rule.INVOICE_PAID,
            Rule.INVOICE_UNCOLLECTIBLE,
            Rule.UNCOLLECTIBLE_PAID,
            Rule.CREDIT_NOTE_ISSUED,
            Rule.CREDIT_NOTE_OF_UNCOLLECTIBLE,
        }


def ours(bookings: Sequence[Booking]) -> dict[tuple[str, str], Decimal]:
    """Return balances that are not zero by account and currency."""
    rows = trial_balance(bookings)
    return {(one.account, one.currency): one.balance for one in rows if one.balance}


def test_beancount_accepts_the_journal_and_its_balances_are_ours() -> None:
    """Its own checker finds no error; by tenant too, to the last digit."""
    bookings = booked()
    text = "".join(beancount(bookings))
    entries, errors, _ = loader.load_string(text)
    assert errors == []
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    tenants: dict[str, Decimal] = defaultdict(Decimal)
    transactions = [one for one in entries if isinstance(one, Transaction)]
    for one in transactions:
        for posting in one.postings:
            sums[posting.account, posting.units.currency] += posting.units.number
            if posting.account == "Assets:Receivable:Unbilled":
                tenants[one.meta["tenant"]] += posting.units.number
    names = {beancount_account(line.account): line.account for b in bookings for line in b.lines}
    theirs = {(names[name], currency): value for (name, currency), value in sums.items() if value}
    assert theirs == ours(bookings)
    assert len(transactions) == len(bookings)
    assert {link for one in transactions for link in one.links} == {b.external_id for b in bookings}
    own = [one for one in bookings if one.tenant == "acme"]
    assert tenants["acme"] == sum(
        line.amount for one in own for line in one.lines if line.account.endswith(":unbilled")
    )
    assert tenants[HOSTILE[0]] == Decimal("0.000000000000000001")


def test_beancount_refuses_what_does_not_balance() -> None:
    """So its silence above means something."""
    text = "".join(beancount(booked())).replace("0.0049 EUR", "0.1049 EUR", 1)
    assert loader.load_string(text)[1] != []


@pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed here")
def test_hledger_accepts_the_journal_and_its_balances_are_ours() -> None:
    """It refuses a booking that does not balance, accepts ours, and sums them as we do."""
    bookings = booked()
    text = "".join(hledger(bookings))
    environment = os.environ | {"LC_ALL": "C.UTF-8"}

    def run(*arguments: str, journal: str = text) -> str:
        command = ["hledger", "-f", "-", *arguments]
        return subprocess.run(
            command,
            input=journal,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        ).stdout

    run("check", "accounts", "ordereddates")
    with pytest.raises(subprocess.CalledProcessError):
        run("check", journal=text.replace("0.0049 EUR", "0.1049 EUR", 1))
    shown = run("balance", "--flat", "--no-total", "-O", "csv", "--layout=bare")
    theirs = {
        (row["account"], row["commodity"]): Decimal(row["balance"])
        for row in csv.DictReader(io.StringIO(shown))
    }
    assert {key: value for key, value in theirs.items() if value} == ours(bookings)
    one = run("balance", "--flat", "--no-total", "-O", "csv", "--layout=bare", "tag:tenant=^acme$")
    assert "0.000000000000000001" not in one


def test_hledger_names_stay_in_their_place() -> None:
    """No name begins a comment, a tag, another field or a line."""
    lines = "".join(hledger(booked())).splitlines()
    heads = [line for line in lines if line.startswith("2026-")]
    assert len(heads) == len(booked())
    assert all(line.count("|") == 1 and ";" not in line for line in heads)
    assert all(
        line.startswith(("    ", "2026-", "account ", "decimal-mark", ";")) or not line
        for line in lines
    )


@pytest.mark.parametrize(
    ("export", "columns"),
    [
        (netsuite, ("External ID", "Account", "Debit", "Credit", "Currency")),
        (quickbooks, ("JournalNo", "AccountName", "Debits", "Credits", "Currency")),
    ],
)
def test_every_imported_entry_balances_and_comes_near_the_exact_one(
    export: Callable[[Sequence[Booking]], Iterator[str]], columns: tuple[str, ...]
) -> None:
    """Within half a minor unit a booking and account, roundings aside."""
    bookings = booked()
    rows = list(csv.DictReader(io.StringIO("".join(export(bookings)), newline="")))
    id, account, debit, credit, currency = columns
    entries: dict[str, Decimal] = defaultdict(Decimal)
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        assert (row[debit] == "") != (row[credit] == "")
        amount = Decimal(row[debit] or 0) - Decimal(row[credit] or 0)
        entries[row[id]] += amount
        sums[row[account], row[currency]] += amount
    assert not any(entries.values())
    monthly = {one.external_id: one for one in by_month(bookings)}
    assert set(entries) <= set(monthly)
    assert all(len(one) == 20 for one in entries)
    for (name, unit), exact in ours(bookings).items():
        if name != "income:rounding":
            near = Decimal("0.5") if unit == "JPY" else Decimal("0.005")
            assert abs(sums[name, unit] - exact) <= near * len(monthly)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


@pytest.mark.parametrize(
    ("export", "most"), [(netsuite, {"JPY": 0, "KWD": 2}), (quickbooks, {"JPY": 0, "KWD": 3})]
)
def test_amounts_have_no_more_digits_than_an_import_takes(
    export: Callable[[Sequence[Booking]], Iterator[str]], most: dict[str, int]
) -> None:
    """NetSuite two decimals; ten digits before them, and what is more in several lines."""
    large = Decimal("25000000000.55")
    bookings = booked() + journal([samples.used("images", str(large), tenant="big")])
    rows = list(csv.DictReader(io.StringIO("".join(export(bookings)), newline="")))
    for row in rows:
        amount = row.get("Debit", row.get("Debits")) or row.get("Credit", row.get("Credits"))
        assert amount is not None
        whole, _, fraction = amount.partition(".")
        assert len(whole) <= 10
        assert len(fraction) == most.get(row["Currency"], 2)
    big = [row.get("Debit", row.get("Debits")) or "0" for row in rows if row["Name"] == "big"]
    assert sum(map(Decimal, big)) == large
    assert len(big) == 6


def test_files_have_few_lines_and_whole_entries() -> None:
    """For programs that import no more: together they are the one file."""
    form, bookings = JournalForm.QUICKBOOKS, booked()
    [whole] = export_files(form, bookings, accounts={}, lines=10**6)
    assert whole == b"".join(export_pieces(form, bookings, accounts={}))
    files = [one.decode() for one in export_files(form, bookings, accounts={}, lines=12)]
    read = [list(csv.DictReader(io.StringIO(one, newline=""))) for one in files]
    assert len(files) > 5
    assert all(len(rows) <= 11 for rows in read)
    together = [row for rows in read for row in rows]
    assert together == list(csv.DictReader(io.StringIO(whole.decode(), newline="")))
    numbers = [{row["JournalNo"] for row in rows} for rows in read]
    assert sum(map(len, numbers)) == len(set().union(*numbers))
    [alone, *_] = export_files(form, bookings, accounts={}, lines=1)
    assert len(list(csv.reader(io.StringIO(alone.decode(), newline="")))) >= 3
    with pytest.raises(InvalidInput, match="is one file"):
        list(export_files(JournalForm.HLEDGER, bookings, accounts={}, lines=100))


@pytest.mark.parametrize("export", [netsuite, quickbooks])
def test_what_is_owed_to_a_provider_is_the_providers(
    export: Callable[[Sequence[Booking]], Iterator[str]],
) -> None:
    """Lines of accounts payable need the name of a supplier; all others have the tenant's."""
    rows = list(csv.DictReader(io.StringIO("".join(export(booked())), newline="")))
    names = {row.get("Account", row.get("AccountName")): row["Name"] for row in rows}
    assert names["liabilities:provider-payable:openai-eu"] == "openai-eu"
    assert names["expenses:provider-cost:openai-eu"] == "acme"


def test_accounts_can_be_called_what_they_are_called_there() -> None:
    """The longest beginning that has a name wins; dates are as each program reads them."""
    bookings = journal([samples.used("tokens.input", "1.005")])
    map = {"income": "Sales", "income:usage": "Sales:Usage"}
    rows = list(csv.DictReader(io.StringIO("".join(quickbooks(bookings, accounts=map)))))
    assert [(row["AccountName"], row["Debits"], row["Credits"]) for row in rows] == [
        ("assets:receivable:unbilled", "1.00", ""),
        ("Sales:Usage", "", "1.00"),
    ]
    assert {row["JournalDate"] for row in rows} == {"11/30/2026"}
    [first, _] = csv.DictReader(io.StringIO("".join(netsuite(bookings, accounts=map))))
    assert (first["Date"], first["Name"]) == ("2026-11-30", "acme")
    yen = [msgspec.structs.replace(one, currency="JPY") for one in bookings]
    assert ",1,," in "".join(netsuite(yen))


def test_each_form_is_written_as_what_it_is() -> None:
    """And names of accounts are refused where a form has none of its own."""
    bookings = booked()
    made = {form: b"".join(export_pieces(form, bookings, accounts={})) for form in JournalForm}
    assert made[JournalForm.BEANCOUNT] == "".join(beancount(bookings)).encode()
    assert made[JournalForm.HLEDGER] == "".join(hledger(bookings)).encode()
    assert made[JournalForm.NETSUITE].startswith(b"External ID,")
    assert made[JournalForm.QUICKBOOKS].startswith(b"JournalNo,")
    [first, *_] = msgspec.json.decode(made[JournalForm.JSON])["bookings"]
    assert first["id"] == bookings[0].external_id
    assert sum(Decimal(line["amount"]) for line in first["lines"]) == 0
    assert [form.media_type.split(";")[0] for form in JournalForm] == [
        "application/json",
        *["text/plain"] * 2,
        *["text/csv"] * 2,
    ]
    for form in (JournalForm.JSON, JournalForm.BEANCOUNT, JournalForm.HLEDGER):
        with pytest.raises(InvalidInput, match="leave names"):
            list(export_pieces(form, bookings, accounts={"assets:cash": "Bank"}))


def test_exports_are_the_same_each_time() -> None:
    """In whatever order bookings come."""
    bookings = booked()
    for export in (beancount, hledger, netsuite, quickbooks):
        assert list(export(bookings)) == list(export(bookings[::-1]))
