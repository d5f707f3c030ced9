"""Log lines hold no secret, whatever part of them it came in by."""

from __future__ import annotations

import pytest

from adapters.http.logs import redact, trace_of
from ledger.domain.errors import Unavailable

TOKEN = "tbk_live_0123456789abc_SECRETsecretSECRETsecret"


@pytest.mark.parametrize(
    "line",
    [
        f'{{"request_id":"{TOKEN}"}}',
        f"two {TOKEN} and {TOKEN}",
        "Authorization: bearer SECRET",
        '{"authorization":"Bearer SECRET"}',
        "postgresql://tallybook:SECRET@host/ledger",
        "host=x password=SECRET user=y",
        "host=x password='SECRET' user=y",
    ],
)
def test_tokens_and_passwords_are_taken_out_of_a_line(line: str) -> None:
    """What names a key or a place stays."""
    shown = redact(line)
    assert "SECRET" not in shown.upper()
    assert "***" in shown


def test_a_trace_says_where_and_what_but_shows_no_value() -> None:
    """Libraries quote what they were given, and PostgreSQL adds the row that it refuses."""

    def refuse() -> None:
        try:
            int("SECRET")
        except ValueError as cause:
            raise RuntimeError(
                'row of "ledger_holds" cannot be written, and that\'s it\nDETAIL: (acme, SECRET)'
            ) from cause

    with pytest.raises(RuntimeError) as caught:
        refuse()
    shown = trace_of(caught.value)
    assert "row of … cannot be written, and that's it" in shown
    assert "ValueError: invalid literal for int() with base 10: …" in shown
    assert "in refuse" in shown
    # Lines of source, which are indented, are code and not what was given.
    said = [line for line in shown.splitlines() if not line.startswith(" ")]
    assert not any("SECRET" in line or "DETAIL" in line for line in said)


def test_what_the_ledger_itself_says_is_shown() -> None:
    """Its messages are made for people, and have a code."""
    error = Unavailable("the database does not answer", code="connection_lost")
    assert trace_of(error) == "Unavailable: connection_lost: the database does not answer"
