"""Read a LiteLLM price map file, ``model_prices_and_context_window.json``.

The file is one JSON object: a key per model, an entry with ``litellm_provider``, ``mode`` and
prices in USD a unit. It has no history, so every row holds from a date that the caller gives.
docs/spec/price-sources.md says what becomes of each field.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from adapters.price_sources.leaves import Proposals
from adapters.price_sources.litellm_fields import is_price, read
from ledger.domain.errors import InvalidInput, Unavailable
from ledger.domain.prices import ModelMatch, PriceKey, PriceList
from ledger.domain.provider_names import from_litellm

SOURCE = "litellm"
"""Name of this source in rows and price lists."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Largest file that is read; the published one has about 2 MB."""

_NOT_MODELS = frozenset({"sample_spec", "fallback_generalizations"})
_AWS_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]")
_AZURE_ZONES = frozenset({"eu", "us", "global", "global-standard"})


def load(*, path: Path, effective_from: datetime) -> PriceList:
    """Return what a price map file proposes.

    Args:
        path: the JSON file, at most `MAX_FILE_BYTES` long.
        effective_from: from when on the prices hold, with offset: the time of the import.

    Raises:
        Unavailable: ``price_file_unreadable``: the file cannot be opened or read.
        InvalidInput: as `parse`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(
            f"price file {path} cannot be read: {error.strerror}", code="price_file_unreadable"
        ) from error
    return parse(data=data, effective_from=effective_from)


def parse(*, data: bytes, effective_from: datetime) -> PriceList:
    """Return what the content of a price map file proposes.

    Numbers are decoded from their literal text, never through a float.

    Args:
        data: the JSON text, UTF-8.
        effective_from: from when on the prices hold, with offset.

    Raises:
        InvalidInput: ``invalid_price_file`` with a pointer to the offending member;
            ``invalid_time`` if ``effective_from`` has no offset.
    """
    if effective_from.tzinfo is None:
        raise InvalidInput(
            "effective_from has no offset; give one, such as +00:00",
            code="invalid_time",
            pointer="/effective_from",
        )
    proposals = Proposals(source=SOURCE, digest=hashlib.sha256(data).hexdigest())
    names: dict[tuple[str, str], set[str]] = {}
    for key, entry in _entries(data).items():
        if key in _NOT_MODELS:
            continue
        provider, model, region = _place(key, _provider_of(key, entry))
        if not model:
            raise _invalid("its key names no model", key)
        rates = _rates(key, entry)
        said = read(entry={**entry, **rates}, rates=rates, provider=provider, model=model)
        for reason in said.reasons:
            proposals.skip(provider=provider, model=model, reason=_in(region) + reason)
        if not said.reasons and not any(said.cells.values()):
            proposals.skip(
                provider=provider, model=model, reason=_in(region) + "no price is listed"
            )
        for (tier, batch), cells in said.cells.items():
            for (meter, over), cell in cells.items():
                row_key = PriceKey(
                    provider=provider,
                    model=model,
                    meter=meter,
                    region=region,
                    tier=tier,
                    batch=batch,
                    context_over=over,
                )
                proposals.add(key=row_key, effective_from=effective_from.astimezone(UTC), cell=cell)
        names.setdefault((provider, model), {model.lower()}).update(_aliases(key, entry))
    return proposals.price_list(
        matches=(
            ModelMatch(provider=provider, model=model, clause=_clause(sorted(spelled)))
            for (provider, model), spelled in names.items()
        )
    )


def _entries(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FILE_BYTES:
        raise _invalid(f"it is longer than {MAX_FILE_BYTES} bytes")
    try:
        document = msgspec.json.Decoder(float_hook=Decimal).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError) as error:
        raise _invalid(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("it is not an object with a member for each model")
    return document


def _provider_of(key: str, entry: object) -> str:
    if not isinstance(entry, dict):
        raise _invalid("it is not an object with prices", key)
    provider = entry.get("litellm_provider")
    if not isinstance(provider, str) or not provider:
        raise _invalid("it is not a provider's name", key, "litellm_provider")
    return provider


def _rates(key: str, entry: dict[str, Any]) -> dict[str, Decimal]:
    """Return the numeric price fields; null is a price that is not known."""
    rates: dict[str, Decimal] = {}
    for field, value in entry.items():
        if not is_price(field) or value is None:
            continue
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            rate = Decimal(value)
            if rate < 0:
                raise _invalid(f"price {rate} is below 0", key, field)
            rates[field] = rate
        elif not isinstance(value, (dict, list)):
            raise _invalid(f"{value!r} is not a price; give a JSON number", key, field)
    return rates


def _place(key: str, litellm_provider: str) -> tuple[str, str, str]:
    """Return our provider, the model and the region that a key means."""
    provider = from_litellm(litellm_provider)
    first, slash, rest = key.partition("/")
    model = key
    if slash and re.match(rf"{re.escape(first)}(?:[-_]|$)", litellm_provider):
        model = rest
    zone, slash, rest = model.partition("/")
    if slash and provider == "aws" and (zone == "*" or _AWS_REGION.fullmatch(zone)):
        return provider, rest, "" if zone == "*" else zone
    if slash and provider == "azure" and zone in _AZURE_ZONES:
        return provider, rest, zone
    return provider, model, ""


def _aliases(key: str, entry: dict[str, Any]) -> set[str]:
    aliases = entry.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(name, str) for name in aliases):
        raise _invalid("it is not a list of names", key, "aliases")
    return {_place(name, entry["litellm_provider"])[1].lower() for name in aliases}


def _clause(names: list[str]) -> dict[str, Any]:
    clauses = [{"equals": name} for name in names]
    return clauses[0] if len(clauses) == 1 else {"or": clauses}


def _in(region: str) -> str:
    return f"{region}: " if region else ""


def _invalid(what: str, *path: str) -> InvalidInput:
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    where = f" at {pointer}" if pointer else ""
    return InvalidInput(
        f"this is not a LiteLLM price map{where}: {what}",
        code="invalid_price_file",
        pointer=pointer,
    )
