"""Translate price keys of genai-prices to cells on our meters.

The package prices *units* that contain each other (``input_mtok`` includes cached, audio and
image input) and bills the most specific listed one; ours are disjoint leaves. Where it lists a
unit for which we have no leaf, the tokens land in a wider leaf: nothing is lost if both prices
are equal, otherwise the difference is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from genai_prices.types import TieredPrices

from adapters.price_sources.leaves import STANDARD_NOTE, Cell, Cells, complete, keep_exact, uneven
from ledger.domain.money import RoundingMode
from ledger.domain.prices import EXACT_QUANTITY, QuantityRule, RoundingScope

_LEAVES = {
    "input_mtok": "tokens.input",
    "cache_read_mtok": "tokens.input.cache_read",
    "cache_write_mtok": "tokens.input.cache_write",
    "cache_write_5m_mtok": "tokens.input.cache_write.5m",
    "cache_write_1h_mtok": "tokens.input.cache_write.1h",
    "input_audio_mtok": "tokens.input.audio",
    "input_image_mtok": "tokens.input.image",
    "output_mtok": "tokens.output",
    "output_reasoning_mtok": "tokens.output.reasoning",
    "output_audio_mtok": "tokens.output.audio",
    "output_image_mtok": "tokens.output.image",
    "input_audio_hours": "audio.stt.seconds",
    "output_audio_hours": "audio.tts.seconds",
    "input_mchars": "tts.characters",
    "input_document_kpages": "pages",
    "web_searches_kcount": "search.web",
    "storage_searches_kcount": "search.file",
    "requests_kcount": "requests",
}

_LANDS_IN = {
    "cache_text_read_mtok": "cache_read_mtok",
    "cache_audio_read_mtok": "cache_read_mtok",
    "cache_image_read_mtok": "cache_read_mtok",
    "cache_video_read_mtok": "cache_read_mtok",
    "cache_text_write_mtok": "cache_write_mtok",
    "cache_audio_write_mtok": "cache_write_mtok",
    "cache_image_write_mtok": "cache_write_mtok",
    "cache_video_write_mtok": "cache_write_mtok",
    "input_text_mtok": "input_mtok",
    "input_video_mtok": "input_mtok",
    "input_tool_mtok": "input_mtok",
    "output_text_mtok": "output_mtok",
    "output_video_mtok": "output_mtok",
    "output_citation_mtok": "output_mtok",
    "input_annotated_document_kpages": "input_document_kpages",
}
"""Units without a leaf, and the listed unit whose leaf counts them."""

_PER_REQUEST = RoundingScope.REQUEST
_QUANTITY_RULES = {
    ("openai", "whisper-1"): (
        QuantityRule(increment=Decimal(1), mode=RoundingMode.HALF_UP, scope=_PER_REQUEST),
        "rounded to the nearest second a request: OpenAI's price list",
    ),
    **dict.fromkeys(
        (("groq", "whisper-large-v3"), ("groq", "whisper-large-v3-turbo")),
        (
            QuantityRule(minimum=Decimal(10), scope=_PER_REQUEST),
            "at least 10 seconds a request: the package's own rule for this model",
        ),
    ),
}
"""Rounding of transcribed seconds by (genai provider id, model id), which no price key says."""

_CONTESTED = {
    ("perplexity", "requests_kcount"): "it is the highest of several request prices, by the"
    " source's own comment",
}
"""Prices that the source itself calls an approximation."""


def cells_of(
    prices: Mapping[str, object],
    *,
    units: Mapping[str, int],
    home: str,
    model: str,
    provider: str,
    own: frozenset[str] | None = None,
) -> tuple[Cells, list[str]]:
    """Translate one set of prices.

    Args:
        prices: price key to a Decimal or `TieredPrices`, in USD for the unit's ``per``.
        units: ``per`` (units that a price buys) by price key.
        home: the package's id of the provider whose model it is.
        model: the model's id.
        provider: our name of the home provider.
        own: price keys that a tier or batch lists itself; the others are the standard prices,
            and their cells' notes say so. None for the standard prices.

    Returns:
        Exact cells, derived ones included, and a reason for each price that is not among them.
    """
    listed: Cells = {}
    reasons: list[str] = []
    for key, price in prices.items():
        if price is None:
            continue
        meter = _meter(key, prices)
        if problem := _problem(home, key, price, units):
            reasons.append(f"{key}: {problem}")
        elif meter:
            rule, note = EXACT_QUANTITY, ""
            if meter == "audio.stt.seconds":
                rule, note = _QUANTITY_RULES.get((home, model), (rule, note))
            if own is not None and key not in own:
                note = "; ".join(filter(None, (note, STANDARD_NOTE)))
            for over, rate in _tiers(price):
                listed[meter, over] = Cell(
                    rate=rate, unit_size=Decimal(units[key]), note=note, quantity_rule=rule
                )
        elif problem := _lost(key, price, prices):
            reasons.append(f"{key}: {problem}")
    exact, inexact = keep_exact(listed)
    reasons += inexact + uneven(exact)
    return complete(exact, provider=provider, model=model), reasons


def _meter(key: str, prices: Mapping[str, object]) -> str:
    # `audio_hours` is the wider unit of both directions. Models that list only it bill the time
    # of a connected session; the others list transcribed hours beside it.
    if key == "audio_hours" and "input_audio_hours" not in prices:
        return "audio.session.seconds"
    return _LEAVES.get(key, "")


def _tiers(price: object) -> list[tuple[int, Decimal]]:
    # The package applies a tier to requests with more input tokens than its `start`, which is
    # what context_over says: the number carries over as it is.
    if isinstance(price, TieredPrices):
        return [(0, price.base), *((tier.start, tier.price) for tier in price.tiers)]
    return [(0, price)] if isinstance(price, Decimal) else []


def _problem(home: str, key: str, price: object, units: Mapping[str, int]) -> str:
    if (home, key) in _CONTESTED:
        return _CONTESTED[home, key]
    if key not in units:
        return "the unit is not in the package's registry"
    rates: Sequence[tuple[object, object]] = _tiers(price)
    if not rates or not all(type(n) is int and isinstance(r, Decimal) for n, r in rates):
        return f"{price!r} is not a price that this reader knows"
    return ""


def _lost(key: str, price: object, prices: Mapping[str, object]) -> str:
    wider = "input_audio_hours" if key == "audio_hours" else _LANDS_IN.get(key, "")
    if wider not in prices:
        return "no meter counts it"
    if prices[wider] == price:
        return ""
    return f"no meter of its own, and it differs from {wider}, with which it is counted"
