"""Authorize and extend: every outcome, in the order in which they are looked for."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.building import us, usage
from fakes.guarding import Guarded, amount, decision

from ledger.application import asks
from ledger.domain.budgets import Filter
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entitlements import Entitlements
from ledger.domain.holds import AuthorizeHold, SetEntitlements
from ledger.domain.protection_commands import ConfirmBudget, GrantCredit, SetCreditPolicy, WaiveCap
from ledger.domain.protection_entries import BudgetStepReached

ONE = 10**18


def test_an_estimate_is_its_price_and_the_answer_has_the_formula() -> None:
    """Quantity x rate = amount, meter by meter."""
    answer = Guarded().ask(quantities={"tokens.input": 50, "tokens.output": 25})
    assert (answer.status, decision(answer), amount(answer)) == ("created", "allow", Decimal("1.5"))
    assert answer.detail is not None
    lines = [(one.meter, one.quantity, one.rate, one.amount) for one in answer.detail.estimate]
    assert lines == [
        ("tokens.input", 50 * 10**6, 1, ONE // 2),
        ("tokens.output", 25 * 10**6, 4, ONE),
    ]


def test_a_cap_can_be_used_up_exactly_and_not_passed() -> None:
    """Three calls of 1 fit into a cap of 3; the fourth does not."""
    house = Guarded()
    house.budget(cap="3")
    codes = [house.ask(f"h{number}").status for number in range(4)]
    assert codes == ["created"] * 3 + ["denied_exceeds_budget"]
    assert house.counter() == (0, 3)


def test_a_refusal_names_budget_limit_spent_held_and_asked() -> None:
    """Support and the gateway read the same reasons."""
    house = Guarded()
    house.budget("monthly", cap="3")
    house.ask("a")
    house.capture("a", 150)
    house.ask("b")
    answer = house.ask("c")
    assert answer.detail is not None
    reason = answer.detail.reasons[0]
    assert (reason.code, reason.name, reason.measure) == ("budget", "monthly", "charge")
    assert (reason.limit, reason.spent, reason.held, reason.asked) == (
        3 * ONE,
        3 * ONE // 2,
        ONE,
        ONE,
    )


def test_all_budgets_that_apply_reserve_or_none() -> None:
    """The user's cap refuses, so the tenant's holds nothing of it."""
    house = Guarded()
    house.budget("all", cap="10")
    house.budget("ann", cap="1", scope="user=ann")
    assert house.ask("a", user="ann").status == "created"
    assert house.ask("b", user="ann").status == "denied_exceeds_budget"
    assert house.ask("c", user="bob").status == "created"
    assert (house.counter(0), house.counter(1)) == ((0, 2), (0, 1))


def test_the_same_ask_again_is_the_original_decision() -> None:
    """Retries reserve nothing more."""
    house = Guarded()
    house.budget(cap="3")
    first = house.ask()
    again = house.ask()
    assert (again.status, decision(again), amount(again)) == ("exists", "allow", amount(first))
    assert (again.version, again.index) == (first.version, first.index)
    assert house.counter() == (0, 1)


def test_once_the_hold_is_over_its_id_allows_no_call() -> None:
    """Nothing is reserved for it any more."""
    house = Guarded()
    house.ask()
    house.void()
    again = house.ask()
    assert (again.status, decision(again), amount(again)) == ("exists", "deny", 0)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("model", {"model": "mini"}),
        ("user", {"user": "ann"}),
        ("quantities", {"quantities": {"tokens.input": 101}}),
        ("min_amount", {"min_amount": "0.5"}),
        ("ttl", {"ttl": 60}),
        ("on_expiry", {"on_expiry": "void"}),
        ("tools", {"tools": ["search"]}),
        ("labels", {"labels": {"team": "blue"}}),
    ],
)
def test_the_same_id_with_another_ask_names_the_first_field(
    field: str, other: dict[str, object]
) -> None:
    """The first ask stands."""
    house = Guarded()
    house.ask()
    answer = house.ask(**other)
    assert (answer.status, decision(answer)) == (f"exists_with_different_{field}", "deny")
    assert house.ask().status == "exists"


def test_a_refused_id_stays_refused_after_a_top_up() -> None:
    """A new id is asked afresh."""
    house = Guarded()
    house.budget(cap="0.5")
    assert house.ask().status == "denied_exceeds_budget"
    house.budget(cap="5")
    assert house.ask().status == "denied_exceeds_budget"
    assert house.ask("new").status == "created"


def test_a_capture_that_came_first_resolves_its_authorization() -> None:
    """There is nothing left to call for, and the usage is charged once."""
    house = Guarded()
    assert house.capture(provider="openai", model="gpt").status == "captured_unmatched"
    answer = house.ask()
    assert (answer.status, decision(answer)) == ("created_resolved", "deny")
    assert house.ask().status == "created_resolved"
    assert house.charge() == 1


def test_a_void_that_came_first_denies_its_authorization() -> None:
    """The gateway gave the call up before the ask arrived."""
    house = Guarded()
    assert house.void().status == "voided_unmatched"
    assert house.ask().status == "denied_voided"
    assert house.ask().status == "denied_voided"


def test_entitlements_name_what_is_missing() -> None:
    """A kind without a list follows the default."""
    house = Guarded()
    house.run(
        SetEntitlements(
            "acme",
            Entitlements(
                default="deny", providers=("openai",), models=("mini*",), meters=("tokens.*",)
            ),
        )
    )
    answer = house.ask(tools=["browser"])
    assert answer.status == "denied_no_entitlement"
    assert answer.detail is not None
    assert [one.name for one in answer.detail.reasons] == ["model:gpt", "tool:browser"]
    assert house.ask("ok", model="mini").status == "created"


def test_an_unknown_price_under_a_cap_is_denied_never_zero() -> None:
    """Without a cap it passes; with one, only where the budget says so."""
    house = Guarded()
    free = house.ask("free", model="new")
    assert (free.status, amount(free)) == ("created", 0)
    house.budget(cap="5")
    assert house.ask("a", model="new").status == "denied_unpriced"
    house.budget(cap="5", on_unpriced="allow")
    assert house.ask("b", model="new").status == "created"


def test_a_closed_budget_refuses_and_an_ended_one_does_not() -> None:
    """Closing is the kill switch."""
    house = Guarded()
    house.budget(cap="5", state="closed")
    assert house.ask("a").status == "denied_budget_closed"
    house.budget(cap="5", state="ended")
    assert house.ask("b").status == "created"


def test_less_than_asked_is_allowed_where_it_is_worth_having() -> None:
    """The hold is what was left; below ``min_amount`` it is refused."""
    house = Guarded()
    house.budget(cap="1.5")
    house.ask("a")
    answer = house.ask("b", min_amount="0.5")
    assert (decision(answer), amount(answer)) == ("allow_partial", Decimal("0.5"))
    assert house.ask("c", min_amount="0.1").status == "denied_exceeds_budget"
    assert house.counter() == (0, Decimal("1.5"))


def test_available_takes_all_that_is_left() -> None:
    """Zero is an amount, and something else."""
    house = Guarded()
    house.budget(cap="1.5")
    house.ask("a")
    answer = house.ask("b", amount="available")
    assert (answer.status, amount(answer)) == ("created", Decimal("0.5"))
    assert house.ask("c", amount="0").status == "created"
    assert house.ask("d", amount="available").status == "denied_exceeds_budget"


def test_available_without_anything_that_bounds_it_is_invalid() -> None:
    """Nothing is kept of it."""
    house = Guarded()
    assert house.ask(amount="available").status == "invalid_amount"
    assert house.ask(amount="1").status == "created"


def test_a_downgrade_step_lets_the_cheaper_model_be_called() -> None:
    """From 95 % on; the hold is of the cheaper price."""
    house = Guarded()
    steps = [{"kind": "downgrade", "model": "mini"}, {"kind": "stop"}]
    house.budget(limit="2", steps=steps)
    assert decision(house.ask("a")) == "allow"
    answer = house.ask("b")
    assert (decision(answer), amount(answer)) == ("allow_downgraded", Decimal("0.25"))
    assert answer.detail is not None
    assert answer.detail.model == "mini"
    assert house.ask("b").status == "exists"


def test_a_downgrade_to_an_unpriced_model_is_none() -> None:
    """The original is judged by the stop."""
    house = Guarded()
    steps = [{"kind": "downgrade", "model": "who"}, {"kind": "stop"}]
    house.budget(limit="2", steps=steps)
    assert [decision(house.ask(f"h{one}")) for one in range(3)] == ["allow", "allow", "deny"]


def test_a_downgrade_that_only_a_person_may_allow_asks_one() -> None:
    """The model asked for is past its stop; a refusal would be for good, a confirmation helps."""
    house = Guarded()
    steps = [{"kind": "downgrade", "model": "mini"}, {"kind": "stop"}]
    house.budget("big", limit="2", steps=steps, filter={"models": ["gpt"]})
    house.budget("all", limit="2", window="day", steps=[{"kind": "confirm"}])
    house.ask("a")
    house.capture("a", 300)
    answer = house.ask("b")
    assert (answer.status, decision(answer)) == ("confirmation_required", "confirm")
    assert house.run(ConfirmBudget("acme", "c-1", "all", 4 * ONE, "ann")).status == "accepted"
    assert decision(house.ask("c")) == "allow_downgraded"


def test_a_confirmation_raises_one_window_s_ceiling() -> None:
    """Until then the answer asks for it; afterwards up to the new ceiling."""
    house = Guarded()
    house.budget(limit="1", window="day", steps=[{"kind": "confirm"}])
    house.ask("a")
    answer = house.ask("b")
    assert (answer.status, decision(answer)) == ("confirmation_required", "confirm")
    confirmed = house.run(ConfirmBudget("acme", "c-1", "cap", 2 * ONE, "ann"))
    assert confirmed.status == "accepted"
    assert house.run(ConfirmBudget("acme", "c-1", "cap", 2 * ONE, "ann")).status == "duplicate"
    assert house.ask("b").status == "created"
    assert house.ask("c").status == "confirmation_required"
    house.wait(86_400)
    house.ask("d")
    assert house.ask("e").status == "confirmation_required"


def test_a_confirmation_never_passes_a_stop() -> None:
    """The limit is moved by setting the budget, by nothing else."""
    house = Guarded()
    house.budget(limit="1", steps=[{"kind": "confirm"}, {"kind": "stop", "percent": 150}])
    refused = house.run(ConfirmBudget("acme", "c-1", "cap", 2 * ONE, "ann"))
    assert refused.problem is not None
    assert refused.problem.code == "invalid_ceiling"


def test_steps_fire_once_a_window() -> None:
    """50, 80 and 100 %; again in the next window."""
    house = Guarded()
    house.budget(cap="4", window="day")
    for number in range(6):
        house.ask(f"h{number}")
    assert house.kinds().count("BudgetStepReached") == 3
    house.wait(86_400)
    for number in range(4):
        house.ask(f"n{number}")
    assert house.kinds().count("BudgetStepReached") == 6


def test_a_ledger_without_a_cap_gets_the_default_one_with_its_first_ask() -> None:
    """It starts from what the month has."""
    house = Guarded(default=DefaultCap(limits={"USD": 3 * ONE}))
    house.run(usage(quantities={"tokens.input": 150}))
    assert house.ask("a").status == "created"
    assert house.ask("b").status == "denied_exceeds_budget"
    assert house.counter() == (Decimal("1.5"), 1)


def test_no_cap_must_be_said_in_as_many_words() -> None:
    """The ledger records who said it."""
    house = Guarded(default=DefaultCap(limits={"USD": 0}))
    house.run(WaiveCap("acme", "ann"))
    assert house.ask().status == "created"
    assert "CapWaived" in house.kinds()


def test_required_credit_bounds_holds_and_is_burned_by_captures() -> None:
    """By priority; what is not burned is free again."""
    house = Guarded()
    house.run(SetCreditPolicy("acme", True))
    assert house.ask("a").status == "denied_exceeds_budget"
    house.run(GrantCredit("acme", "late", ONE, priority=2))
    house.run(GrantCredit("acme", "early", ONE, priority=1, kind="promotional"))
    assert house.ask("b").status == "created"
    assert house.ask("c").status == "created"
    assert house.ask("d").status == "denied_exceeds_budget"
    house.capture("b", 50)
    grants = house.store.protection("acme").credit.grants
    assert [(one.id, one.burned, one.held) for one in grants.values()] == [
        ("late", 0, ONE),
        ("early", ONE // 2, 0),
    ]
    house.capture("c", 300)
    credit = house.store.protection("acme").credit
    assert credit.owed == 2 * ONE - ONE // 2
    assert house.ask("e").status == "denied_exceeds_budget"


def test_credit_that_expires_is_gone_for_the_next_ask() -> None:
    """What a hold has reserved of it lapses when the hold is released."""
    house = Guarded()
    house.run(SetCreditPolicy("acme", True))
    house.run(GrantCredit("acme", "g", 2 * ONE, expires_at=house.now + 10_000_000))
    house.ask("a", ttl=60)
    house.wait(20)
    assert house.ask("b").status == "denied_exceeds_budget"
    house.void("a")
    grant = house.store.protection("acme").credit.grants[0]
    assert (grant.lapsed, grant.held, grant.free) == (2 * ONE, 0, 0)


def test_a_filtered_budget_counts_only_what_it_admits() -> None:
    """By model, and by its meters' share of the charge."""
    house = Guarded()
    house.budget("mini", cap="1", filter={"models": ["mini"]})
    house.budget("output", cap="1", filter={"meters": ["tokens.output"]})
    assert house.ask("a").status == "created"
    house.ask("b", quantities={"tokens.input": 100, "tokens.output": 20})
    assert (house.counter(0), house.counter(1)) == ((0, 0), (0, Decimal("0.8")))
    assert Filter(models=("mini",)) != Filter()


def test_a_quantity_budget_counts_its_meter() -> None:
    """Tokens, not money."""
    house = Guarded()
    house.budget(cap="150", measure="tokens.input")
    assert house.ask("a").status == "created"
    assert house.ask("b").status == "denied_exceeds_budget"
    assert house.ask("c", quantities={"tokens.input": 50}).status == "created"


def test_an_unknown_tenant_is_invalid_and_opens_no_ledger() -> None:
    """Asking is not recording."""
    house = Guarded()
    answer = house.holds.authorize({"hold": "h", "amount": "1"}, tenant="nobody")
    assert (answer.status, decision(answer)) == ("invalid_tenant", "deny")
    assert [row.tenant for row in house.store.tenants()] == ["acme"]


def test_a_simulation_keeps_nothing_and_tells_every_budget() -> None:
    """The same answer as the ask that follows it."""
    house = Guarded()
    house.budget("a", cap="5")
    house.budget("b", cap="0.5", window="day")
    before = house.kinds()
    document = {"hold": "h", "provider": "openai", "model": "gpt"}
    document |= {"quantities": {"tokens.input": 100}}
    answer = house.holds.simulate(document, tenant="acme")
    assert answer.status == "denied_exceeds_budget"
    assert answer.detail is not None
    assert {one.name for one in answer.detail.reasons} == {"a", "b"}
    assert house.kinds() == before


def test_extensions_reserve_up_to_a_rising_target() -> None:
    """Absolute, never lowered, in every budget of the hold."""
    house = Guarded()
    house.budget(cap="3")
    house.ask()
    assert house.extend(1, amount="2").status == "extended"
    assert house.extend(1, amount="2").status == "exists"
    assert house.extend(1, amount="2.5").status == "stale_step"
    assert house.extend(2, amount="1.5").status == "extended"
    assert house.counter() == (0, 2)
    assert house.extend(3, amount="4").status == "denied_exceeds_budget"
    assert house.extend(4, quantities={"tokens.input": 300}).status == "extended"
    assert house.counter() == (0, 3)
    assert house.extend(5, quantities={"nothing.known": 1}).status.startswith("invalid_")


def test_what_is_over_or_unknown_cannot_be_extended() -> None:
    """The gateway learns which."""
    house = Guarded()
    assert house.extend(1, amount="2").status == "hold_not_found"
    house.ask("a", ttl=1)
    house.ask("b")
    house.capture("b")
    house.wait(2)
    assert house.extend(1, "a", amount="2").status == "hold_expired"
    assert house.extend(1, "b", amount="2").status == "hold_resolved"


def test_an_extension_without_a_price_is_denied_under_a_cap() -> None:
    """A meter that has no price is never reserved as zero."""
    house = Guarded()
    house.budget(cap="3")
    house.ask()
    answer = house.extend(1, quantities={"tokens.input": 100, "images": 1})
    assert answer.status == "denied_unpriced"


def test_a_ttl_of_an_extension_counts_from_now() -> None:
    """A stream that goes on keeps its hold."""
    house = Guarded()
    house.ask(ttl=10)
    house.wait(8)
    house.extend(1, amount="1", ttl=10)
    house.wait(8)
    assert house.progress(1, 10).status == "progressed"


def test_budgets_decided_in_one_batch_see_each_other() -> None:
    """The second of two asks in one commit finds what the first reserved."""
    house = Guarded()
    house.budget(cap="1")
    made = [
        asks.authorize_hold(
            {
                "hold": f"h{one}",
                "provider": "openai",
                "model": "gpt",
                "quantities": {"tokens.input": 100},
            },
            tenant="acme",
        )
        for one in range(2)
    ]
    assert isinstance(made[0], AuthorizeHold)
    codes = [one.status for one in house.together(*made)]
    assert codes == ["created", "denied_exceeds_budget"]


def test_a_window_rolls_over_at_local_midnight_across_daylight_saving() -> None:
    """Berlin's 25 hours of 2026-10-25 are one window."""
    house = Guarded(timezone="Europe/Berlin")
    house.now = us("2026-10-24T22:30:00Z")
    house.budget(cap="1", window="day")
    assert house.ask("a").status == "created"
    house.capture("a")
    house.now = us("2026-10-25T22:59:00Z")
    assert house.ask("b").status == "denied_exceeds_budget"
    house.now = us("2026-10-25T23:00:00Z")
    assert house.ask("c").status == "created"


def test_a_hold_over_two_windows_counts_in_its_authorization_s_until_captured() -> None:
    """Then its usage counts in the window of its own time."""
    house = Guarded()
    house.now = us("2026-11-03T23:59:00Z")
    house.budget(cap="1", window="day")
    house.ask()
    house.now = us("2026-11-04T00:01:00Z")
    first, second = us("2026-11-03T00:00:00Z"), us("2026-11-04T00:00:00Z")
    assert house.counter(0, first) == (0, 1)
    house.capture()
    assert house.counter(0, first) == (0, 0)
    assert house.counter(0, second) == (1, 0)


def test_a_rolling_budget_s_step_fires_once_however_many_buckets_change() -> None:
    """One capture moves a hold out of an old bucket and its usage into the current one."""
    house = Guarded()
    house.budget(limit="2", window="rolling:3h", steps=[{"kind": "inform"}, {"kind": "stop"}])
    house.ask("old", amount="0.5", ttl=10_000)
    house.wait(3600)
    house.capture("old", 150, provider="openai", model="gpt")
    assert house.kinds().count("BudgetStepReached") == 1


def test_a_forecast_tells_what_the_window_comes_to_and_when_the_limit_is_passed() -> None:
    """A quarter of a 24-hour day, 3 of 10 used: 12 by midnight, the limit after 20 hours."""
    house = Guarded()
    house.budget(limit="10", window="day", steps=[{"kind": "projected"}, {"kind": "stop"}])
    house.now = us("2026-11-03T02:00:00Z")
    house.ask("early", amount="2")
    house.void("early")
    house.now = us("2026-11-03T06:00:00Z")
    house.ask("b", amount="2.4")
    assert "BudgetStepReached" not in house.kinds()
    house.ask("c", amount="0.6")
    [step] = [one for one in house.store.entries("acme") if isinstance(one, BudgetStepReached)]
    assert (step.kind, step.used, step.forecast) == ("projected", 3 * ONE, 12 * ONE)
    assert step.limit_at == us("2026-11-03T20:00:00Z")


def test_a_lease_is_bounded_by_the_caps_that_apply_to_it() -> None:
    """Another user's cap, which allows none, has no say; the gateway's own has."""
    house = Guarded()
    house.budget("all", cap="10", on_outage="lease:3")
    house.budget("ann", cap="10", scope="user=ann")
    assert house.ask("a", amount="3", kind="lease").status == "created"
    assert house.ask("b", amount="3.5", kind="lease").status == "invalid_amount"
    assert house.ask("c", amount="1", kind="lease", user="ann").status == "invalid_amount"
