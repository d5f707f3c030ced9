"""Hypothesis strategies: small spaces in which keys, sessions and corrections collide often."""

from __future__ import annotations

from decimal import Decimal

from fakes.building import adjust, both, catalog, usage, void
from fakes.oracle import TABLE, rows
from hypothesis import strategies as st

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, RerateUsage
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

METERS = {
    model: sorted({meter for name, meter, _ in TABLE if name == model}) for model, _, _ in TABLE
} | {"new": ["images", "tokens.input"]}
"""Meters that events of each model have; ``new`` has no price."""
IDS = ("e-0", "e-1", "e-2", "e-3")
TIMES = ("2026-11-03T12:00:00Z", "2026-11-30T23:59:59.999999Z", "2026-12-01T00:00:00Z")
_WHOLE = ("images", "tool.calls")


def _number(meter: str) -> st.SearchStrategy[Decimal]:
    whole = st.sampled_from([0, 1, 2, 7, 15, 999, 1000, 1001, 2500]).map(Decimal)
    if meter in _WHOLE:
        return whole
    fine = st.decimals(min_value=0, max_value=40, places=6, allow_nan=False)
    return whole | fine


@st.composite
def quantities(draw: st.DrawFn, model: str) -> dict[str, Decimal]:
    """Draw quantities of meters of a model; now and then of one that has no price."""
    meters = draw(st.lists(st.sampled_from(METERS[model]), min_size=1, max_size=3, unique=True))
    if draw(st.integers(0, 9)) == 0:
        meters = [*meters, "pages"]
    return {
        meter: draw(
            _number(meter) if meter != "pages" else st.sampled_from([Decimal(0), Decimal(1)])
        )
        for meter in meters
    }


@st.composite
def events(draw: st.DrawFn, *, id: str | None = None, tenant: str = "acme") -> RecordUsage:
    """Draw the recording of an event; a session lies in one month."""
    model = draw(st.sampled_from(sorted(METERS)))
    time = draw(st.sampled_from(TIMES))
    session = draw(st.sampled_from(["", "s-1", "s-2"]))
    return usage(
        id or draw(st.sampled_from(IDS)),
        tenant=tenant,
        model=model,
        time=time,
        session=f"{session} {time[:7]}" if session else "",
        quantities=draw(quantities(model)),
        user=draw(st.sampled_from(["", "u"])),
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[RecordUsage], list[VoidUsage | AdjustUsage]]:
    """Draw events with different keys, and at most one void and one adjustment of each."""
    recorded = [draw(events(id=f"e-{n}")) for n in range(draw(st.integers(1, 5)))]
    corrections: list[VoidUsage | AdjustUsage] = []
    for command in recorded:
        target = command.event.id
        if draw(st.integers(0, 3)) == 0:
            corrections.append(void(target, id=f"void {target}"))
        if draw(st.integers(0, 2)) == 0:
            numbers = draw(quantities(command.event.model))
            corrections.append(adjust(target, id=f"adjust {target}", quantities=numbers))
    return recorded, corrections


@st.composite
def commands(draw: st.DrawFn) -> Command:
    """Draw any command over few tenants, keys and targets: conflicts and repeats included."""
    kind = draw(st.sampled_from(["record", "record", "record", "void", "adjust", "rerate"]))
    tenant = draw(st.sampled_from(["acme", "other"]))
    target = draw(st.sampled_from(IDS))
    if kind == "record":
        return draw(events(tenant=tenant))
    if kind == "void":
        return void(target, id=draw(st.sampled_from(["v-0", "v-1"])), tenant=tenant)
    if kind == "adjust":
        model = draw(st.sampled_from(sorted(METERS)))
        id = draw(st.sampled_from(["a-0", "a-1"]))
        return adjust(target, id=id, tenant=tenant, quantities=draw(quantities(model)))
    return RerateUsage(tenant, "gateway", target, "price_changed")


NEW = [*both("images", "0.04", "0.03", model="new"), *both("tokens.input", "1", "2", model="new")]
DEARER = [
    *both("tokens.input", "5", "4", per=1_000_000),
    *both("tokens.output", "7", "6", per=1_000_000),
]
"""Other prices of tokens."""
CATALOGS: tuple[Catalog, ...] = (
    catalog(*rows()),
    catalog(*rows(), *NEW),
    catalog(*(row for row in rows() if row.row.key.model not in ("gpt", "live")), *DEARER, *NEW),
    Catalog(),
)
"""Catalogs to change between: prices appear, change and go, sessions stop being rounded."""
