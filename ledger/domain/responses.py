"""What a provider's response says was used: the result of normalizing it.

A normalizer (adapters/providers) turns one provider response, streamed or not, into one or more
`NormalizedCall`s: usually one, several where a provider bills parts of one response under
different models. Quantities are the disjoint leaves of `ledger.domain.meters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec


class NormalizedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One billable call as the provider's response describes it.

    Attributes:
        provider: who ran it, lower-case: ``openai``, ``anthropic``, ``google``, ``aws`` …
        model: the model as the response names it; "" where the response does not say.
        quantities: meter name to quantity, each >= 0; an explicit zero in the response is kept.
        tier: service tier that the response reports; "" is the standard one.
        region: region that the response reports; "" is unknown.
        batch: whether the response says that it was a batch call.
        request_id: the provider's id of the response; "" where there is none.
        part: "" for the main call; a short suffix that tells the parts of one response apart.
        occurred_at: the response's own time, UTC; None where it carries none.
        outcome: ``ok``, ``error`` or ``aborted``.
        flags: sorted remarks: ``overlap`` (classes overlap with no joint figure), ``estimated``,
            ``no_usage_in_stream`` …
        evidence: provider-stated figures kept for audit, never added to a computed cost.
        raw: the provider's usage object as it came.
    """

    provider: str
    model: str
    quantities: dict[str, Decimal]
    tier: str = ""
    region: str = ""
    batch: bool = False
    request_id: str = ""
    part: str = ""
    occurred_at: datetime | None = None
    outcome: str = "ok"
    flags: tuple[str, ...] = ()
    evidence: dict[str, Any] = {}
    raw: dict[str, Any] | None = None


class Normalizer(Protocol):
    """Turns provider responses into quantities; pure."""

    def __call__(
        self, *, provider: str, response: Mapping[str, Any] | Sequence[Any]
    ) -> tuple[NormalizedCall, ...]:
        """Return the calls that ``response`` bills.

        Args:
            provider: name of the API shape, such as ``openai`` or ``anthropic``.
            response: the decoded JSON response, or the list of a stream's decoded events in order.

        Raises:
            InvalidInput: the response fits no rule of that provider; ``pointer`` names the field.
        """
        ...
