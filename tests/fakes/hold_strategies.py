"""Budgets, asks and captures of cost protection: drawn, and as callers write them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from fakes import hold_values as hv
from fakes.hold_values import Ask, Quantities, Rung, Terms, Who
from hypothesis import strategies as st

from ledger.domain.budgets import BudgetTerms, Filter, Step

MONEY = 10**18
QUANTITY = 10**6
SECOND = 1_000_000
INPUT, OUTPUT = "tokens.input", "tokens.output"
HOLD_IDS = tuple(f"h{n}" for n in range(12))
amounts = st.integers(0, 14).map(Decimal)
who = st.builds(Who, st.sampled_from(["", "ann", "bob"]), st.sampled_from(["", "blue"]))
quantities = st.fixed_dictionaries(
    {INPUT: st.integers(1, 3).map(Decimal)}, optional={OUTPUT: st.integers(0, 3).map(Decimal)}
)
LADDERS = (
    (("stop", 100),),
    (("inform", 50), ("warn", 80), ("stop", 100)),
    (("confirm", 50), ("stop", 100)),
    (("downgrade", 60), ("stop", 100)),
    (("inform", 50), ("projected", 100)),
    (("confirm", 100),),
)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Draw the terms of a budget: small limits, so that they are reached exactly and often."""
    limit = Decimal(draw(st.sampled_from([15, 30, 60])))
    scope, value = draw(
        st.sampled_from([("tenant", ""), ("tenant", ""), ("user", "ann"), ("label", "team=blue")])
    )
    steps = draw(st.sampled_from(LADDERS))
    return Terms(
        name=draw(st.sampled_from(["one", "two", "three"])),
        limit=limit,
        steps=tuple(
            Rung(kind, limit * percent / 100, "small" if kind == "downgrade" else "")
            for kind, percent in steps
        ),
        scope=scope,
        value=value,
        models=draw(st.sampled_from([(), (), (), ("big",), ("big", "new")])),
        meters=draw(st.sampled_from([(), (), (), (OUTPUT,)])),
        measure=draw(st.sampled_from(["charge", "charge", "charge", "cost", INPUT])),
        window=draw(st.sampled_from(["day", "day", "hour", "month", "lifetime", "rolling:2h"])),
        on_unpriced=draw(st.sampled_from(["deny", "deny", "allow"])),
        state=draw(st.sampled_from(["open"] * 9 + ["closed"])),
    )


backs = st.sampled_from([None, None, 0, 600, 4000])
"""How long ago, in seconds, a capture says that its call was; None where it says nothing."""
asks = st.one_of(
    st.builds(
        Ask,
        st.sampled_from(["big", "big", "small", "new"]),
        who,
        quantities=quantities.map(lambda q: tuple(sorted(q.items()))),
        ttl=st.sampled_from([60, 300, 5400]),
        on_expiry=st.sampled_from(["capture_progress", "capture_progress", "void", "capture_full"]),
    ),
    st.builds(
        Ask,
        st.sampled_from(["big", "small"]),
        who,
        st.one_of(amounts, amounts, st.just("available")),
        ttl=st.sampled_from([60, 300, 5400]),
        on_expiry=st.sampled_from(["capture_progress", "void"]),
    ),
    st.builds(
        Ask,
        st.sampled_from(["big", "small"]),
        who,
        st.integers(5, 25).map(Decimal),
        min_amount=st.integers(1, 5).map(Decimal),
    ),
)


def scaled(value: Decimal, terms: Terms) -> int:
    """Return a number of a budget in the ledger's form."""
    return int(value * (MONEY if terms.measure in ("charge", "cost") else QUANTITY))


def stored(terms: Terms) -> BudgetTerms:
    """Return terms as the ledger has them."""
    return BudgetTerms(
        name=terms.name,
        limit=scaled(terms.limit, terms),
        scope=terms.scope,
        value=terms.value,
        filter=Filter(models=terms.models, meters=terms.meters),
        measure=terms.measure,
        currency="USD" if terms.measure in ("charge", "cost") else "",
        window=terms.window,
        steps=tuple(
            Step(step.kind, 0, scaled(step.at, terms), step.model)  # type: ignore[arg-type] # drawn
            for step in terms.steps
        ),
        on_unpriced=terms.on_unpriced,  # type: ignore[arg-type] # drawn from its words
        state=terms.state,  # type: ignore[arg-type] # drawn from its words
    )


def document(id: str, ask: Ask) -> dict[str, Any]:
    """Return an ask as a caller writes it."""
    members = {
        "hold": id,
        "provider": "openai",
        "model": ask.model,
        "user": ask.who.user,
        "labels": {"team": ask.who.label} if ask.who.label else {},
        "amount": ask.amount,
        "quantities": dict(ask.quantities) if ask.amount is None else None,
        "min_amount": ask.min_amount,
        "ttl": ask.ttl,
        "on_expiry": ask.on_expiry,
    }
    return {name: value for name, value in members.items() if value is not None}


def capture_document(
    id: str, quantities: Quantities, *, final: bool, model: str, at: int | None
) -> dict[str, Any]:
    """Return a capture as a caller writes it."""
    members: dict[str, Any] = {"capture": id, "quantities": quantities, "final": final}
    if model:
        members |= {"provider": "openai", "model": model}
    return members if at is None else members | {"occurred_at": time_text(at)}


def time_text(at: int) -> str:
    """Return an instant as a caller writes it."""
    moment = hv.EPOCH + timedelta(microseconds=at)
    return moment.isoformat()
