"""``tallybook explain``: one event, the figures behind its amounts, and what happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import typer
from rich.text import Text

from adapters.cli.output import JsonOption, number, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.documents.encoding import as_json
from ledger.application.documents.explain import explanation_document
from ledger.application.explain import Change, Explanation, explain
from ledger.application.explain_rating import LeafAmount, Origin, Rating

_APART = ("id", "source", "tenant", "quantities", "raw", "labels", "occurred_at")
"""Members that have a place of their own in what is printed."""
_WIDTH = 80


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``explain``."""

    @app.command("explain")
    def command(
        event: Annotated[
            str,
            typer.Argument(help="Event id, receipt (acme:12.0) or the provider's request id."),
        ],
        *,
        tenant: Annotated[
            str | None, typer.Option("--tenant", "-t", help="Whose ledger; all if left out.")
        ] = None,
        source: Annotated[
            str | None, typer.Option("--source", "-s", help="Source of the event.")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Show how an event's amounts come about, where it is in the log, and its history."""
        with open_services() as services:
            found = explain(
                reads=services.reads,
                event=event,
                tenant=tenant,
                source=source,
                prices=services.prices,
                plans=services.plans,
            )
        if json:
            print_json(explanation_document(found))
        else:
            show(found)


def show(found: Explanation) -> None:
    """Print an explanation for people, at most 100 columns wide unless names are longer."""
    console = out()
    for line in _head(found):
        console.print(line)
    _show_rating(found.rating)
    if len(found.timeline) > 1:
        _show_timeline(found)
    console.print(Text(f"\n{_counts(found)}"))
    console.print(Text(f"recomputed: {_RECOMPUTED[found.recomputed]}"))


_RECOMPUTED = {
    "equal": "equal - quantities, rules and rates give the stored amounts",
    "different": "DIFFERENT - run `tallybook verify --deep`",
    "unpriced": "nothing to compute, no price is approved",
}


def _head(found: Explanation) -> Iterator[Text]:
    proof = found.proof
    yield _fact("event", f"{found.id} of {found.source}")
    settings = f"{found.currency}, {found.timezone}, book {found.book}"
    yield _fact("tenant", f"{found.tenant} ({settings})")
    defaulted = " (the server's time: the event had none)" if found.time_defaulted else ""
    yield _fact("occurred", f"{_time(found.occurred_at)}{defaulted}")
    yield _fact("recorded", _time(proof.recorded_at))
    yield _fact("receipt", proof.receipt)
    yield _fact("commit", f"{proof.commit} of this ledger, log position {proof.position:,}")
    yield _fact("  digest", proof.digest)
    yield _fact("  before", proof.before or "none: the ledger's first commit")
    yield _fact("payload", f"fingerprint {found.fingerprint}")
    members = [f"{name} {value}" for name, value in found.event.items() if name not in _APART]
    for name, value in found.event.get("labels", {}).items():
        members.append(f"label {name}={value}")
    for line in _wrapped(members):
        yield _fact("  as sent", line)
    if "raw" in found.event:
        yield _fact("  raw", as_json(found.event["raw"]))


def _fact(name: str, value: str) -> Text:
    # Names come from outside: as Text, brackets in them are no markup.
    return Text.assemble((f"{name:<10}", "bold"), value)


def _wrapped(members: Sequence[str]) -> Iterator[str]:
    line = ""
    for member in members:
        if line and len(line) + len(member) + 2 > _WIDTH:
            yield line
            line = member
        else:
            line = f"{line}, {member}" if line else member
    if line:
        yield line


def _show_rating(rating: Rating) -> None:
    console = out()
    if rating.charge is None:
        columns = [("meter", False), ("quantity", True)]
        quantities = [(meter, number(value)) for meter, value in rating.quantities.items()]
        console.print()
        console.print(table(columns, quantities))
        console.print(Text("\nunpriced: no approved price for"))
        _show_missing(rating)
        return
    _show_side("charge", rating.currency, rating.charge, _side(rating, "sell"))
    if rating.missing:
        # A plan charges it, whatever it costs.
        console.print(Text("\ncost: not known, no approved price for"))
        _show_missing(rating)
        return
    _show_side("cost", rating.cost_currency, rating.cost, _side(rating, "cost"))


def _show_missing(rating: Rating) -> None:
    for missing in rating.missing:
        kind, _, meter = missing.partition(":")
        out().print(Text(f"  {meter} ({kind})"))


def _side(rating: Rating, side: str) -> list[LeafAmount]:
    return [leaf for leaf in rating.leaves if leaf.side == side]


def _show_side(
    name: str, currency: str, total: Decimal | None, leaves: Sequence[LeafAmount]
) -> None:
    console = out()
    if not leaves:
        reason = "the platform pays" if name == "charge" else "not ours, the key is the tenant's"
        console.print(Text(f"\n{name}: none, {reason}"))
        return
    columns = [
        (f"{name} ({currency})", False),
        ("quantity", True),
        ("billed", True),
        ("x unit rate", True),
        ("= amount", True),
    ]
    rows = [
        (
            leaf.meter,
            number(leaf.quantity),
            number(leaf.billed),
            number(leaf.rate) if leaf.rate or not leaf.amount else "-",
            number(leaf.amount),
        )
        for leaf in leaves
    ]
    console.print()
    console.print(table(columns, [*rows, ("total", "", "", "", number(total))]))
    for leaf in leaves:
        if leaf.rounding:
            console.print(Text(f"  {leaf.meter} billed {leaf.rounding}"))
    for version, (origin, meters) in _versions(leaves).items():
        console.print(Text(f"  {version}: {meters}"))
        if origin is not None:
            console.print(Text(f"    {_origin(origin)}"))


def _versions(leaves: Sequence[LeafAmount]) -> dict[str, tuple[Origin | None, str]]:
    found: dict[str, tuple[Origin | None, str]] = {}
    for leaf in leaves:
        if leaf.version:
            _, meters = found.get(leaf.version, (None, ""))
            named = f"{meters}, {leaf.meter}" if meters else leaf.meter
            found[leaf.version] = (leaf.origin, named)
    return found


def _origin(origin: Origin) -> str:
    parts = [f"from {origin.source}"]
    if origin.digest:
        parts.append(f"data {origin.digest[:16]}")
    parts.append(f"approved by {origin.approver or 'nobody'}")
    parts.append(f"effective from {origin.effective_from:%Y-%m-%d}")
    if origin.status != "approved":
        parts.append(f"now {origin.status}")
    if origin.note:
        parts.append(origin.note)
    return ", ".join(parts)


def _show_timeline(found: Explanation) -> None:
    console = out()
    console.print(Text("\ntimeline", style="bold"))
    for change in found.timeline:
        line = f"  {_time(change.proof.recorded_at)}  {change.kind:<8}  {change.proof.receipt}"
        console.print(Text(line))
        for detail in _details(change):
            console.print(Text(f"    {detail}"))
    if found.stands is not None and found.standing != "recorded":
        console.print(Text(f"\nas {found.standing}:", style="bold"))
        _show_rating(found.stands)


def _details(change: Change) -> Iterator[str]:
    if change.id:
        yield f"{change.id} of {change.source}" if change.source else change.id
    if change.reason:
        yield f"reason: {change.reason}"
    if change.note:
        yield change.note
    if change.amount is not None:
        yield f"takes back charge {number(change.amount)}"
    if change.took_back is not None:
        yield from _amounts("takes back", change.took_back)
    if change.posted is not None:
        yield from _amounts("posts", change.posted)
    if isinstance(change.payload, dict):
        yield "refused payload:"
        members = [f"{name} {as_json(value)}" for name, value in change.payload.items()]
        yield from (f"  {line}" for line in _wrapped(members))
    elif change.payload is not None:
        yield f"refused payload: {as_json(change.payload)}"


def _amounts(verb: str, rating: Rating) -> Iterator[str]:
    quantities = [f"{meter} {number(value)}" for meter, value in rating.quantities.items()]
    for place, line in enumerate(_wrapped(quantities)):
        yield f"{'' if place else verb:<10} {line}"
    if rating.charge is None:
        yield f"{'':<10} unpriced"
        return
    cost = f", cost {number(rating.cost)} {rating.cost_currency}" if rating.cost_currency else ""
    yield f"{'':<10} charge {number(rating.charge)} {rating.currency}{cost}"


def _counts(found: Explanation) -> str:
    if found.charge is None:
        return f"stands: {found.standing}, unpriced; it counts in quantities, not in amounts"
    costs = "".join(f", cost {number(cost)} {name}" for name, cost in sorted(found.costs.items()))
    return (
        f"stands: {found.standing}; counts in the balance with"
        f" charge {number(found.charge)} {found.currency}{costs}"
    )


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
