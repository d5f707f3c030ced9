"""Details of billing: parties that exist, and taxes that lines have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from fakes.billing_world import BillingWorld, Clock, memory_world
from typer.testing import CliRunner

from adapters.cli import invoices
from ledger.application.documents.plans import details_document, details_from_json
from ledger.domain.billing_account import BillingAccount, BillingDetails
from ledger.domain.billing_decisions import set_details
from ledger.domain.countries import COUNTRIES, check_country
from ledger.domain.errors import InvalidInput
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.money import minor_units

CLOCK = Clock()
TAX = {"category": "S", "percent": "19"}


def test_countries_are_those_of_the_list_that_comes_with_time_zones() -> None:
    """All of them and no other, whatever is added to the standard one day."""
    listed = files("tzdata.zoneinfo").joinpath("iso3166.tab").read_text("utf-8").splitlines()
    assert {line.split("\t")[0] for line in listed if not line.startswith("#")} == COUNTRIES


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("UK", "GB is meant"),
        ("EL", "GR is meant"),
        ("de", "DE is meant"),
        ("ZZ", "such as DE"),
        ("EU", "such as DE"),
        ("DEU", "such as DE"),
        ("D\u00c9", "such as DE"),
        ("XK", "such as DE"),
        (" ", "such as DE"),
    ],
)
def test_a_country_that_is_none_is_refused_with_what_may_be_meant(given: str, hint: str) -> None:
    """Also one that only looks like one, or that another list has."""
    document = json.dumps({"party": {"name": "Acme", "country": given}})
    with pytest.raises(InvalidInput, match=hint) as caught:
        set_details(BillingAccount(), details_from_json(document))
    assert (caught.value.code, caught.value.pointer) == ("invalid_details", "/party/country")
    with pytest.raises(InvalidInput) as caught:
        check_country(given, pointer="/x", error="e")
    assert (caught.value.code, caught.value.pointer) == ("e", "/x")


@pytest.mark.parametrize("party", [{"name": ""}, {}, {"name": " "}, {"address": ["1 Street"]}])
def test_a_party_that_is_given_has_a_name(party: dict[str, Any]) -> None:
    """An empty one too, which cannot be told from none once it is read."""
    with pytest.raises(InvalidInput) as caught:
        set_details(BillingAccount(), details_from_json(json.dumps({"party": party})))
    assert (caught.value.code, caught.value.pointer) == ("invalid_details", "/party/name")


def test_details_that_were_shown_can_be_set_again() -> None:
    """None too: a party that is not there is not shown as an empty one."""
    for said in ("{}", '{"party": {"name": "Acme", "country": "DE"}, "series": "DE"}'):
        details = details_from_json(said)
        shown = json.dumps(details_document(details), default=str)
        assert details_from_json(shown) == details


def test_a_currency_that_is_none_is_refused_where_it_stands() -> None:
    """By the list of ISO 4217, not by form."""
    for code in ("EUX", "eur", "XXX", "EURO", ""):
        displays = [{"currency": "USD", "rate": "1"}, {"currency": code, "rate": "1"}]
        with pytest.raises(InvalidInput) as caught:
            set_details(BillingAccount(), details_from_json(json.dumps({"displays": displays})))
        assert (caught.value.code, caught.value.pointer) == (
            "unknown_currency",
            "/displays/1/currency",
        )
    assert [minor_units(one) for one in ("EUR", "JPY", "KWD")] == [2, 0, 3]


@pytest.fixture
def world() -> Iterator[BillingWorld]:
    """Give acme on a plan with the lines base and tokens, and globex at list prices."""
    CLOCK.set("2026-11-15")
    with memory_world(CLOCK) as made:
        made.publish()
        for tenant in ("acme", "globex"):
            made.open(tenant)
            made.use(tenant, "2026-11-05T10:00:00Z", tokens_input=2000)
        made.subscriptions.subscribe("acme", "team", from_day=date(2026, 11, 1), by="ann")
        yield made


def taxed(world: BillingWorld, tenant: str, *names: str) -> None:
    """Give a tenant taxes of lines."""
    said = json.dumps({"line_taxes": dict.fromkeys(names, TAX)})
    world.subscriptions.set_details(tenant, details_from_json(said), by="ann")


def told(warnings: Any) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return code, tenant, invoice and names of warnings."""
    return [(one.code, one.tenant, one.invoice, one.names) for one in warnings]


def test_taxes_that_no_line_of_a_draft_has_are_told_before_it_is_final(
    world: BillingWorld,
) -> None:
    """By the preview, the close, the draft and lists of it; not once the tax is fixed."""
    taxed(world, "acme", "base", "tokns", "Base")
    taxed(world, "globex", "tokens")
    preview = world.periods.preview("acme", day=date(2026, 11, 20))
    assert preview is not None
    code, id = "unused_line_taxes", "2026-11-01"
    [warning] = world.periods.preview_warnings(preview)
    assert told([warning]) == [(code, "acme", id, ("Base", "tokns"))]
    assert "which no line of 2026-11-01 is; its lines are called base, tokens" in warning.detail
    CLOCK.set("2026-12-04")
    report = world.periods.close(by="ann")
    both = [(code, "acme", id, ("Base", "tokns")), (code, "globex", id, ("tokens",))]
    assert told(report.warnings) == both
    assert "have no names, at list prices" in report.warnings[1].detail
    assert told(world.invoicing.warnings(world.invoicing.list())) == both
    assert told(world.invoicing.invoice("acme", id).warnings) == both[:1]
    assert world.periods.close(by="ann").warnings == []
    taxed(world, "acme", "base", "tokens")
    assert world.invoicing.invoice("acme", id).warnings == []
    taxed(world, "acme", "tokns")
    final = world.invoicing.finalize("acme", id, by="ann")
    assert (final.status, final.warnings) == (InvoiceStatus.FINALIZED, ())
    assert told(world.invoicing.warnings(world.invoicing.list())) == both[1:]
    assert world.periods.preview_warnings(None) == []


def test_the_platforms_taxes_of_lines_are_no_slip_of_a_tenant(world: BillingWorld) -> None:
    """They are for the plans of all tenants, of which each has some."""
    said = details_from_json(json.dumps({"line_taxes": {"other": TAX}}))
    world.invoicing.set_settings(said, by="ann")
    preview = world.periods.preview("acme")
    assert world.periods.preview_warnings(preview) == []
    assert BillingDetails().line_taxes == {}


def test_the_preview_tells_people_and_programs(world: BillingWorld) -> None:
    """On standard error, and as ``warnings``."""

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield SimpleNamespace(periods=world.periods, invoicing=world.invoicing)

    taxed(world, "acme", "tokns")
    app = typer.Typer()
    invoices.register(app, open_services)
    ask = ["invoice", "preview", "-t", "acme"]
    people, program = (CliRunner().invoke(app, [*ask, *more]) for more in ([], ["--json"]))
    assert (people.exit_code, program.exit_code) == (0, 0), people.output
    assert "warning [unused_line_taxes]: line_taxes of acme are for tokns" in people.stderr
    [warning] = json.loads(program.stdout)["warnings"]
    assert (warning["code"], warning["names"], warning["amount"]) == (
        "unused_line_taxes",
        ["tokns"],
        None,
    )
