"""Documents of normalized responses; docs/spec/normalizers.md says what they mean."""

from __future__ import annotations

from typing import Any

from adapters.http.models.common import Amount, Answered, Time


class CallDocument(Answered):
    """One call that a response bills; ``part`` tells the parts of one response apart."""

    provider: str
    model: str
    quantities: dict[str, Amount]
    tier: str
    region: str
    batch: bool
    request_id: str
    part: str
    occurred_at: Time | None = None
    outcome: str
    flags: list[str]
    evidence: dict[str, Any]
    raw: dict[str, Any] | None = None


class CallsDocument(Answered):
    """The calls that a response bills, usually one."""

    calls: list[CallDocument]
