"""Plans: which charge takes what, what a period comes to, what is refused and where."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.line_formulas import charge_formula
from ledger.domain.plan_periods import PlanLineKind, rate_plan
from ledger.domain.plan_versions import PlanVersions
from ledger.domain.plans import Plan, PlanCharge, plan_from_json, plan_to_json

SPEC_FILE = Path(__file__).resolve().parents[2] / "docs" / "spec" / "plans.md"
SPEC = SPEC_FILE.read_text("utf-8")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ONE = {"tiers": [{"rate": "1"}]}
TEAM = SPEC.split("```json\n", 1)[1].split("```", 1)[0]
D = Decimal


def charge(name: str = "tokens", **members: Any) -> dict[str, Any]:
    """Return a charge's document: all tokens at one each."""
    return {"name": name, "meters": ["tokens.*"], "model": ONE} | members


def plan(**members: Any) -> Plan:
    """Return a plan by calendar month in UTC."""
    document = {
        "name": "basic",
        "currency": "USD",
        "cycle": {"anchor": "2027-01-01", "timezone": "UTC"},
    }
    return plan_from_json(json.dumps(document | members))


def example_periods() -> list[list[str]]:
    """Return the rows of the table of the spec's plan."""
    rows = re.findall(r"^\| (\d{4}-.*) \|$", SPEC, flags=re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


@pytest.mark.parametrize("row", example_periods(), ids=lambda row: f"{row[0]} {row[2]}")
def test_the_specified_periods_come_to_what_is_specified(row: list[str]) -> None:
    """Each row of the table says the lines of some days and their total."""
    team = plan_from_json(TEAM)
    first, after = (date.fromisoformat(day) for day in row[0].split("/"))
    usage = {
        name: [D(cell)] for name, cell in zip(("cached", "tokens", "calls"), row[1:4], strict=True)
    }
    period = team.cycle.period_on(first)
    rated = rate_plan(team, period, usage, first_day=first, after_day=after)
    lines = [f"{line.name or line.kind} {line.amount:f}" for line in rated.lines]
    assert (", ".join(lines), rated.total) == (row[4], D(row[5]))


def test_the_spec_has_its_examples() -> None:
    """Five rows, none left out because it is written another way."""
    assert len(example_periods()) == 5


def test_the_spec_lists_every_member() -> None:
    """Of a plan and of a charge."""
    for title, known in (
        ("| member | default | meaning |", Plan),
        ("| member of a charge | default | meaning |", PlanCharge),
    ):
        table = SPEC.split(title, 1)[1].split("\n\n", 1)[0]
        cells = re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE)
        listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
        assert listed == set(known.__struct_fields__)


def test_a_leaf_is_taken_by_the_first_charge_that_takes_it() -> None:
    """Several charges over one meter divide it by their filters; what is left over is left out."""
    made = plan(
        charges=[
            charge("own", byok=True, models=["house-*"]),
            charge("large", models=["large"], byok=False),
            charge("rest", providers=["openai"], meters=["tokens.output", "tokens.input"]),
        ]
    )

    def taker(model: str, meter: str = "tokens.input", **members: Any) -> str | None:
        found = made.charge_for(**{"provider": "openai", "model": model, "meter": meter} | members)
        return found and found.name

    assert taker("house-1") == "own"
    assert taker("large") == "large"
    assert taker("large", byok=True) == "rest"
    assert taker("small") == "rest"
    assert taker("small", meter="tokens.input.audio") is None
    assert taker("small", provider="other") is None
    used = {"tokens.input": D(3), "tokens.output": D("0.5"), "images": D(1)}
    assert made.quantities_of(used, provider="openai", model="small") == {"rest": D("3.5")}


def test_windows_run_anew_and_are_not_prorated() -> None:
    """Two hours of three, two free in each; half a month changes nothing."""
    model = {"tiers": [{"rate": "1"}], "free_quantity": "2"}
    made = plan(charges=[charge(window="hour", model=model)])
    usage = {"tokens": [D(3), D(3), D(1)]}
    period = made.cycle.period(0)
    assert rate_plan(made, period, usage).total == 2
    half = rate_plan(made, period, usage, after_day=date(2027, 1, 10))
    assert half.total == 2
    assert half.lines[0].charge is None


def test_limits_of_a_charge_go_by_its_days() -> None:
    """Ten of thirty-one days: maximum, minimum, free and included units, commitment."""
    model = {
        "tiers": [{"rate": "1"}],
        "free_quantity": "31",
        "max_amount": "62",
        "min_amount": "31",
    }
    made = plan(charges=[charge(included="62", model=model)])
    period = made.cycle.period(0)

    def total(quantity: int) -> Decimal:
        days = {"first_day": date(2027, 1, 11), "after_day": date(2027, 1, 21)}
        return rate_plan(made, period, {"tokens": [D(quantity)]}, **days).total

    assert [total(quantity) for quantity in (0, 30, 45, 1000)] == [10, 10, 15, 20]


def test_a_promised_quantity_is_prorated_by_what_it_is_worth() -> None:
    """Half of what ten units cost, not what five units cost, where the first are dearer."""
    model = {
        "tiers": [{"up_to": "5", "rate": "10"}, {"rate": "2"}],
        "commitment": {"quantity": "10"},
        "max_amount": "60",
    }
    made = plan(charges=[charge(model=model)], cycle={"anchor": "2027-02-01", "timezone": "UTC"})
    days = {"first_day": date(2027, 2, 1), "after_day": date(2027, 2, 15)}
    assert rate_plan(made, made.cycle.period(0), {}, **days).total == 30
    assert rate_plan(made, made.cycle.period(0), {}).total == 60


def test_shares_of_limits_are_never_rounded_past_each_other() -> None:
    """Eight of thirty-one days of 2 and of 1 in the last place come to 0 and 1: 0 it is."""
    limits = {"max_amount": "0.000000000002", "min_amount": "0.000000000001"}
    made = plan(charges=[charge(model={"tiers": [{"rate": "1"}], **limits})])
    days = {"first_day": date(2027, 1, 9), "after_day": date(2027, 1, 17)}
    assert rate_plan(made, made.cycle.period(0), {}, **days).total == 0


def test_no_days_cost_nothing() -> None:
    """Not even a fee that is not prorated."""
    made = plan(fees=[{"name": "base", "amount": "5", "prorated": False}], min_amount="3")
    day = date(2027, 1, 5)
    rated = rate_plan(made, made.cycle.period(0), {}, first_day=day, after_day=day)
    assert (rated.lines, rated.total) == ((), 0)


def test_a_plan_s_minimum_does_not_count_fees() -> None:
    """It is about usage."""
    made = plan(fees=[{"name": "base", "amount": "5"}], min_amount="3", charges=[charge()])
    rated = rate_plan(made, made.cycle.period(0), {"tokens": [D(1)]})
    kinds = [(line.kind, line.amount) for line in rated.lines]
    assert kinds == [(PlanLineKind.FEE, 5), (PlanLineKind.CHARGE, 1), (PlanLineKind.MINIMUM, 2)]


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"currency": "XXX"}, "unknown_currency", "/currency"),
        ({"name": "Basic"}, "invalid_plan", "/name"),
        ({"name": 5}, "invalid_plan", "/name"),
        ({"stars": 5}, "invalid_plan", ""),
        ({"charges": 5}, "invalid_plan", "/charges"),
        ({"charges": [charge(meters=[])]}, "invalid_pattern", "/charges/0/meters"),
        ({"charges": [charge(meters=["a*b"])]}, "invalid_pattern", "/charges/0/meters/0"),
        ({"charges": [charge(models=[""])]}, "invalid_text", "/charges/0/models/0"),
        ({"charges": [charge(meters=["*"])]}, "mixed_units", "/charges/0/meters"),
        ({"charges": [charge(window="week")]}, "invalid_window", "/charges/0/window"),
        (
            {"charges": [charge(window="day", included="1")]},
            "invalid_window",
            "/charges/0/included",
        ),
        ({"charges": [charge(included="-1")]}, "invalid_free_quantity", "/charges/0/included"),
        ({"charges": [charge(), charge()]}, "duplicate_name", "/charges/1/name"),
        ({"charges": [charge(title="x")]}, "invalid_plan", "/charges/0"),
        ({"charges": [charge(meters=[5])]}, "invalid_plan", "/charges/0/meters/0"),
        (
            {"charges": [charge(), charge("b", model={"tiers": [{"rate": "-1"}]})]},
            "invalid_rate",
            "/charges/1/model/tiers/0/rate",
        ),
        (
            {"charges": [charge(model={"tiers": [{"rate": "1", "flatt": "1"}]})]},
            "invalid_plan",
            "/charges/0/model/tiers/0",
        ),
        ({"fees": [{"name": "a", "amount": "-1"}]}, "invalid_fee", "/fees/0/amount"),
        ({"charges": [charge("a")], "fees": [{"name": "a", "amount": "1"}]}, "duplicate_name",
         "/fees/0/name"),
        ({"min_amount": "-1"}, "invalid_limit", "/min_amount"),
        ({"commitment": {"quantity": "5"}}, "invalid_commitment", "/commitment/quantity"),
        ({"cycle": {"anchor": "2027-02-30", "timezone": "UTC"}}, "invalid_plan", "/cycle/anchor"),
        ({"cycle": {"anchor": "2027-02-20", "timezone": "UTC", "count": 0}}, "invalid_cycle",
         "/cycle/count"),
        ({"cycle": {"anchor": "2027-02-20", "timezone": "Moon"}}, "unknown_timezone",
         "/cycle/timezone"),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(members: dict[str, Any], code: str, pointer: str) -> None:
    """Each refusal has its code and the place of the member in the document."""
    with pytest.raises(InvalidInput) as refused:
        plan(**members)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


@pytest.mark.parametrize("document", ["", "[]", "{}", "null", "{" * 50_000, b"\xff", '{"a": NaN}'])
def test_what_is_no_document_is_refused(document: str | bytes) -> None:
    """Whatever it is, the answer is that it is no plan."""
    with pytest.raises(InvalidInput) as refused:
        plan_from_json(document)
    assert refused.value.code == "invalid_plan"


def test_usage_of_an_unknown_charge_and_days_outside_are_refused() -> None:
    """Nothing is dropped in silence."""
    made = plan(charges=[charge()])
    with pytest.raises(InvalidInput) as refused:
        rate_plan(made, made.cycle.period(0), {"tokns": [D(1)]})
    assert refused.value.code == "unknown_charge"
    for first, after in (("2026-12-31", "2027-01-05"), ("2027-01-05", "2027-02-02")):
        with pytest.raises(InvalidInput) as refused:
            rate_plan(
                made,
                made.cycle.period(0),
                {},
                first_day=date.fromisoformat(first),
                after_day=date.fromisoformat(after),
            )
        assert refused.value.code == "invalid_proration"


def test_versions_are_published_one_after_another_and_stay() -> None:
    """The same content is no new version; a retired plan opens with the next one."""
    first, second = plan(), plan(min_amount="5")
    versions = PlanVersions.open(first, by="ana", at=NOON)
    assert versions.publish(first, by="ana", at=NOON) == 1
    assert versions.publish(second, by="ben", at=NOON) == 2
    versions.retire(by="ana", at=NOON)
    versions.retire(by="ana", at=NOON)
    assert versions.retired
    assert (versions.at_version(1), versions.at_version(2)) == (first, second)
    assert versions.publish(second, by="ana", at=NOON) == 3
    assert not versions.retired
    for number in (0, 4):
        with pytest.raises(NotFound) as unknown:
            versions.at_version(number)
        assert unknown.value.code == "unknown_plan_version"
    with pytest.raises(Refused) as refused:
        versions.publish(plan(currency="EUR"), by="ana", at=NOON)
    assert refused.value.code == "plan_currency_fixed"
    with pytest.raises(InvalidInput):
        versions.publish(plan(name="other"), by="ana", at=NOON)


def test_stored_publications_give_the_same_versions() -> None:
    """Events through MessagePack and back: the fold is the same plan, its numbers exact."""
    team = plan_from_json(TEAM)
    versions = PlanVersions.open(team, by="ana", at=NOON)
    versions.publish(msgspec.structs.replace(team, min_amount=D("0.000000000001")), by="b", at=NOON)
    versions.retire(by="ana", at=NOON)
    folded: Any = None
    for event in versions.collect_events():
        stored = msgspec.msgpack.encode(event)
        again = msgspec.msgpack.decode(stored, type=type(event))
        assert {field.name for field in fields(again)} == {field.name for field in fields(event)}
        folded = again.mutate(folded)
    assert folded.versions == versions.versions
    assert (folded.retired, folded.id) == (True, "plan-team")


def test_a_plan_s_document_is_read_as_it_was_written() -> None:
    """Writing and reading is the identity."""
    team = plan_from_json(TEAM)
    assert plan_from_json(plan_to_json(team)) == team


def test_the_spec_lists_every_code_of_plans() -> None:
    """The table of refusals and what it refers to hold all codes of the plan modules."""
    raised: set[str] = set()
    for module in ("plans", "plan_periods", "plan_versions"):
        source = (SPEC_FILE.parents[2] / "ledger" / "domain" / f"{module}.py").read_text("utf-8")
        raised |= set(re.findall(r'code="(\w+)"', source))
    own = SPEC.split("## Refused", 1)[1]
    charges = SPEC_FILE.with_name("charges.md").read_text("utf-8").split("## Refused", 1)[1]
    table = set(re.findall(r"^\| `(\w+)` \|", own, flags=re.MULTILINE))
    assert table <= raised
    assert raised - table <= set(re.findall(r"`(\w+)`", charges))


@pytest.mark.parametrize(
    "document",
    [
        TEAM.replace('"currency"', '"currency": "EUR", "currency"', 1),
        TEAM.replace('"meters"', '"meters": ["tool.calls"], "meters"', 1),
        TEAM.replace('"currency"', '"curr\\u0065ncy": "EUR", "currency"', 1),
    ],
)
def test_a_member_that_stands_twice_is_refused(document: str) -> None:
    """At any depth, however it is spelled: else the last one would win and nobody would know."""
    assert document != TEAM
    for one in (document, document.encode()):
        with pytest.raises(InvalidInput, match="stands twice") as caught:
            plan_from_json(one)
        assert caught.value.code == "invalid_plan"


def test_lines_that_are_not_quantity_times_price_say_how_they_came_about() -> None:
    """Each formula has the numbers that lead to the amount, prorated ones by days."""
    made = plan(
        charges=[charge()],
        commitment={"amount": "31", "overage_factor": "1.5"},
        min_amount="62",
    )
    period = made.cycle.period_on(date(2027, 1, 1))
    said = {
        line.kind: line.formula
        for used in (4, 30)
        for line in rate_plan(
            made, period, {"tokens": [D(used)]}, after_day=date(2027, 1, 11)
        ).lines
    }
    assert said[PlanLineKind.TRUE_UP].startswith(
        "commitment 10 - charges 4 = 6; commitment: 31 x 10"
    )
    assert said[PlanLineKind.OVERAGE].startswith("(charges 30 - commitment 10) x (1.5 - 1) = 10; ")
    used = rate_plan(made, period, {"tokens": [D(4)]}, after_day=date(2027, 1, 11))
    assert used.lines[-1].formula.startswith(
        "minimum 20 - charges 4 - 6 true-up = 10; minimum: 62 x 10"
    )


@pytest.mark.parametrize(
    ("model", "quantity", "formula"),
    [
        ({}, 5, ""),
        ({"free_quantity": "2"}, 5, "5 used, 3 billed after conversion, rounding and free units;"),
        ({"min_amount": "9"}, 5, "5 x 1 / 1 + 4 up to the minimum = 9"),
        ({"max_amount": "3"}, 5, "5 x 1 / 1 - 2 for discount, maximum and overage = 3"),
        ({"commitment": {"amount": "7"}}, 5, "5 x 1 / 1 + 2 up to the commitment = 7"),
        ({"commitment": {"amount": "3", "overage_factor": "2"}}, 5, "+ 2 for discount,"),
    ],
)
def test_a_charge_says_what_its_price_does_not(
    model: dict[str, Any], quantity: int, formula: str
) -> None:
    """Nothing where quantity times price is the amount."""
    made = plan(charges=[charge(model={**ONE, **model})])
    period = made.cycle.period_on(date(2027, 1, 1))
    [line] = rate_plan(made, period, {"tokens": [D(quantity)]}).lines
    assert line.charge is not None
    said = charge_formula(line.charge, (D(1), D(1)))
    assert formula in said if formula else said == ""
    assert not said or said.endswith(f" = {line.amount:f}")
