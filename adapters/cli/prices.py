"""``tallybook prices``: pull, approve, set, look up and retire price rows; mark-ups."""

from __future__ import annotations

import getpass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli.output import JsonOption, TenantOption, number, out, print_json, table
from adapters.cli.price_output import (
    COLUMNS,
    cells,
    remark,
    say,
    say_more,
    say_rating,
    show_change,
    show_pull,
    show_records,
    shown_time,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.prices import (
    held_document,
    page_document,
    tree,
    tree_of_change,
)
from ledger.application.price_lookup import PriceFilter
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode, text
from ledger.domain.periods import EPOCH
from ledger.domain.price_book import shown_rate
from ledger.domain.prices import (
    EXACT_QUANTITY,
    PriceKey,
    PriceKind,
    PriceRow,
    PriceStatus,
    QuantityRule,
    RoundingScope,
)

SHOWN_ROWS = 50
"""Rows of a table, unless --limit says otherwise."""

ByOption = Annotated[str, typer.Option("--by", help="Who decides; default: the system's user.")]
ProviderOption = Annotated[
    list[str] | None, typer.Option("--provider", "-p", help="Only this one; may be repeated.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Most rows to show.")]
DateOption = Annotated[
    str, typer.Option("--effective-from", help="Date (00:00 UTC) or time with an offset.")
]


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    prices = typer.Typer(help="Pull, approve, set and look up prices.", no_args_is_help=True)
    app.add_typer(prices, name="prices")
    _register_proposals(prices, open_services)
    _register_decisions(prices, open_services)
    _register_markup(prices, open_services)
    _register_manual(prices, open_services)
    _register_questions(prices, open_services)
    _register_diff(prices, open_services)
    _register_at(prices, open_services)
    _register_rating(prices, open_services)


def _register_proposals(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command()
    def pull(
        approve: Annotated[
            bool, typer.Option("--approve", help="Approve what no other source contradicts.")
        ] = False,
        provider: ProviderOption = None,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Propose the prices of the installed genai-prices data; twice is once."""
        with open_services() as services:
            result = services.prices.pull(
                approve=approve, providers=provider or (), by=by or _user()
            )
        show_pull(result, approve=approve, json=json)

    @prices.command(name="import-litellm")
    def import_litellm(
        file: Annotated[Path, typer.Argument(help="model_prices_and_context_window.json.")],
        approve: Annotated[
            bool, typer.Option("--approve", help="Approve what no other source contradicts.")
        ] = False,
        effective_from: DateOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Propose the prices of a LiteLLM price map; it has no dates: from now on, by default."""
        start = _instant(effective_from, "/effective_from")
        with open_services() as services:
            result = services.prices.import_litellm(
                file, effective_from=start, approve=approve, by=by or _user()
            )
        show_pull(result, approve=approve, json=json)


def _register_decisions(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command()
    def approve(
        versions: Annotated[
            list[str] | None, typer.Argument(help="Such as cost/openai@3.17.", metavar="VERSION…")
        ] = None,
        every: Annotated[
            bool, typer.Option("--all", help="All that no other source contradicts.")
        ] = False,
        provider: ProviderOption = None,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Approve proposed rows, by version or all that are not held; rate what waited."""
        if bool(versions) == every:
            raise InvalidInput("give versions, or --all, and not both", code="invalid_arguments")
        with open_services() as services:
            if every:
                show_pull(
                    services.prices.approve_all(providers=provider or (), by=by or _user()),
                    approve=True,
                    json=json,
                )
            else:
                result = services.prices.approve(versions or (), by=by or _user())
                show_change(result, "approved", json=json)

    @prices.command()
    def retire(
        versions: Annotated[list[str], typer.Argument(metavar="VERSION…")],
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Retire approved rows or drop proposed ones; what they rated stays as it is."""
        with open_services() as services:
            result = services.prices.retire(versions, by=by or _user())
        show_change(result, "retired", json=json)


def _register_markup(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command()
    def markup(
        percent: Annotated[
            str, typer.Argument(help="Such as 20 or 12.5; write -- before a negative one.")
        ],
        book: Annotated[str, typer.Option("--book", help="Sell book.")] = DEFAULT_BOOK,
        effective_from: DateOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Set a sell book's standing mark-up: sell = cost + PERCENT %."""
        added = _decimal(percent, "/percent")
        start = _instant(effective_from, "/effective_from")
        with open_services() as services:
            result = services.prices.markup(
                added, book=book, effective_from=start, by=by or _user()
            )
            standing = services.prices.markups(book)
        if json:
            print_json({"markups": tree(standing), **tree_of_change(result)})
            return
        latest = standing[-1]
        since = (
            "the beginning" if latest.effective_from == EPOCH else shown_time(latest.effective_from)
        )
        say(
            f"{book}: sell = cost + {text(latest.percent)} % from {since} on;"
            f" {number(result.published)} sell rows published"
        )
        say_rating(result.rating)


def _register_manual(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command(name="set")
    def set_(
        *,
        provider: Annotated[str, typer.Argument()],
        model: Annotated[str, typer.Argument()],
        meter: Annotated[str, typer.Argument(help="Such as tokens.input.")],
        rate: Annotated[str, typer.Argument(help="Price of --per units; exact decimal.")],
        per: Annotated[str, typer.Option("--per", help="Units that the rate buys.")] = "1",
        kind: Annotated[PriceKind, typer.Option("--kind")] = PriceKind.COST,
        book: Annotated[str, typer.Option("--book", help="Sell book.")] = DEFAULT_BOOK,
        tier: Annotated[str, typer.Option("--tier", help="byok: platform fee of own keys.")] = "",
        region: Annotated[str, typer.Option("--region")] = "",
        batch: Annotated[bool, typer.Option("--batch", help="The batch price.")] = False,
        context_over: Annotated[
            int, typer.Option("--context-over", min=0, help="For more input tokens than this.")
        ] = 0,
        effective_from: DateOption = "",
        increment: Annotated[str, typer.Option("--increment", help="Quantity step.")] = "0",
        minimum: Annotated[str, typer.Option("--minimum", help="Least billed quantity.")] = "0",
        mode: Annotated[RoundingMode, typer.Option("--mode")] = RoundingMode.UP,
        scope: Annotated[
            RoundingScope | None, typer.Option("--scope", help="Default: request, if rounded.")
        ] = None,
        currency: Annotated[str, typer.Option("--currency")] = "USD",
        note: Annotated[str, typer.Option("--note", help="Where the price is from.")] = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Set a price by hand, proposed and approved at once.

        Without --effective-from it holds from the beginning of time if there was no such price,
        so that usage recorded before is rated; else from now on.
        """
        row = PriceRow(
            key=PriceKey(provider.lower(), model, meter, region, tier, batch, context_over),
            effective_from=EPOCH,
            rate=_decimal(rate, "/rate"),
            unit_size=_decimal(per, "/unit_size"),
            currency=currency.upper(),
            quantity_rule=_rule(increment, minimum, mode, scope),
            note=note,
        )
        start = _instant(effective_from, "/effective_from")
        with open_services() as services:
            result = services.prices.set(
                row,
                kind=kind,
                book=book if kind is PriceKind.SELL else "",
                effective_from=start,
                by=by or _user(),
            )
        show_change(result, "in force", json=json)


def _register_questions(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command(name="list")
    def list_(
        *,
        provider: Annotated[str, typer.Option("--provider", "-p")] = "",
        model: Annotated[str, typer.Option("--model", help="Part of the name.")] = "",
        meter: Annotated[str, typer.Option("--meter")] = "",
        kind: Annotated[PriceKind | None, typer.Option("--kind")] = None,
        book: Annotated[str, typer.Option("--book", help="Sell book.")] = "",
        status: Annotated[PriceStatus | None, typer.Option("--status")] = None,
        source: Annotated[str, typer.Option("--source")] = "",
        limit: LimitOption = SHOWN_ROWS,
        json: JsonOption = False,
    ) -> None:
        """List price rows."""
        only = PriceFilter(
            provider=provider,
            model=model,
            meter=meter,
            kind=kind,
            book=book,
            status=status,
            source=source,
        )
        with open_services() as services:
            page = services.prices.list(only, limit=limit)
        if json:
            print_json(page_document(page))
            return
        show_records(page.records)
        say_more(len(page.records), page.total)


def _register_diff(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command()
    def diff(
        provider: ProviderOption = None,
        limit: LimitOption = SHOWN_ROWS,
        json: JsonOption = False,
    ) -> None:
        """Show the held rows: where sources disagree, with both rates, sources and dates."""
        with open_services() as services:
            found = services.prices.diff(providers=provider or ())
        if json:
            print_json(held_document(found, limit))
            return
        if not found:
            say("nothing is held: no source contradicts another")
            return
        rows = []
        for one in found[:limit]:
            rows.append(cells(one.held))
            rows += [cells(rival, mark="  against ") for rival in one.rivals]
        out().print(table(COLUMNS, rows))
        say_more(min(limit, len(found)), len(found))
        remark("approve one with `tallybook prices approve VERSION`; that drops the other proposal")


def _register_at(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command()
    def at(
        *,
        provider: Annotated[str, typer.Argument()],
        model: Annotated[str, typer.Argument(help="As the provider's response says.")],
        meter: Annotated[str, typer.Argument(help="All that have a price, by default.")] = "",
        time: Annotated[str, typer.Option("--at", help="Date or time; default now.")] = "",
        book: Annotated[str, typer.Option("--book", help="Sell book.")] = DEFAULT_BOOK,
        region: Annotated[str, typer.Option("--region")] = "",
        tier: Annotated[str, typer.Option("--tier")] = "",
        batch: Annotated[bool, typer.Option("--batch")] = False,
        input_tokens: Annotated[
            int, typer.Option("--input-tokens", min=0, help="Of the request, for context tiers.")
        ] = 0,
        json: JsonOption = False,
    ) -> None:
        """Show which rows price a call at a time, and why."""
        instant = _instant(time, "/at")
        with open_services() as services:
            found = services.prices.at(
                provider=provider.lower(),
                model=model,
                meter=meter,
                region=region,
                tier=tier,
                batch=batch,
                input_tokens=input_tokens,
                book=book,
                at=instant,
            )
        if json:
            print_json(tree(found))
            return
        if not found:
            say(f"no approved price for {provider}/{model}: its usage is unpriced")
            return
        columns = (("kind", False), ("meter", False), ("rate", False), ("version", False))
        rows = [
            (
                one.kind if not one.book else f"{one.kind} {one.book}",
                one.meter,
                shown_rate(one.record.row) if one.record else "none: unpriced",
                one.record.version if one.record else "-",
                "; ".join((*one.why, *((one.record.note,) if one.record else ()))).rstrip("; "),
            )
            for one in found
        ]
        out().print(table((*columns, ("why", False)), rows))


def _register_rating(prices: typer.Typer, open_services: OpenServices) -> None:
    @prices.command(name="rerate-unpriced")
    def rerate_unpriced(json: JsonOption = False) -> None:
        """Rate the usage that waited for a price; may be interrupted and run again."""
        with open_services() as services:
            counts = services.prices.rate_unpriced()
        if json:
            print_json(tree(counts))
        else:
            say(f"{number(counts.rated)} events rated, {number(counts.unpriced)} still unpriced")

    @prices.command()
    def rerate(
        tenant: TenantOption,
        start: Annotated[str, typer.Option("--from", help="First day (00:00 UTC) or time.")],
        end: Annotated[str, typer.Option("--to", help="Day or time from which on not.")],
        json: JsonOption = False,
    ) -> None:
        """Rate a tenant's usage again after a retroactive change; posts the differences."""
        begin, until = _instant(start, "/from"), _instant(end, "/to")
        if begin is None or until is None:
            raise InvalidInput("give both --from and --to", code="invalid_period")
        with open_services() as services:
            counts = services.prices.rerate(tenant=tenant, start=begin, end=until)
        if json:
            print_json(tree(counts))
        else:
            say(
                f"{number(counts.changed)} events rated anew, {number(counts.unchanged)} as"
                f" before, {number(counts.unpriced)} unpriced"
            )


# -- reading arguments ----------------------------------------------------------------


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _decimal(value: str, pointer: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation:
        raise InvalidInput(
            f"{value!r} is not a number such as 2.50", code="invalid_number", pointer=pointer
        ) from None


def _instant(value: str, pointer: str) -> datetime | None:
    """Return a day's start in UTC, or a time with an offset; None for ""."""
    if not value:
        return None
    try:
        if len(value) == 10:
            day = date.fromisoformat(value)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidInput(
            f"{value!r} is not a date such as 2026-11-01 or a time with an offset such as"
            " 2026-11-01T12:00:00+01:00",
            code="invalid_time",
            pointer=pointer,
        )
    return at.astimezone(UTC)


def _rule(
    increment: str, minimum: str, mode: RoundingMode, scope: RoundingScope | None
) -> QuantityRule:
    step, least = _decimal(increment, "/increment"), _decimal(minimum, "/minimum")
    if not step and not least and scope is None:
        return EXACT_QUANTITY
    return QuantityRule(step, least, mode, scope or RoundingScope.REQUEST)
