"""Model names: a name that is priced means itself; else the first clause that holds decides."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain.errors import InvalidInput
from ledger.domain.matching import ModelNames, holds
from ledger.domain.prices import ModelMatch


@pytest.mark.parametrize(
    ("clause", "holding", "failing"),
    [
        ({"equals": "GPT-4o"}, "gpt-4O", "gpt-4o-mini"),
        ({"starts_with": "gpt"}, "GPT-5", "my-gpt"),
        ({"ends_with": "-mini"}, "gpt-MINI", "mini-gpt"),
        ({"contains": "haiku"}, "claude-Haiku-4", "claude-opus"),
        ({"regex": r"^gpt-\d+$"}, "GPT-5", "gpt-5x"),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", "c"),
        ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, "a-z", "a-y"),
        ({"and": []}, "anything", None),
        ({"or": []}, None, "anything"),
    ],
)
def test_clauses_hold_whatever_the_case(
    clause: dict[str, Any], holding: str | None, failing: str | None
) -> None:
    """Each kind of clause, and a name for which it does and does not hold."""
    assert holding is None or holds(clause, holding)
    assert failing is None or not holds(clause, failing)


@pytest.mark.parametrize(
    "clause", [{}, {"equals": "a", "contains": "b"}, {"sounds_like": "a"}, {"or": [{}]}]
)
def test_a_clause_of_no_known_form_is_refused(clause: dict[str, Any]) -> None:
    """It says so instead of never matching."""
    with pytest.raises(InvalidInput) as refused:
        holds(clause, "a")
    assert refused.value.code == "invalid_match"


def test_clauses_nested_too_deeply_are_refused() -> None:
    """A source cannot make looking a name up slow."""
    clause: dict[str, Any] = {"equals": "a"}
    for _ in range(20):
        clause = {"or": [clause]}
    with pytest.raises(InvalidInput):
        holds(clause, "a")


def _match(model: str, start: str, *, provider: str = "openai") -> ModelMatch:
    return ModelMatch(provider=provider, model=model, clause={"starts_with": start})


KNOWN = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("google", "gemini")]


@pytest.mark.parametrize(
    ("provider", "name", "means"),
    [
        ("openai", "gpt-4o-mini", "gpt-4o-mini"),
        ("openai", "gpt-4o-mini-2026", "gpt-4o-mini"),
        ("openai", "gpt-4o-2026", "gpt-4o"),
        ("openai", "gemini", "gemini"),
        ("google", "gpt-4o-2026", "gpt-4o-2026"),
        ("openai", "unknown", "unknown"),
    ],
)
def test_a_name_means_itself_or_what_the_first_holding_clause_says(
    provider: str, name: str, means: str
) -> None:
    """Order decides between clauses; those of other providers and of unpriced models do not."""
    names = ModelNames(
        [
            _match("unpriced", "gpt"),
            _match("gpt-4o-mini", "gpt-4o-mini"),
            _match("gpt-4o", "gpt-4o"),
            _match("gemini", "gemini", provider="google"),
        ],
        known=KNOWN,
    )
    assert names.resolve(provider, name) == means
    assert names.resolve(provider, name) == means
