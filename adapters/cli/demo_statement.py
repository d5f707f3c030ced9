"""What a tenant used and owes in a month, drawn for a terminal of 80 or more columns.

Pure: a `Statement` goes in, lines come out. With ``unicode=False`` every line is ASCII, for
terminals whose encoding has nothing else.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import zip_longest

import msgspec
from rich.text import Text

from adapters.cli.output import number
from ledger.domain.money import minor_units, round_money, text

TOP_MODELS = 5
"""Models listed; the others are one line."""
CHART_ROWS = 5
"""Rows of bars in the chart of charges by day."""

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_PLAIN_STEPS = " .:#"
_WIDE = 100
_NARROW = 76


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a tenant's month.

    Attributes:
        tenant: whose.
        timezone: in which its days and months begin.
        currency: of the charge.
        period: ``YYYY-MM``.
        events: usage events recorded.
        voided: of those, taken back.
        unpriced: of those, standing without a price; in no amount.
        charge: what the tenant is charged, unrounded.
        costs: what providers charge, unrounded, by currency.
        quantities: meter to quantity and charge.
        models: model to charge.
        days: local day to charge.
    """

    tenant: str
    timezone: str
    currency: str
    period: str
    events: int
    voided: int
    unpriced: int
    charge: Decimal
    costs: Mapping[str, Decimal]
    quantities: Mapping[str, tuple[Decimal, Decimal]]
    models: Mapping[str, Decimal]
    days: Mapping[date, Decimal]

    @property
    def rounded(self) -> Decimal:
        """Return the charge in the currency's minor unit, half to even."""
        return round_money(self.charge, self.currency)

    @property
    def margin(self) -> Decimal | None:
        """Return charge less cost, unrounded; None if a cost is in another currency."""
        if set(self.costs) - {self.currency}:
            return None
        return self.charge - self.costs.get(self.currency, Decimal(0))


def render(statement: Statement, *, width: int, unicode: bool = True) -> list[Text]:
    """Return the statement as lines, of at most ``width`` characters if that is 80 or more.

    Args:
        statement: what is shown.
        width: columns of the terminal; in a narrow one the parts stand under each other.
        unicode: whether the terminal can show more than ASCII.
    """
    left = _meters(statement, wide=width >= _WIDE)
    taken = max(len(line) for line in left) + 3
    beside = width >= _NARROW and width - taken >= 32
    room = min(width - taken, 68) if beside else width
    right = [
        *_models(statement, room, unicode=unicode),
        Text(),
        *_chart(statement, room, unicode=unicode),
    ]
    body = _join(left, right, taken) if beside else [*left, Text(), *right]
    return [
        _header(statement, width, unicode=unicode),
        *_summary(statement),
        Text(),
        *body,
    ]


def clip(value: str, width: int, *, unicode: bool) -> str:
    """Return a value cut to a width, the cut marked."""
    if len(value) <= width:
        return value
    mark = "…" if unicode else "~"
    return value[: max(0, width - 1)] + mark


def _header(statement: Statement, width: int, *, unicode: bool) -> Text:
    line, dot = ("─", " · ") if unicode else ("-", ", ")
    about = dot.join((statement.period, statement.timezone, statement.currency))
    name = clip(statement.tenant, max(8, width - len(about) - 8), unicode=unicode)
    fill = max(1, width - len(name) - len(about) - 5)
    return Text.assemble(
        (f"{line} ", "dim"), (name, "bold cyan"), (f" {line * fill} ", "dim"), (about, "dim")
    )


def _summary(statement: Statement) -> list[Text]:
    currency = statement.currency
    decimals = minor_units(currency)
    rows: list[tuple[str, str, Decimal, str]] = [
        ("charge", currency, statement.charge, "bold green")
    ]
    rows += [("provider cost", name, cost, "") for name, cost in sorted(statement.costs.items())]
    if statement.margin is not None:
        rows.append(("margin", currency, statement.margin, ""))
    shown = [number(round_money(amount, name), decimals) for _, name, amount, _ in rows]
    column = max(len(value) for value in shown)
    lines = []
    for (label, name, amount, style), value in zip(rows, shown, strict=True):
        line = Text.assemble(
            (f" {label:<14}", ""),
            (f"{name} {value:>{column}}", style),
            (f"   exactly {text(amount)}", "dim"),
        )
        if label == "margin" and statement.charge:
            percent = number(amount * 100 / statement.charge, 1)
            line.append(f" ({percent} % of the charge)", "dim")
        lines.append(line)
    counts = [f"{statement.events:,} events"]
    for count, what in (
        (statement.voided, "taken back"),
        (statement.unpriced, "without a price"),
    ):
        if count:
            counts.append(f"{count:,} {what}")
    return [*lines, Text(f" {', '.join(counts)}")]


def _meters(statement: Statement, *, wide: bool) -> list[Text]:
    """Return quantities by meter; with charges where there is room."""
    rows = [
        (meter, number(quantity), number(charge, 2))
        for meter, (quantity, charge) in sorted(statement.quantities.items())
        if quantity
    ]
    names = max((len(meter) for meter, _, _ in rows), default=5)
    amounts = max((len(quantity) for _, quantity, _ in rows), default=8)
    amounts = max(amounts, len("quantity"))
    head = f" {'meter':<{names}}  {'quantity':>{amounts}}" + ("    charge" if wide else "")
    lines = [Text(head, "dim")]
    for meter, quantity, charge in rows:
        line = f" {meter:<{names}}  {quantity:>{amounts}}"
        lines.append(Text(line + (f"  {charge:>8}" if wide else "")))
    return lines


def _models(statement: Statement, width: int, *, unicode: bool) -> list[Text]:
    ranked = sorted(statement.models.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [(name, charge) for name, charge in ranked[:TOP_MODELS] if charge]
    rest = ranked[len(shown) :]
    if sum(charge for _, charge in rest):
        shown.append((f"{len(rest)} others", sum((charge for _, charge in rest), Decimal(0))))
    room = min(width, 48) - 10
    lines = [Text(f"{'top models':<{room}}{'charge':>10}", "dim")]
    lines += [
        Text(f"{clip(name, room, unicode=unicode):<{room}}{number(charge, 2):>10}")
        for name, charge in shown
    ]
    return lines


def _chart(statement: Statement, width: int, *, unicode: bool) -> list[Text]:
    """Return the charges by day as bars, one column a day, or two where there is room."""
    year, month = (int(part) for part in statement.period.split("-"))
    days = [date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1)]
    charges = [statement.days.get(day, Decimal(0)) for day in days]
    top = max(charges)
    labels = (number(top, 2), number(top, 0), "")
    label = next(value for value in labels if not value or len(value) + 1 + len(days) <= width)
    zero = "0" if label else ""
    step = 2 if width >= len(label) + 2 * len(days) else 1
    edge, corner, floor = ("│", "└", "─") if unicode else ("|", "+", "-")
    steps = _EIGHTHS if unicode else _PLAIN_STEPS
    heights = [_height(charge, top, CHART_ROWS * (len(steps) - 1)) for charge in charges]
    lines = [Text("charge by day", "dim")]
    for row in reversed(range(CHART_ROWS)):
        side = label if row == CHART_ROWS - 1 else ""
        line = Text(f"{side:>{len(label)}}{edge}", "dim")
        for day, height in zip(days, heights, strict=True):
            mark = steps[min(max(height - row * (len(steps) - 1), 0), len(steps) - 1)]
            line.append(f"{mark:<{step}}", "cyan" if day.weekday() < 5 else "blue")
        line.rstrip()
        lines.append(line)
    lines.append(
        Text(f"{zero:>{len(label)}}{corner}{floor * (step * len(days) - step + 1)}", "dim")
    )
    marks = [" "] * (step * len(days) + 2)
    for tick in (1, 8, 15, 22, 29):
        if tick <= len(days):
            marks[(tick - 1) * step : (tick - 1) * step + len(str(tick))] = str(tick)
    lines.append(Text(" " * (len(label) + 1) + "".join(marks).rstrip(), "dim"))
    return lines


def _height(charge: Decimal, top: Decimal, whole: int) -> int:
    """Return a bar's height in steps; anything above zero shows."""
    if charge <= 0 or top <= 0:
        return 0
    return max(1, int(charge * whole / top))


def _join(left: Sequence[Text], right: Sequence[Text], taken: int) -> list[Text]:
    """Return two blocks side by side, the right one ``taken`` columns in."""
    lines = []
    for one, other in zip_longest(left, right, fillvalue=Text()):
        line = one.copy()
        if other.plain.strip():
            line.append(" " * (taken - len(one)))
            line.append_text(other)
        lines.append(line)
    return lines
