"""docs/spec/keys.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from ledger.application import audited, key_terms, keyring, verify
from ledger.application import keys as use_cases
from ledger.application.access import SCOPES
from ledger.application.audit_log import MAX_DETAIL_BYTES
from ledger.domain import keys

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "keys.md").read_text(encoding="utf-8")
TEXT = " ".join(SPEC.split())


def test_the_token_shown_is_well_formed_and_found_by_the_scanners_pattern() -> None:
    """So whoever builds a scanner has an example that is right."""
    [pattern] = re.findall(r"For scanners: `([^`]+)`", SPEC)
    [token] = re.findall(r"^tbk_\S+$", SPEC, re.MULTILINE)
    assert re.fullmatch(pattern, token)
    assert keys.id_of(token) is not None
    assert f"always {keys.TOKEN_LENGTH} characters" in SPEC


def test_the_spec_lists_every_act_and_no_other() -> None:
    """Whoever filters the audit log can rely on it."""
    acts = {act.name for member in audited._ACTS.values() for act in member.values()}
    listed = re.findall(r"`([a-z_]+\.[a-z_]+)`", SPEC.partition("## 6.")[2])
    assert set(listed) == acts | {verify.ACT}


def test_the_spec_names_the_scopes_and_the_numbers() -> None:
    """A change of one is a change of the other."""
    assert all(f"`{scope}`" in SPEC for scope in SCOPES)
    for said in (
        f"{use_cases.OVERLAP_S // 3600} h unless said, at most {use_cases.MAX_OVERLAP_S // 86400}",
        f"(up to {key_terms.MAX_NETWORKS})",
        f"**{keyring.BOUND_S:.0f} seconds after its commit at the latest**",
        f"in the last {keyring.HEARD_S:.0f} seconds",
        f"else for {keyring.UNWATCHED_S:.0f} second",
        f"The last {keyring.MAX_REFUSED:,} that opened nothing are remembered",
        f"remembered for {keyring.WATCHED_S:.0f} s, and {keyring.MAX_KNOWN:,} keys",
        f"at most {MAX_DETAIL_BYTES // 1024} KiB",
    ):
        assert said in TEXT, said
