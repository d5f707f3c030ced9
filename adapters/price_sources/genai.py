"""Read the provider data of the installed genai-prices package.

The data is read, never the package's calculator, which prices an unknown meter at 0. Only the
data that is bundled with the installed version counts: nothing is fetched. The format is that of
genai-prices 0.2, ``genai_prices.types``; docs/spec/price-sources.md says what becomes of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
from genai_prices.types import ClauseAnd, ClauseOr, ClauseRegex, ModelInfo, ModelPrice, Provider

from adapters.price_sources.genai_periods import contexts, periods
from adapters.price_sources.genai_units import cells_of
from adapters.price_sources.leaves import Cell, Cells, Proposals, meters_of
from ledger.domain.errors import InvariantViolation
from ledger.domain.money import text
from ledger.domain.prices import ModelMatch, PriceKey, PriceList

SOURCE = "genai-prices"
"""Name of this source in rows and price lists."""

PROVIDERS = {
    "anthropic": "anthropic",
    "aws": "aws",
    "azure": "azure",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "x-ai": "xai",
}
"""Our provider name by the package's id; an id that is not here keeps its own name."""


def load() -> PriceList:
    """Return what the installed genai-prices data proposes.

    Deterministic for an installed version; does no network access.
    """
    # Imported late: the data is a module of many thousand objects that few commands need.
    from genai_prices.data import providers  # noqa: PLC0415 - see above
    from genai_prices.data_units import unit_data  # noqa: PLC0415 - see above

    units = {unit.get("price_key", name): unit["per"] for name, unit in unit_data.items()}
    return price_list(providers=providers, units=units)


def price_list(*, providers: Sequence[Provider], units: Mapping[str, int]) -> PriceList:
    """Translate provider data to proposed rows.

    Args:
        providers: the data, in the package's types.
        units: units that a price buys, by price key: 1000000 for ``input_mtok``.

    Returns:
        Rows with dated history, matches in the data's order of precedence with each provider's
        fallback providers after its own models, and what could not be said.
    """
    by_id = {provider.id: provider for provider in providers}
    proposals = Proposals(source=SOURCE, digest=_digest(providers, units))
    matches: list[ModelMatch] = []
    for provider in providers:
        name = PROVIDERS.get(provider.id, provider.id)
        for home, model in _models(provider, by_id, proposals):
            matches.append(ModelMatch(provider=name, model=model.id, clause=clause(model.match)))
            _propose(
                proposals,
                provider=name,
                home=home.id,
                model=model,
                units=units,
                borrowed=home is not provider,
            )
    return proposals.price_list(matches=matches)


def clause(match: Any) -> dict[str, Any]:
    """Translate a match clause of the package to `ModelMatch.clause`.

    The package compares in lower case, so literals are lower-cased here and names must be
    lower-cased before they are compared; a regular expression is searched in that name.

    Raises:
        InvariantViolation: a kind of clause that this reader does not know.
    """
    if isinstance(match, ClauseOr):
        return {"or": [clause(part) for part in match.or_]}
    if isinstance(match, ClauseAnd):
        return {"and": [clause(part) for part in match.and_]}
    if isinstance(match, ClauseRegex):
        return {"regex": match.regex}
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        literal = getattr(match, kind, None)
        if isinstance(literal, str):
            return {kind: literal.lower()}
    raise InvariantViolation(f"genai-prices has a match clause of unknown kind: {match!r}")


def _models(
    provider: Provider, by_id: Mapping[str, Provider], proposals: Proposals
) -> Iterator[tuple[Provider, ModelInfo]]:
    """Yield own models, then those of the fallback providers under ids not yet taken."""
    taken: set[str] = set()
    others = (by_id.get(other) for other in provider.fallback_model_providers or ())
    for home in (provider, *(other for other in others if other)):
        for model in home.models:
            if model.id not in taken:
                taken.add(model.id)
                yield home, model
                continue
            proposals.skip(
                provider=PROVIDERS.get(provider.id, provider.id),
                model=model.id,
                reason=f"the entry of {home.id} is left out: an earlier entry has its id",
            )


def _propose(
    proposals: Proposals,
    *,
    provider: str,
    home: str,
    model: ModelInfo,
    units: Mapping[str, int],
    borrowed: bool,
) -> None:
    """Propose one model's standard rows and those of each tier and batch.

    A provider that borrows a model takes over its standard prices only, as the package does.
    """
    variants = () if borrowed else tuple(model.price_variants or ())
    for context in contexts(variants):
        label = f"{context.label}: " if context.label else ""
        if context.problem:
            proposals.skip(provider=provider, model=model.id, reason=f"{label}{context.problem}")
            continue
        priced: list[tuple[datetime, Cells]] = []
        unsaid: list[str] = []
        for period in periods(model, variants=variants, context=context):
            cells, reasons = cells_of(
                period.prices,
                units=units,
                home=home,
                model=model.id,
                provider=PROVIDERS.get(home, home),
                own=period.own,
            )
            priced.append((period.start, cells))
            reasons += [period.problem] if period.problem else []
            unsaid += reasons
            for reason in reasons:
                proposals.skip(provider=provider, model=model.id, reason=f"{label}{reason}")
        if not any(cells for _, cells in priced) and not unsaid:
            proposals.skip(provider=provider, model=model.id, reason=f"{label}no price is listed")
        key = PriceKey(
            provider=provider, model=model.id, meter="", tier=context.tier, batch=context.batch
        )
        note = f"no price of its own: that of {home}" if borrowed else ""
        _emit(proposals, key=key, label=label, priced=priced, note=note)


def _emit(
    proposals: Proposals,
    *,
    key: PriceKey,
    label: str,
    priced: Iterable[tuple[datetime, Cells]],
    note: str,
) -> None:
    """Propose a row for each change of a cell from one period to the next.

    A row has no end. A context threshold that a later period no longer has gets the rate that
    then holds above it; a meter that a later period no longer prices loses its earlier rows,
    which would otherwise go on to rate what the source leaves unpriced.
    """
    history: dict[tuple[str, int], list[tuple[datetime, Cell]]] = {}
    for start, cells in priced:
        current = meters_of(cells)
        for meter in sorted({meter for meter, _ in history} - current):
            history = {place: rows for place, rows in history.items() if place[0] != meter}
            proposals.skip(
                provider=key.provider,
                model=key.model,
                reason=f"{label}{meter}: unpriced from {start:%Y-%m-%d} on, and a row cannot end;"
                " its earlier prices are left out",
            )
        for meter, over in sorted({*cells, *history}):
            threshold = max(other for name, other in cells if name == meter and other <= over)
            cell = cells[meter, threshold]
            rows = history.setdefault((meter, over), [])
            if not rows or _price(rows[-1][1]) != _price(cell):
                rows.append((start, cell))
    for (meter, over), rows in history.items():
        for start, cell in rows:
            proposals.add(
                key=msgspec.structs.replace(key, meter=meter, context_over=over),
                effective_from=start,
                cell=msgspec.structs.replace(cell, note="; ".join(filter(None, (note, cell.note)))),
            )


def _price(cell: Cell) -> tuple[object, ...]:
    return cell.rate, cell.unit_size, cell.quantity_rule


def _digest(providers: Sequence[Provider], units: Mapping[str, int]) -> str:
    """Return the SHA-256 of the canonical JSON of what is read here, and of nothing else."""
    document = {
        "units": dict(units),
        "providers": [
            {
                "id": provider.id,
                "fallback": provider.fallback_model_providers or [],
                "models": [
                    [model.id, model.match, model.prices, model.price_variants or []]
                    for model in provider.models
                ],
            }
            for provider in providers
        ],
    }
    rendered = json.dumps(_canonical(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(rendered.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, ModelPrice):
        return _canonical({name: price for name, price in vars(value).items() if price is not None})
    if is_dataclass(value):
        members = {field.name: _canonical(getattr(value, field.name)) for field in fields(value)}
        return {type(value).__name__: members}
    if isinstance(value, Mapping):
        return {str(name): _canonical(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(member) for member in value]
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    return value
