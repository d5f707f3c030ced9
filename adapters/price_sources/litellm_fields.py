"""Translate the price fields of one LiteLLM entry to cells on our meters.

A field is a base name and modifiers: ``input_cost_per_token_above_200k_tokens_priority`` is the
base ``input_cost_per_token`` above 200,000 input tokens in the tier ``priority``. All amounts are
USD for one unit. Source of the format: the JSON schema beside LiteLLM's
``model_prices_and_context_window.json``, and its cost calculator for what a threshold means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from adapters.price_sources.leaves import STANDARD_NOTE, Cell, Cells, complete, keep_exact, uneven

_LEAVES = {
    "input_cost_per_token": "tokens.input",
    "cache_read_input_token_cost": "tokens.input.cache_read",
    "cache_creation_input_token_cost": "tokens.input.cache_write",
    "cache_creation_input_token_cost_above_1hr": "tokens.input.cache_write.1h",
    "input_cost_per_audio_token": "tokens.input.audio",
    "input_cost_per_image_token": "tokens.input.image",
    "output_cost_per_token": "tokens.output",
    "output_cost_per_reasoning_token": "tokens.output.reasoning",
    "output_cost_per_audio_token": "tokens.output.audio",
    "output_cost_per_image_token": "tokens.output.image",
    "input_cost_per_request": "requests",
    "code_interpreter_cost_per_session": "code.sessions",
    "file_search_cost_per_1k_calls": "search.file",
    "ocr_cost_per_page": "pages",
}
"""Fields that mean one meter in every mode."""

_LEAVES_BY_MODE = {
    ("audio_transcription", "input_cost_per_second"): "audio.stt.seconds",
    ("audio_speech", "output_cost_per_second"): "audio.tts.seconds",
    ("audio_speech", "input_cost_per_character"): "tts.characters",
    ("search", "input_cost_per_query"): "search.web",
}
"""Fields whose unit depends on the entry's mode."""

_UNIT_SIZES = {"search.file": Decimal(1000)}
_SEARCH_SIZES = ("low", "medium", "high")
_ABOVE = re.compile(r"_above_([0-9]+)(k?)_tokens")
_TIERS = ("_ultrafast", "_priority", "_flex", "_fast")
_PRICE_WORDS = re.compile(
    r"(?:^|_)(?:costs?|prices?|pricing|multiplier|uplift)(?:_|$)|^off_peak|^provider_specific_entry$"
)
_INCLUSIVE_THRESHOLDS = frozenset({"xai"})
"""Providers whose long-context rate holds from the threshold on, not only past it."""

Context = tuple[str, bool]
"""Service tier and batch."""


class Fields(msgspec.Struct, frozen=True):
    """What an entry's fields say.

    Attributes:
        cells: exact cells by (tier, batch), derived ones included.
        reasons: why the other price fields are not among them, by field or meter.
    """

    cells: dict[Context, Cells]
    reasons: list[str]


def is_price(field: str) -> bool:
    """Return whether a field's name says that it carries or changes a price."""
    return bool(_PRICE_WORDS.search(field))


def read(
    *, entry: Mapping[str, object], rates: Mapping[str, Decimal], provider: str, model: str
) -> Fields:
    """Translate an entry.

    Args:
        entry: the entry as decoded; its ``mode`` and its non-numeric price fields are read.
        rates: its numeric price fields, each >= 0.
        provider: our name of the provider.
        model: the model's name without the provider's prefix.
    """
    reasons = _unsaid(entry)
    if any(name == "tiered_pricing" or name.startswith("off_peak") for name in entry):
        return Fields({}, [f"{reason}; the entry is left out as a whole" for reason in reasons])
    mode = str(entry.get("mode") or "")
    listed: dict[Context, Cells] = {}
    for field, rate in rates.items():
        base, over, context = _split(field, provider=provider)
        meter, problem = _meter(base, mode, rates)
        if meter:
            unit_size = _UNIT_SIZES.get(meter, Decimal(1))
            note = _note(over, provider=provider)
            if base not in _LEAVES and (mode, base) not in _LEAVES_BY_MODE:
                note = f"listed as {base}"
            cell = Cell(rate=rate, unit_size=unit_size, note=note)
            listed.setdefault(context, {}).setdefault((meter, over), cell)
        else:
            reasons.append(f"{field}: {problem}")
    search, problem = _search(entry)
    if search is not None:
        listed.setdefault(("", False), {}).setdefault(("search.web", 0), search)
    elif problem:
        reasons.append(problem)
    return _resolve(listed, reasons, provider=provider, model=model)


def _resolve(
    listed: dict[Context, Cells], reasons: list[str], *, provider: str, model: str
) -> Fields:
    standard, inexact = keep_exact(_based(listed.get(("", False), {}), reasons, label=""))
    reasons += inexact
    result: dict[Context, Cells] = {}
    for context, own in listed.items():
        tier, batch = context
        label = f"{tier}{' ' if tier and batch else ''}{'batch' if batch else ''}"
        cells = own
        if tier and not batch:
            # LiteLLM charges the standard rate for what a tier does not list. For a batch it
            # prices only what is listed, so nothing is filled in there.
            cells = {
                place: msgspec.structs.replace(
                    cell, note="; ".join(filter(None, (cell.note, STANDARD_NOTE)))
                )
                for place, cell in standard.items()
            } | own
        if context != ("", False):
            exact, inexact = keep_exact(_based(cells, reasons, label=f"{label}: "))
            reasons += [f"{label}: {reason}" for reason in inexact]
        else:
            exact = standard
        reasons += [f"{label}: {reason}" if label else reason for reason in uneven(exact)]
        result[context] = complete(exact, provider=provider, model=model)
    return Fields(result, reasons)


def _based(cells: Cells, reasons: list[str], *, label: str) -> Cells:
    """Drop long-context rates of meters that have no rate below the threshold."""
    kept: Cells = {}
    for (meter, over), cell in cells.items():
        if (meter, 0) in cells:
            kept[meter, over] = cell
        else:
            reasons.append(f"{label}{meter} over {over}: no rate below that threshold is listed")
    return kept


def _split(field: str, *, provider: str) -> tuple[str, int, Context]:
    over = 0
    if found := _ABOVE.search(field):
        over = int(found[1]) * (1000 if found[2] else 1)
        if provider in _INCLUSIVE_THRESHOLDS:
            over = max(0, over - 1)
        field = field[: found.start()] + field[found.end() :]
    batch = field.endswith("_batches")
    field = field.removesuffix("_batches")
    tier = next((name for name in _TIERS if field.endswith(name)), "")
    return field.removesuffix(tier), over, (tier.removeprefix("_"), batch)


def _note(over: int, *, provider: str) -> str:
    if over and provider in _INCLUSIVE_THRESHOLDS:
        return f"from {over + 1} input tokens on: the provider's threshold is inclusive"
    return ""


def _meter(base: str, mode: str, rates: Mapping[str, Decimal]) -> tuple[str, str]:
    """Return a field's meter, or "" and the reason why it has none."""
    meter = _LEAVES.get(base) or _LEAVES_BY_MODE.get((mode, base), "")
    if meter:
        return meter, ""
    if base == "input_cost_per_token_cache_hit":
        if "cache_read_input_token_cost" not in rates:
            return "tokens.input.cache_read", ""
        return "", "cache_read_input_token_cost is listed too and is the one that is used"
    if mode in {"image_generation", "image_edit"}:
        if base == "output_cost_per_image" and "output_cost_per_image_token" not in rates:
            return "images", ""
        if base == "input_cost_per_image" and not _made_images(rates):
            return "images", ""
    if base == "output_cost_per_image":
        return "", "images of this model are priced by their tokens, or not as its main output"
    if base == "output_cost_per_second" and mode == "audio_transcription":
        if "input_cost_per_second" not in rates:
            return "audio.stt.seconds", ""
        return "", "input_cost_per_second is listed too and is the one that is used"
    return "", f"no meter counts it in mode {mode or 'unknown'}"


def _made_images(rates: Mapping[str, Decimal]) -> bool:
    return "output_cost_per_image" in rates or "output_cost_per_image_token" in rates


def _search(entry: Mapping[str, object]) -> tuple[Cell | None, str]:
    """Return the price of a web search where it does not depend on the context size."""
    sizes = entry.get("search_context_cost_per_query")
    if not isinstance(sizes, Mapping):
        return None, ""
    name = "search_context_cost_per_query"
    if entry.get("web_search_billing_unit") == "per_prompt":
        return None, f"{name}: billed by prompt, and search.web counts searches"
    rates = {Decimal(rate) for rate in sizes.values() if isinstance(rate, (int, Decimal))}
    if len(rates) != 1 or len(sizes) < len(_SEARCH_SIZES):
        return None, f"{name}: the price depends on the search context size, which a row cannot say"
    return Cell(rate=rates.pop(), unit_size=Decimal(1)), ""


def _unsaid(entry: Mapping[str, object]) -> list[str]:
    """Return reasons for price fields that are not plain numbers."""
    reasons = []
    for name, value in entry.items():
        known = name == "search_context_cost_per_query" or value is None
        if is_price(name) and not known and not isinstance(value, Decimal):
            reasons.append(f"{name}: not a plain price of one meter")
    return reasons
