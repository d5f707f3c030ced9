"""The audit log and the uses of keys, in memory and on PostgreSQL alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from adapters.bootstrap import Tallybook
from adapters.memory import MemoryAuditLog, MemoryKeyUses
from adapters.postgres.audit_log import PostgresAuditLog, PostgresKeyUses
from adapters.postgres.database import Database
from ledger.application.audit_log import MAX_DETAIL_BYTES, AuditLog
from ledger.application.documents.audit import audit_document
from ledger.application.key_uses import KeyUse
from ledger.domain.errors import InvalidInput, InvariantViolation
from ledger.domain.keys import ENTROPY_BYTES, mint

DAY = 86_400_000_000
TODAY = 20_800
START = TODAY * DAY


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest) -> Iterator[tuple[AuditLog, Any]]:
    """Give an empty log and empty uses of each kind; the tenants acme and globex exist."""
    if request.param == "memory":
        yield AuditLog(MemoryAuditLog(lambda: time.time_ns() // 1000)), MemoryKeyUses()
        return
    tallybook = Tallybook(Database(request.getfixturevalue("database_url")))
    for tenant in ("acme", "globex"):
        tallybook.tenants.open(tenant)
    lines, uses = PostgresAuditLog(tallybook.database), PostgresKeyUses(tallybook.database)
    yield AuditLog(lines), uses
    lines.close()
    uses.close()
    tallybook.close()


@pytest.fixture
def log(stores: tuple[AuditLog, Any]) -> AuditLog:
    """Give the log."""
    return stores[0]


@pytest.fixture
def uses(stores: tuple[AuditLog, Any]) -> Any:
    """Give the uses."""
    return stores[1]


def write(log: AuditLog, act: str = "budget.set", **members: Any) -> None:
    """Write a line."""
    log.write(act=act, **({"who": "ann", "via": "cli"} | members))


def test_a_line_says_who_did_what_when_and_from_where(log: AuditLog) -> None:
    """Every member comes back; the time is the database's."""
    before = time.time_ns() // 1000 - 60_000_000
    log.write(
        act="key.revoked",
        who="key:0123456789abc",
        via="http",
        tenant="acme",
        target="k",
        request_id="r-1",
        address="192.0.2.1",
        outcome="key_busy",
        detail={
            "reason": "leaked",
            "limit": Decimal("1.50"),
            "at": datetime(2026, 1, 1, tzinfo=UTC),
        },
    )
    [line] = log.list()
    shown = audit_document(line)
    assert before < line.at < before + 600_000_000
    assert shown | {"number": 0, "at": ""} == {
        "number": 0,
        "at": "",
        "tenant": "acme",
        "act": "key.revoked",
        "who": "key:0123456789abc",
        "via": "http",
        "target": "k",
        "request_id": "r-1",
        "address": "192.0.2.1",
        "outcome": "key_busy",
        "detail": {"reason": "leaked", "limit": "1.5", "at": "2026-01-01T00:00:00Z"},
    }


def test_lines_are_listed_from_the_newest_page_by_page(log: AuditLog) -> None:
    """A page begins before the last number of the one before."""
    for number in range(7):
        write(log, target=str(number))
    targets, before = [], None
    for _ in range(4):
        page = log.list(before=before, limit=2)
        targets += [line.target for line in page]
        before = page[-1].number if page else before
    assert targets == ["6", "5", "4", "3", "2", "1", "0"]


def test_lines_are_filtered_by_act_or_its_noun_by_who_and_by_tenant(log: AuditLog) -> None:
    """A noun is not a prefix; the platform is the empty name."""
    write(log, "key.issued", tenant="acme")
    write(log, "key.revoked", who="bob")
    write(log, "keys.other", tenant="globex")
    assert [line.act for line in log.list(act="key")] == ["key.revoked", "key.issued"]
    assert [line.act for line in log.list(act="key.issued")] == ["key.issued"]
    assert log.list(act="ke") == []
    assert [line.act for line in log.list(who="bob")] == ["key.revoked"]
    assert [line.act for line in log.list(tenant="acme")] == ["key.issued"]
    assert [line.act for line in log.list(tenant="")] == ["key.revoked"]
    assert log.list(tenant="acme", act="key.revoked") == []


def test_a_tenants_view_has_its_own_lines_alone(log: AuditLog) -> None:
    """Whatever it asks for."""
    write(log, tenant="acme", target="a")
    write(log, tenant="globex", target="g")
    write(log, target="p")
    view = log.for_tenant("acme")
    assert [line.target for line in view.list()] == ["a"]
    assert view.list(tenant="globex") == view.list(tenant="") == []
    assert len(log.list()) == 3


def test_what_is_about_a_tenant_without_a_ledger_is_found_by_its_name(log: AuditLog) -> None:
    """As a key is that was issued before the first usage; from then on the tenant sees it too."""
    write(log, "key.issued", tenant="later")
    assert [line.tenant for line in log.list(tenant="later")] == ["later"]
    assert log.list(tenant="") == []


def test_no_secret_gets_into_a_line(log: AuditLog) -> None:
    """Wherever it stands, however deep, and mistyped too; the id stays."""
    token = mint("live", bytes(range(ENTROPY_BYTES)))
    secret, id = token.split("_")[3], token.split("_")[2]
    mistyped = token[:-3]
    log.write(
        act="key.issued",
        who=token,
        via="cli",
        target=f"of {token}!",
        request_id=mistyped,
        detail={"deep": [{"note": f"see {token}", token: 1}]},
    )
    [line] = log.list()
    assert secret[:8] not in repr(line)
    assert repr(line).count(f"tbk_live_{id}_…") == 5


def test_odd_text_is_kept_readable_and_long_detail_is_left_out(log: AuditLog) -> None:
    """Control characters, NUL and half a surrogate pair break no line, nor do odd values."""
    write(log, who="a\x00n\nn\ud800", target="x" * 5_000, detail={"t\x00": "\ud800\n"})
    write(log, detail={"long": ["x" * 400] * (MAX_DETAIL_BYTES // 300)})
    write(log, detail={"odd": object()})
    odd, long, text = log.list()
    assert odd.detail == {"left_out": "not plain"}
    assert long.detail == {"left_out": "too long"}
    assert text.who == "a\ufffdn\ufffdn\ufffd"
    assert len(text.target) == 512
    assert text.detail == {"t\ufffd": "\ufffd\ufffd"}


@pytest.mark.parametrize("act", ["", "budget", "Budget.set", "budget.set.again", "a b.c"])
def test_an_act_has_a_noun_and_a_participle(log: AuditLog, act: str) -> None:
    """Another form is a defect of the interface."""
    with pytest.raises(InvariantViolation):
        write(log, act)
    with pytest.raises(InvariantViolation):
        write(log, via="fax")
    assert log.list() == []


def test_bad_questions_are_refused(log: AuditLog) -> None:
    """By the name of what is wrong."""
    for members, code in (
        ({"limit": 0}, "invalid_limit"),
        ({"limit": 1_001}, "invalid_limit"),
        ({"act": "key%"}, "invalid_act"),
    ):
        with pytest.raises(InvalidInput) as caught:
            log.list(**members)  # type: ignore[arg-type] # of several kinds
        assert caught.value.code == code


def use(**members: Any) -> KeyUse:
    """Return uses of a key."""
    return KeyUse(
        **(
            {
                "tenant": "acme",
                "key": "k1",
                "day": TODAY,
                "route": "/v2/events",
                "status": 2,
                "uses": 1,
                "first_at": START + 5,
                "last_at": START + 9,
            }
            | members
        )
    )


def test_uses_of_the_same_add_up_and_others_stand_apart(uses: Any) -> None:
    """Written by one process or by several; times are the first and the last."""
    uses.add([use(uses=3), use(route="/v2/holds"), use(status=4, uses=2)])
    uses.add([use(uses=4, first_at=START + 1, last_at=START + 7)])
    later = START + 3 * DAY
    uses.add([use(day=TODAY + 3, first_at=later, last_at=later + 1)])
    found = {(one.route, one.status): one for one in uses.report()}
    assert {place: one.uses for place, one in found.items()} == {
        ("/v2/events", 2): 8,
        ("/v2/holds", 2): 1,
        ("/v2/events", 4): 2,
    }
    total = found["/v2/events", 2]
    assert (total.first_at, total.last_at) == (START + 1, later + 1)
    assert uses.report()[0] == total


def test_uses_are_reported_day_by_day(uses: Any) -> None:
    """Each day's are a row where that is asked for."""
    uses.add([use(uses=2), use(uses=3, day=TODAY + 1, last_at=START + DAY)])
    found = [(str(one.day), one.uses) for one in uses.report(daily=True)]
    assert found == [("2026-12-14", 3), ("2026-12-13", 2)]
    assert [(one.day, one.uses) for one in uses.report()] == [(None, 5)]


def test_uses_are_reported_by_key_tenant_and_time(uses: Any) -> None:
    """A day counts as long as its last use does; the platform is the empty name."""
    uses.add([use(), use(key="k2", tenant="globex"), use(key="k3", tenant="")])
    assert [one.key for one in uses.report(key="k2")] == ["k2"]
    assert [one.key for one in uses.report(tenant="acme")] == ["k1"]
    assert [one.key for one in uses.report(tenant="")] == ["k3"]
    assert len(uses.report(since=START + 9)) == 3
    assert uses.report(since=START + 10) == []
    assert [one.key for one in uses.report(routes=["/v2/events"], tenant="acme")] == ["k1"]
    assert uses.report(routes=["/v2/holds"]) == uses.report(routes=[]) == []
    assert len(uses.report(limit=2)) == 2


def test_a_tenants_view_has_the_uses_of_its_own_keys_alone(uses: Any) -> None:
    """Whatever it asks for."""
    uses.add([use(), use(key="k2", tenant="globex"), use(key="k3", tenant="")])
    view = uses.for_tenant("acme")
    assert [one.key for one in view.report()] == ["k1"]
    assert view.report(tenant="globex") == []
    assert view.report(key="k2") == []
