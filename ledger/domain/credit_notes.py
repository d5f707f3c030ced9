"""Credit notes: what of a final invoice is given back, spread over its lines to the last cent.

A credit note gives back everything that is left, a total, or net amounts of single lines. A total
is shared out by largest remainder: first among the tax rates, then within each into net amount
and tax, then over the lines. So parts sum exactly, no line gives back more than is left of it,
and the notes of one invoice can together give back all of it and never more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

import msgspec

from ledger.domain.errors import InvalidInput, Refused
from ledger.domain.invoice_parts import InvoiceLine, Tax, TaxTotal
from ledger.domain.invoices import (
    FORM,
    Cited,
    DocumentKind,
    Invoice,
)
from ledger.domain.money import EXACT, decimals_of, from_scaled, minor_units, plain, text, to_scaled
from ledger.domain.taxes import tax_on
from ledger.domain.tiers import ZERO


class _Left(msgspec.Struct):
    """What is left of an invoice: net amount by line number, and tax by rate."""

    lines: dict[int, Decimal]
    taxes: dict[Tax, Decimal]


def credit_note_of(
    invoice: Invoice,
    *,
    id: str,
    reason: str,
    earlier: Sequence[Invoice] = (),
    total: Decimal | None = None,
    lines: Mapping[int, Decimal] | None = None,
) -> Invoice:
    """Return the draft of a credit note.

    Args:
        invoice: final.
        id: of the note.
        reason: for people.
        earlier: notes that cite the invoice already.
        total: to give back, tax included; neither this nor lines: all that is left.
        lines: net amounts to give back by line number; their tax is added.

    Raises:
        InvalidInput: ``invalid_credit`` for what is no amount of the currency above zero, for
            both a total and lines, for a line that is not there; ``invalid_text`` for no reason.
        Refused: ``credit_exceeds_invoice``, with what is left.
    """
    if total is not None and lines is not None:
        raise InvalidInput("give a total or lines, not both", code="invalid_credit")
    left = _left(invoice, earlier)
    if lines is not None:
        nets, taxes = _by_lines(invoice, left, lines)
    else:
        nets, taxes = _by_total(invoice, left, total)
    if not reason.strip():
        # Last: it is easily added, and says nothing about the amounts.
        raise InvalidInput("a credit note says why", code="invalid_text", pointer="/reason")
    return _note(invoice, nets, taxes, id=id, reason=reason)


def left_to_credit(invoice: Invoice, earlier: Sequence[Invoice]) -> Decimal:
    """Return how much of an invoice's total no credit note has given back."""
    with localcontext(EXACT):
        return plain(invoice.total - sum((note.total for note in earlier), ZERO))


def spread_signed(total: Decimal, weights: Sequence[Decimal], *, decimals: int) -> list[Decimal]:
    """Split a total by weights of any sign so that the parts sum to it exactly.

    Args:
        total: with at most ``decimals`` decimals, between 0 and the sum of the weights.
        weights: with no more decimals; where the total is the sum, the parts are the weights.
        decimals: of each part.

    Returns:
        One part a weight, none further from zero than its weight; ties go to the earlier part.
    """
    if sum(weights) < 0:
        parts = spread_signed(-total, [-weight for weight in weights], decimals=decimals)
        return [plain(-part) for part in parts]
    units = to_scaled(total, decimals)
    scale = max((decimals_of(weight) for weight in weights), default=0)
    whole = [to_scaled(weight, scale) for weight in weights]
    sum_of_weights = sum(whole)
    if not units or not sum_of_weights:
        return [ZERO for _ in weights]
    shares = [divmod(units * weight, sum_of_weights) for weight in whole]
    missing = units - sum(share for share, _ in shares)
    order = sorted(range(len(shares)), key=lambda place: (-shares[place][1], place))
    extra = set(order[:missing])
    return [
        from_scaled(share + (place in extra), decimals) for place, (share, _) in enumerate(shares)
    ]


def _left(invoice: Invoice, earlier: Sequence[Invoice]) -> _Left:
    with localcontext(EXACT):
        lines = {line.number: line.amount for line in invoice.lines}
        taxes = {_rate(one): one.tax for one in invoice.taxes}
        for note in earlier:
            for line in note.lines:
                lines[line.of_line] -= line.amount
            for one in note.taxes:
                taxes[_rate(one)] -= one.tax
    return _Left(lines, taxes)


def _rate(one: TaxTotal) -> Tax:
    return Tax(category=one.category, percent=one.percent)


def _by_total(
    invoice: Invoice, left: _Left, total: Decimal | None
) -> tuple[dict[int, Decimal], dict[Tax, Decimal]]:
    decimals = minor_units(invoice.currency)
    with localcontext(EXACT):
        by_rate: dict[Tax, list[int]] = {rate: [] for rate in left.taxes}
        for line in invoice.lines:
            by_rate[line.tax].append(line.number)
        nets = {rate: sum((left.lines[n] for n in by_rate[rate]), ZERO) for rate in by_rate}
        gross = {rate: nets[rate] + left.taxes[rate] for rate in by_rate}
        most = sum(gross.values(), ZERO)
        asked = most if total is None else total
        if total is not None:
            _check_amount(asked, invoice.currency, "/total")
        _check_most(asked, most, invoice)
        rates = list(by_rate)
        given_nets: dict[int, Decimal] = {}
        given_taxes: dict[Tax, Decimal] = {}
        parts = spread_signed(asked, [gross[rate] for rate in rates], decimals=decimals)
        for rate, part in zip(rates, parts, strict=True):
            whole = part == gross[rate]
            net, tax = (
                (nets[rate], left.taxes[rate])
                if whole
                else spread_signed(part, [nets[rate], left.taxes[rate]], decimals=decimals)
            )
            weights = [left.lines[number] for number in by_rate[rate]]
            shares = weights if whole else spread_signed(net, weights, decimals=decimals)
            given_nets.update(zip(by_rate[rate], shares, strict=True))
            given_taxes[rate] = tax
    return given_nets, given_taxes


def _by_lines(
    invoice: Invoice, left: _Left, lines: Mapping[int, Decimal]
) -> tuple[dict[int, Decimal], dict[Tax, Decimal]]:
    rates = {line.number: line.tax for line in invoice.lines}
    sums: dict[Tax, Decimal] = {}
    with localcontext(EXACT):
        for number, amount in lines.items():
            at = f"/lines/{number}"
            if number not in rates:
                raise InvalidInput(
                    f"{invoice.number} has no line {number}; it has 1 to {len(invoice.lines)}",
                    code="invalid_credit",
                    pointer=at,
                )
            _check_amount(amount, invoice.currency, at)
            _check_most(amount, left.lines[number], invoice, f" of line {number}")
            rate = rates[number]
            sums[rate] = sums.get(rate, ZERO) + amount
        if not sums:
            raise InvalidInput("no line is given", code="invalid_credit", pointer="/lines")
        taxes = {}
        for rate, net in sums.items():
            rest = [left.lines[number] for number, one in rates.items() if one == rate]
            if net == sum(rest, ZERO):
                # What is given back last takes the tax with it that rounding left over.
                taxes[rate] = left.taxes[rate]
            else:
                tax = tax_on(net, percent=rate.percent, currency=invoice.currency)
                taxes[rate] = min(tax, max(left.taxes[rate], ZERO))
    return dict(lines), taxes


def _note(
    invoice: Invoice,
    nets: Mapping[int, Decimal],
    taxes: Mapping[Tax, Decimal],
    *,
    id: str,
    reason: str,
) -> Invoice:
    given = [_line(line, nets[line.number]) for line in invoice.lines if nets.get(line.number)]
    with localcontext(EXACT):
        sums = {
            rate: sum((line.amount for line in given if line.tax == rate), ZERO) for rate in taxes
        }
        net, tax = sum(sums.values(), ZERO), sum(taxes.values(), ZERO)
        totals = tuple(
            TaxTotal(
                category=rate.category,
                percent=rate.percent,
                net=plain(sums[rate]),
                tax=plain(taxes[rate]),
            )
            for rate in sorted(taxes)
            if sums[rate] or taxes[rate]
        )
        return Invoice(
            id=id,
            kind=DocumentKind.CREDIT_NOTE,
            tenant=invoice.tenant,
            currency=invoice.currency,
            timezone=invoice.timezone,
            period=invoice.period,
            lines=tuple(
                msgspec.structs.replace(line, number=place)
                for place, line in enumerate(given, start=1)
            ),
            taxes=totals,
            net=plain(net),
            tax=plain(tax),
            total=plain(net + tax),
            due=plain(net + tax),
            form=FORM,
            notes=invoice.notes,
            cites=Cited(id=invoice.id, number=invoice.number, digest=invoice.digest),
            reason=reason,
        )


def _line(line: InvoiceLine, amount: Decimal) -> InvoiceLine:
    """Return a line of the note: an amount, without the quantities of the line that it cites."""
    return InvoiceLine(
        number=0,
        kind=line.kind,
        description=line.description,
        service=line.service,
        unrounded=plain(amount),
        amount=plain(amount),
        rounding=line.rounding,
        tax=line.tax,
        name=line.name,
        of_line=line.number,
    )


def _check_amount(amount: Decimal, currency: str, pointer: str) -> None:
    decimals = minor_units(currency)
    if not amount.is_finite() or amount <= 0 or decimals_of(amount) > decimals:
        raise InvalidInput(
            f"{amount} is no amount of {currency} to give back; it is above 0 and has at most"
            f" {decimals} decimals",
            code="invalid_credit",
            pointer=pointer,
        )


def _check_most(amount: Decimal, most: Decimal, invoice: Invoice, what: str = "") -> None:
    if most <= 0:
        owed = f", which comes to {text(most)} {invoice.currency}" if most else ""
        raise Refused(
            f"nothing is left to give back{what} of {invoice.number}{owed}",
            code="credit_exceeds_invoice",
        )
    if amount > most:
        raise Refused(
            f"{text(amount)} is more than the {text(most)} {invoice.currency} that are left{what}"
            f" of {invoice.number}",
            code="credit_exceeds_invoice",
        )
