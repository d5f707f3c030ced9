"""The steps of the demonstration: the same use cases that the other commands call, in order.

Each step may be repeated: a second run finds prices, tenants and usage as the first one left
them. Other tenants of the database are never touched, and neither is a price book in use.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec

from adapters.cli.demo_statement import Statement
from adapters.cli.demo_traffic import COMPANIES, Traffic
from ledger.application.importing.responses import ResponseReader
from ledger.application.importing.run import Importer, ImportReport
from ledger.application.importing.sources import Format, Plan, Source, open_source
from ledger.application.price_lookup import PriceFilter
from ledger.application.responses import AUTO, Detect
from ledger.application.services import Services
from ledger.domain.balance import Balance
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.errors import Refused, Unavailable
from ledger.domain.periods import EPOCH, period_of
from ledger.domain.prices import PriceKind, PriceStatus
from ledger.domain.responses import Normalizer

CURRENCY = "USD"
MARKUP_PERCENT = Decimal(20)
"""What the demonstration adds to the provider's price."""
DEMO_BOOK = "demo"
"""Sell book of the demonstration where the default one is somebody's already."""
APPROVER = "tallybook demo"

NAMES = tuple(company.tenant for company in COMPANIES)


class PricesReady(msgspec.Struct, frozen=True, kw_only=True):
    """The price book that the demonstration charges by.

    Attributes:
        book: the sell book.
        approved: cost prices that this run approved; 0 if there were some before.
        markup: mark-up in percent that this run set; None if the book had prices.
    """

    book: str
    approved: int
    markup: Decimal | None


class Unpriced(msgspec.Struct, frozen=True):
    """A call in the demonstration's month that nobody has a price for."""

    tenant: str
    id: str
    model: str


def choose_book(services: Services) -> str:
    """Return the sell book of the demonstration's tenants.

    That is the default book of a database that nobody else uses. Where others have tenants or
    prices it is a book of its own, so that their charges stay as they are.
    """
    tenants = services.reads.tenants()
    for row in tenants:
        if row.tenant in NAMES:
            return row.book
    markups = services.prices.markups(DEFAULT_BOOK)
    unused = all(one.by == APPROVER for one in markups) if markups else not _stocked(services)
    return DEFAULT_BOOK if unused and not tenants else DEMO_BOOK


def stock_prices(services: Services, *, book: str) -> PricesReady:
    """See to it that there are provider prices, and a mark-up on them in the sell book.

    Prices that were approved before stay as they are, and nothing is pulled then.

    Args:
        services: the use cases.
        book: as `choose_book` says.
    """
    books = services.prices
    markup = None
    if not books.markups(book):
        # Before the pull, so that every sell row is published once, with the mark-up.
        books.markup(MARKUP_PERCENT, book=book, effective_from=EPOCH, by=APPROVER)
        markup = MARKUP_PERCENT
    pulled = 0 if _stocked(services) else books.pull(approve=True, by=APPROVER).approved
    return PricesReady(book=book, approved=pulled, markup=markup)


def _stocked(services: Services) -> bool:
    approved = PriceFilter(kind=PriceKind.COST, status=PriceStatus.APPROVED)
    return services.prices.list(approved, limit=1).total > 0


def demo_tenants(services: Services) -> set[str]:
    """Return those tenants of the demonstration that exist."""
    return {row.tenant for row in services.reads.tenants()} & set(NAMES)


def open_tenants(services: Services, *, book: str) -> list[str]:
    """Open the demonstration's tenants and return those that were not open yet.

    Raises:
        Refused: ``demo_tenant_exists`` if one of them is somebody else's: its settings differ.
    """
    opened = []
    for company in COMPANIES:
        outcome = services.tenants.open(
            company.tenant, currency=CURRENCY, timezone=company.timezone, book=book
        )
        if outcome.status == "conflict":
            raise Refused(
                f"there is a tenant {company.tenant} with other settings, which is not the"
                " demonstration's; nothing was imported (use another database, such as one of"
                " its own with TALLYBOOK_HOME)",
                code="demo_tenant_exists",
            )
        if outcome.status == "accepted":
            opened.append(company.tenant)
    return opened


def write_files(folder: Path, traffic: Traffic) -> tuple[Path, Path]:
    """Write the traffic and its corrections as NDJSON and return where.

    Raises:
        Unavailable: ``unwritable_file``.
    """
    sent = folder / f"demo-{traffic.month}.ndjson"
    corrections = folder / f"demo-{traffic.month}-corrections.ndjson"
    for path, lines in ((sent, traffic.lines), (corrections, traffic.corrections)):
        try:
            path.write_bytes(b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise Unavailable(
                f"{path} cannot be written: {error.strerror}", code="unwritable_file"
            ) from error
    return sent, corrections


def import_files(
    services: Services,
    *,
    sent: Path,
    corrections: Path,
    normalizer: Normalizer,
    detect: Detect,
) -> ImportReport:
    """Import the files as `tallybook import` does.

    Raises:
        LedgerError: the import could not go on.
    """
    reader = ResponseReader(
        provider=AUTO, tenant="", source="", normalizer=normalizer, detect=detect
    )
    with ExitStack() as stack:
        sources = [
            _source(stack, sent, Format.RESPONSES, Plan(responses=reader)),
            _source(stack, corrections, Format.NDJSON, Plan()),
        ]
        report = Importer(services.ledger.submit).run(sources)
    if report.interrupted:
        raise KeyboardInterrupt
    if report.failure is not None:
        raise report.failure
    return report


def _source(stack: ExitStack, path: Path, form: Format, plan: Plan) -> Source:
    file = stack.enter_context(path.open("rb", buffering=0))
    return open_source(
        name=str(path), form=form, read=lambda count: file.read(count) or b"", plan=plan
    )


def balances(services: Services, month: str) -> dict[str, tuple[object, ...]]:
    """Return what the demonstration's balances of a month say, by tenant, to be compared."""
    return {
        name: balance.as_tuple()
        for name in demo_tenants(services)
        if (balance := _balance(services, name, month)) is not None
    }


def _balance(services: Services, tenant: str, month: str) -> Balance | None:
    found = services.reads.balances(tenant)
    return next((balance for balance in found if balance.period == month), None)


def statements(services: Services, month: str) -> list[Statement]:
    """Return the tenants' statements of a month; the daily rollups are brought up to date."""
    services.projections.catch_up()
    return [_statement(services, name, month) for name in NAMES]


def _statement(services: Services, tenant: str, month: str) -> Statement:
    reads = services.reads
    row = reads.tenant(tenant)
    balance = _balance(services, tenant, month) or Balance(month)
    start = date.fromisoformat(f"{month}-01")
    end = (start + timedelta(days=31)).replace(day=1)

    def grouped(by: str) -> dict[str, Decimal]:
        rows = reads.usage(tenant=tenant, start=start, end=end, by=(by,))
        return {one.group[0]: one.charge for one in rows}

    charges = grouped("meter")
    return Statement(
        tenant=tenant,
        timezone=row.timezone,
        currency=row.currency,
        period=month,
        events=balance.events,
        voided=balance.voided,
        unpriced=balance.unpriced,
        charge=balance.decimal_charge(),
        costs=balance.decimal_costs(),
        quantities={
            meter: (quantity, charges.get(meter, Decimal(0)))
            for meter, quantity in balance.decimal_quantities().items()
        },
        models=grouped("model"),
        days={date.fromisoformat(day): charge for day, charge in grouped("day").items()},
    )


def unpriced(services: Services, month: str) -> list[Unpriced]:
    """Return the month's calls without a price, oldest first, at most ten a tenant."""
    found = []
    for company in COMPANIES:
        for _, usage in services.reads.unpriced(tenant=company.tenant, limit=10):
            if period_of(company.timezone, usage.occurred_at).name == month:
                found.append(Unpriced(company.tenant, usage.id, usage.model))
    return found
