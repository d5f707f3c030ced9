"""What every price source shares: cells, the rates that sources imply, and the collector.

A *cell* is the price of one meter above one context threshold. A source translates what it lists
into cells; `complete` adds the few leaves that providers price without listing them, each with a
note that names its rule; `Proposals` turns cells into checked rows and keeps the reasons for
everything that a row cannot say. docs/spec/price-sources.md states the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.money import text
from ledger.domain.prices import (
    EXACT_QUANTITY,
    ModelMatch,
    PriceKey,
    PriceList,
    PriceRow,
    QuantityRule,
)

REASONING_NOTE = "output rate: providers bill reasoning tokens as output"
IMAGE_NOTE = "input rate: no separate image price is listed"
WRITE_5M_NOTE = "cache write rate: Anthropic's listed write price is the 5 minute one"
WRITE_1H_NOTE = "2 x input rate: Anthropic documents 1 hour cache writes so"
WRITE_INPUT_NOTE = "input rate: OpenAI bills cache writes as ordinary input unless it lists them"
STANDARD_NOTE = "standard rate: none of its own is listed"
ZERO_NOTE = "the source lists 0"

_HOURLY_WRITE_PROVIDERS = frozenset({"anthropic", "aws", "azure", "google"})
"""Providers that run Anthropic's models at Anthropic's cache multipliers."""

_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One price without its key and date.

    Attributes:
        rate: USD for ``unit_size`` units, >= 0.
        unit_size: units that ``rate`` buys, > 0.
        note: how it was derived; "" where the source lists it literally.
        quantity_rule: rounding and minimum of the quantity.
    """

    rate: Decimal
    unit_size: Decimal
    note: str = ""
    quantity_rule: QuantityRule = EXACT_QUANTITY


Cells = dict[tuple[str, int], Cell]
"""Cells by (meter, context_over)."""


def meters_of(cells: Cells) -> frozenset[str]:
    """Return the meters that have a cell."""
    return frozenset(meter for meter, _ in cells)


def without(cells: Cells, *, meters: Iterable[str]) -> Cells:
    """Return the cells of all other meters."""
    gone = frozenset(meters)
    return {place: cell for place, cell in cells.items() if place[0] not in gone}


def keep_exact(cells: Cells) -> tuple[Cells, list[str]]:
    """Drop the meters of which any cell cannot be a row, and say why.

    A meter goes as a whole: keeping the base rate of one whose long-context rate is not exact
    would price long requests at the base rate.

    Returns:
        The remaining cells, and a reason for each meter that was dropped.
    """
    reasons: dict[str, str] = {}
    for (meter, over), cell in cells.items():
        row = PriceRow(
            key=PriceKey(provider="", model="", meter=meter, context_over=over),
            effective_from=_ANY_TIME,
            rate=cell.rate,
            unit_size=cell.unit_size,
        )
        try:
            row.check()
        except InvalidInput as error:
            reasons[meter] = f"{meter}: {error.message}"
    return without(cells, meters=reasons), list(reasons.values())


def uneven(cells: Cells) -> list[str]:
    """Report token meters without a context threshold that the input rate has.

    Such a meter keeps its base rate in long requests, which is what the sources do with it; the
    report is there because it may as well be an omission.
    """
    thresholds = sorted(over for meter, over in cells if meter == "tokens.input" and over)
    tokens = sorted(meter for meter in meters_of(cells) if meter.startswith("tokens."))
    return [
        f"{meter}: no rate over {over} input tokens is listed, as tokens.input has;"
        " the rate below stands"
        for over in thresholds
        for meter in tokens
        if (meter, over) not in cells
    ]


def complete(cells: Cells, *, provider: str, model: str) -> Cells:
    """Add the leaves that are priced without being listed.

    Args:
        cells: what the source lists, all exact.
        provider: our name of the provider whose model it is.
        model: the model's id; models with ``claude`` in it are Anthropic's.

    Returns:
        The cells and the derived ones; a listed meter is never replaced.
    """
    result = dict(cells)
    claude = "claude" in model.lower()
    _derive(result, source="tokens.output", target="tokens.output.reasoning", note=REASONING_NOTE)
    _derive(result, source="tokens.input", target="tokens.input.image", note=IMAGE_NOTE)
    listed = meters_of(cells)
    if claude and "tokens.input.cache_write" in listed:
        _derive(
            result,
            source="tokens.input.cache_write",
            target="tokens.input.cache_write.5m",
            note=WRITE_5M_NOTE,
        )
        if provider in _HOURLY_WRITE_PROVIDERS:
            _derive(
                result,
                source="tokens.input",
                target="tokens.input.cache_write.1h",
                note=WRITE_1H_NOTE,
                factor=2,
            )
    caches_text = "tokens.input.cache_read" in listed and "tokens.input.audio" not in listed
    if provider == "openai" and caches_text:
        _derive(
            result,
            source="tokens.input",
            target="tokens.input.cache_write",
            note=WRITE_INPUT_NOTE,
        )
    return result


def _derive(cells: Cells, *, source: str, target: str, note: str, factor: int = 1) -> None:
    if target in meters_of(cells):
        return
    for (meter, over), cell in list(cells.items()):
        if meter == source:
            cells[target, over] = Cell(rate=cell.rate * factor, unit_size=cell.unit_size, note=note)


class Proposals:
    """Collects rows and reasons of one source.

    Args:
        source: the source's name.
        digest: hex digest of the source's data.
    """

    def __init__(self, *, source: str, digest: str) -> None:
        self._source = source
        self._digest = digest
        self._rows: dict[tuple[PriceKey, datetime], PriceRow] = {}
        self._contested: set[tuple[PriceKey, datetime]] = set()
        self._skipped: dict[str, None] = {}

    def skip(self, *, provider: str, model: str, reason: str) -> None:
        """Record what a row cannot say; the same reason twice is recorded once."""
        self._skipped[f"{provider}/{model}: {reason}"] = None

    def add(self, *, key: PriceKey, effective_from: datetime, cell: Cell) -> None:
        """Propose one row.

        A second, equal price for the same key and date changes nothing; a different one removes
        both, since the source contradicts itself and neither can be preferred.

        Raises:
            InvalidInput: the row breaks a rule of `PriceRow.check`.
        """
        row = PriceRow(
            key=key,
            effective_from=effective_from,
            rate=cell.rate,
            unit_size=cell.unit_size,
            quantity_rule=cell.quantity_rule,
            source=self._source,
            source_digest=self._digest,
            note=cell.note or ("" if cell.rate else ZERO_NOTE),
        )
        row.check()
        place = (key, effective_from)
        known = self._rows.get(place)
        if place in self._contested:
            self._contradict(row)
        elif known is None:
            self._rows[place] = row
        elif known.unit_rate() != row.unit_rate() or known.quantity_rule != row.quantity_rule:
            del self._rows[place]
            self._contested.add(place)
            self._contradict(known)
            self._contradict(row)

    def _contradict(self, row: PriceRow) -> None:
        key = row.key
        where = " ".join(
            word
            for word in (
                key.meter,
                key.region,
                key.tier,
                "batch" if key.batch else "",
                f"over {key.context_over}" if key.context_over else "",
            )
            if word
        )
        self.skip(
            provider=key.provider,
            model=key.model,
            reason=f"{where}: the source contradicts itself, one entry says"
            f" {text(row.unit_rate())} USD a unit",
        )

    def price_list(self, *, matches: Iterable[ModelMatch]) -> PriceList:
        """Return everything collected; rows are sorted by key and date."""
        order = sorted(self._rows)
        return PriceList(
            source=self._source,
            digest=self._digest,
            rows=tuple(self._rows[place] for place in order),
            matches=tuple(matches),
            skipped=tuple(self._skipped),
        )
