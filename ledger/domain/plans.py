"""Plans: what a subscriber is charged for which usage, and what for having the plan at all.

A plan is a value: its versions are published one after another and never edited
(`ledger.domain.plan_versions`). Stored versions are read by these classes, so their rules may
only ever be loosened, and members only be added, with a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from typing import Any, TypeVar

import msgspec

from ledger.domain.billing_periods import BillingCycle, BillingPeriod, prorate_by_day
from ledger.domain.charge_models import ChargeModel, Commitment
from ledger.domain.errors import InvalidInput
from ledger.domain.json_members import check_members_once
from ledger.domain.meters import (
    MAX_METERS_PER_EVENT,
    QUANTITY_DECIMALS,
    QUANTITY_LIMIT,
    STANDARD_METERS,
)
from ledger.domain.money import EXACT, RATE_DECIMALS, minor_units
from ledger.domain.patterns import matches
from ledger.domain.tiers import ZERO, check_number
from ledger.domain.usage import check_text

MAX_CHARGES = 200
"""Most charges of a plan, and most fees."""
MAX_PATTERNS = MAX_METERS_PER_EVENT
"""Most patterns of one kind in a charge's filter."""
HOUR = "hour"
WINDOWS = ("", HOUR, "day")
"""Windows in which a model may run anew; all of them nest in billing periods."""

_Read = TypeVar("_Read")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*")
_PATH = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")


class PlanCharge(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One charge of a plan: which usage it takes, and its model.

    A pattern is a name, or its beginning and ``*``. An empty list of providers or models is all.

    Attributes:
        name: unique in the plan; its lines and its running quantity go by it.
        meters: patterns of the meters whose quantities it sums; at least one.
        model: what the sum costs.
        providers: patterns.
        models: patterns.
        byok: whether calls with the tenant's own provider key count.
        included: billed units of each whole period that the plan's fees pay for; prorated with
            the period, unlike the model's ``free_quantity``.
        window: ``hour`` or ``day``: the model runs anew in each; "" is the billing period.
    """

    name: str
    meters: tuple[str, ...]
    model: ChargeModel
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    byok: bool = True
    included: Decimal = ZERO
    window: str = ""

    def takes(self, *, provider: str, model: str, meter: str, byok: bool) -> bool:
        """Tell whether usage of this kind is this charge's to take."""
        return (
            matches(self.meters, meter)
            and (self.byok or not byok)
            and (not self.providers or matches(self.providers, provider))
            and (not self.models or matches(self.models, model))
        )

    def model_for(self, period: BillingPeriod, *, first_day: date, after_day: date) -> ChargeModel:
        """Return the model as it is for the days of a period from one to before another.

        What belongs to a whole period goes by its days: included and free units, minimum,
        maximum and what the commitment is worth. Tiers, rates and their fees stay as they are.
        With a window the model already belongs to a part of the period; nothing is prorated.
        """
        model = self.model
        if self.window:
            return model

        def share(full: Decimal, decimals: int) -> Decimal:
            return prorate_by_day(
                full,
                period=period,
                first_day=first_day,
                after_day=after_day,
                decimals=decimals,
            ).amount

        most = None if model.max_amount is None else share(model.max_amount, RATE_DECIMALS)

        def money(full: Decimal | None) -> Decimal | None:
            # Two shares may be rounded past each other by one unit of the last place.
            if full is None:
                return None
            amount = share(full, RATE_DECIMALS)
            return amount if most is None else min(amount, most)

        commitment = model.commitment
        if commitment is not None:
            # A promised quantity is worth what it is worth in a whole period: tiers stay.
            commitment = msgspec.structs.replace(
                commitment, amount=money(model.committed()), quantity=None
            )
        return msgspec.structs.replace(
            model,
            free_quantity=share(EXACT.add(model.free_quantity, self.included), QUANTITY_DECIMALS),
            min_amount=money(model.min_amount),
            max_amount=most,
            commitment=commitment,
        )


class PlanFee(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What having the plan costs in each period.

    Attributes:
        name: unique in the plan.
        amount: of a whole period, >= 0, in the plan's currency.
        prorated: whether part of a period costs its share by days; else all of it.
    """

    name: str
    amount: Decimal
    prorated: bool = True


class Plan(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One version of a plan.

    Usage is taken by the first charge whose filter takes it, so no unit is charged twice.

    Attributes:
        name: unique among plans.
        currency: of every amount in it, ISO 4217.
        cycle: billing period, anchor and time zone.
        charges: in order of precedence.
        fees: due in each period, with or without use.
        commitment: promised amount of all charges together, fees not counted.
        min_amount: least that all charges together come to, at close; fees not counted.

    Raises:
        InvalidInput: ``unknown_currency``, ``invalid_plan``, ``duplicate_name``,
            ``invalid_pattern``, ``mixed_units``, ``invalid_window``, ``invalid_fee``,
            ``invalid_free_quantity``, ``invalid_limit``, ``invalid_commitment``.
    """

    name: str
    currency: str
    cycle: BillingCycle
    charges: tuple[PlanCharge, ...] = ()
    fees: tuple[PlanFee, ...] = ()
    commitment: Commitment | None = None
    min_amount: Decimal | None = None

    def __post_init__(self) -> None:
        try:
            minor_units(self.currency)
        except InvalidInput as error:
            raise InvalidInput(error.message, code=error.code, pointer="/currency") from None
        _check_names(self)
        for index, charge in enumerate(self.charges):
            _check_charge(charge, f"/charges/{index}")
        for index, fee in enumerate(self.fees):
            _check_money(fee.amount, "fee", "invalid_fee", f"/fees/{index}/amount")
        if self.min_amount is not None:
            _check_money(self.min_amount, "minimum", "invalid_limit", "/min_amount")
        if self.commitment is not None and self.commitment.amount is None:
            raise InvalidInput(
                "a plan's commitment is an amount: its charges count different units",
                code="invalid_commitment",
                pointer="/commitment/quantity",
            )

    def charge(self, name: str) -> PlanCharge:
        """Return a charge by its name.

        Raises:
            InvalidInput: ``unknown_charge``.
        """
        for charge in self.charges:
            if charge.name == name:
                return charge
        raise InvalidInput(f"{self.name} has no charge {name[:64]!r}", code="unknown_charge")

    def charge_for(
        self, *, provider: str, model: str, meter: str, byok: bool = False
    ) -> PlanCharge | None:
        """Return the charge that takes usage of this kind; None if no charge does."""
        for charge in self.charges:
            if charge.takes(provider=provider, model=model, meter=meter, byok=byok):
                return charge
        return None

    def quantities_of(
        self, quantities: Mapping[str, Decimal], *, provider: str, model: str, byok: bool = False
    ) -> dict[str, Decimal]:
        """Return what an event adds to the running quantity of each charge, by charge name.

        Args:
            quantities: the event's, by meter.
            provider: who ran the call.
            model: the priced model.
            byok: whether with the tenant's own key.

        Returns:
            No entry for a charge that takes nothing; leaves that no charge takes are left out.
        """
        taken: dict[str, Decimal] = {}
        for meter, quantity in quantities.items():
            charge = self.charge_for(provider=provider, model=model, meter=meter, byok=byok)
            if charge is not None:
                taken[charge.name] = EXACT.add(taken.get(charge.name, ZERO), quantity)
        return taken


def plan_from_json(document: bytes | str) -> Plan:
    """Read a plan that somebody wrote.

    Raises:
        InvalidInput: ``invalid_plan`` if it is no JSON of a plan or says a member twice; else as
            `Plan` and `ChargeModel`, with the pointer of the member within the document.
    """
    try:
        raw = msgspec.json.decode(document, type=dict[str, Any])
        check_members_once(document, code="invalid_plan")
        charges = raw.get("charges")
        if isinstance(charges, list):
            raw["charges"] = [
                _located(item, PlanCharge, f"/charges/{index}", inner="/model")
                for index, item in enumerate(charges)
            ]
        if "cycle" in raw:
            raw["cycle"] = _located(raw["cycle"], BillingCycle, "/cycle")
        return msgspec.convert(raw, Plan)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _invalid(error, "") from None


def _located(raw: Any, kind: type[_Read], at: str, *, inner: str = "") -> _Read:
    """Read a member; what its rules refuse is located within the whole document.

    Args:
        raw: as decoded.
        kind: what it should be.
        at: pointer of the member.
        inner: where in it the part stands whose own rules can refuse.
    """
    try:
        return msgspec.convert(raw, kind)
    except InvalidInput as error:
        raise InvalidInput(
            error.message, code=error.code, pointer=f"{at}{inner}{error.pointer}"
        ) from None
    except msgspec.ValidationError as error:
        raise _invalid(error, at) from None


def _invalid(error: Exception, at: str) -> InvalidInput:
    """Return the refusal of a document, its place taken from the decoder's message."""
    message, _, path = str(error).partition(" - at `")
    steps = (name or index for name, index in _PATH.findall(path))
    pointer = "".join(f"/{step}" for step in steps)
    return InvalidInput(
        f"this is no plan: {message}", code="invalid_plan", pointer=f"{at}{pointer}"
    )


def plan_to_json(plan: Plan) -> bytes:
    """Return a plan's document; `plan_from_json` reads the same plan from it."""
    return msgspec.json.encode(plan)


def _check_names(plan: Plan) -> None:
    named = [("/name", plan.name)]
    named += [(f"/charges/{at}/name", charge.name) for at, charge in enumerate(plan.charges)]
    named += [(f"/fees/{at}/name", fee.name) for at, fee in enumerate(plan.fees)]
    seen: set[str] = set()
    for pointer, name in named:
        if len(name) > 64 or not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:64]!r} is no name; give lower-case words of at most 64 characters in all,"
                " joined by . _ or -",
                code="invalid_plan",
                pointer=pointer,
            )
        if pointer != "/name" and name in seen:
            raise InvalidInput(
                f"two charges or fees are called {name}", code="duplicate_name", pointer=pointer
            )
        if pointer != "/name":
            seen.add(name)
    for member, items in (("charges", plan.charges), ("fees", plan.fees)):
        if len(items) > MAX_CHARGES:
            raise InvalidInput(
                f"there are {len(items)} {member}; at most {MAX_CHARGES} are possible",
                code="invalid_plan",
                pointer=f"/{member}",
            )


def _check_money(value: Decimal, what: str, code: str, pointer: str) -> None:
    check_number(value, what=what, code=code, pointer=pointer, decimals=RATE_DECIMALS)


def _check_charge(charge: PlanCharge, at: str) -> None:
    _check_patterns(charge.meters, f"{at}/meters", least=1)
    _check_patterns(charge.providers, f"{at}/providers")
    _check_patterns(charge.models, f"{at}/models")
    _check_units(charge, at)
    if charge.window not in WINDOWS:
        raise InvalidInput(
            f"{charge.window[:64]!r} is no window of a charge; give hour or day, or none for the"
            " billing period",
            code="invalid_window",
            pointer=f"{at}/window",
        )
    check_number(
        charge.included,
        what="included quantity",
        code="invalid_free_quantity",
        pointer=f"{at}/included",
        decimals=QUANTITY_DECIMALS,
        limit=Decimal(QUANTITY_LIMIT),
    )
    if charge.window and charge.included:
        raise InvalidInput(
            f"an included quantity belongs to the billing period, but this charge runs anew every"
            f" {charge.window}; the model's free_quantity would be of each {charge.window}",
            code="invalid_window",
            pointer=f"{at}/included",
        )


def _check_patterns(patterns: Sequence[str], pointer: str, *, least: int = 0) -> None:
    if not least <= len(patterns) <= MAX_PATTERNS:
        raise InvalidInput(
            f"{pointer} has {len(patterns)} patterns; {least} to {MAX_PATTERNS} are possible",
            code="invalid_pattern",
            pointer=pointer,
        )
    for index, pattern in enumerate(patterns):
        at = f"{pointer}/{index}"
        check_text(pattern, pointer=at, required=True)
        if "*" in pattern[:-1]:
            raise InvalidInput(
                f"{pattern!r} is no pattern: * stands only at the end",
                code="invalid_pattern",
                pointer=at,
            )


def _check_units(charge: PlanCharge, at: str) -> None:
    """Check that what is summed is of one unit, as far as the meters are known."""
    units = {meter.unit for meter in STANDARD_METERS.values() if matches(charge.meters, meter.name)}
    if len(units) > 1:
        raise InvalidInput(
            f"{charge.name} would sum {', '.join(sorted(units))}; make a charge of each unit",
            code="mixed_units",
            pointer=f"{at}/meters",
        )


def overage_on(charged: Decimal, commitment: Commitment | None) -> Decimal:
    """Return what charges beyond a promised amount cost besides themselves.

    Below zero where overage is cheaper than the charges are.
    """
    if commitment is None or commitment.amount is None or charged <= commitment.amount:
        return ZERO
    with localcontext(EXACT):
        return (charged - commitment.amount) * (commitment.overage_factor - 1)
