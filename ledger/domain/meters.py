"""Meters: the disjoint, additive leaves in which usage is counted.

No leaf contains another: `tokens.input` is what remains of the input after cached, audio and
image tokens have been taken out. See docs/spec/metering.md.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from ledger.domain.errors import InvalidInput

QUANTITY_DECIMALS = 6
"""Most decimals that a quantity may have."""
QUANTITY_LIMIT = 10**18
"""Quantities are below this number of units."""
MAX_METERS_PER_EVENT = 32
"""Most meters that one usage event may carry."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._][a-z0-9]+)*")


class Aggregation(StrEnum):
    """How a period's quantity is made of its events' quantities."""

    SUM = "sum"
    MAX = "max"
    UNIQUE_COUNT = "unique_count"


class Meter(msgspec.Struct, frozen=True):
    """One thing that is counted.

    Attributes:
        name: dotted lower-case name, at most 64 characters.
        unit: what one unit is: ``token``, ``second``, ``character``, ``call`` …
        decimals: most decimals a quantity of it may have, 0 to 6.
        aggregation: how events add up over a period.
    """

    name: str
    unit: str
    decimals: int = 0
    aggregation: Aggregation = Aggregation.SUM

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > 64:
            raise InvalidInput(
                f"meter name {self.name!r} is not dotted lower-case words of at most 64 characters",
                code="invalid_meter",
            )
        if not 0 <= self.decimals <= QUANTITY_DECIMALS:
            raise InvalidInput(
                f"meter {self.name} has {self.decimals} decimals; 0 to 6 are possible",
                code="invalid_meter",
            )


def _standard() -> tuple[Meter, ...]:
    tokens = (
        "tokens.input",
        "tokens.input.cache_read",
        "tokens.input.cache_write",
        "tokens.input.cache_write.5m",
        "tokens.input.cache_write.1h",
        "tokens.input.audio",
        "tokens.input.image",
        "tokens.output",
        "tokens.output.reasoning",
        "tokens.output.audio",
        "tokens.output.image",
    )
    seconds = ("audio.stt.seconds", "audio.tts.seconds", "audio.session.seconds", "stream.seconds")
    return (
        *(Meter(name=name, unit="token", decimals=6) for name in tokens),
        *(Meter(name=name, unit="second", decimals=6) for name in seconds),
        Meter(name="tts.characters", unit="character"),
        Meter(name="tool.calls", unit="call"),
        Meter(name="search.web", unit="search"),
        Meter(name="search.file", unit="search"),
        Meter(name="retrieval.queries", unit="query"),
        Meter(name="code.sessions", unit="session"),
        Meter(name="images", unit="image"),
        Meter(name="pages", unit="page"),
        Meter(name="requests", unit="request"),
    )


STANDARD_METERS: dict[str, Meter] = {meter.name: meter for meter in _standard()}
"""The meters every ledger knows, by name (docs/spec/metering.md lists them)."""
