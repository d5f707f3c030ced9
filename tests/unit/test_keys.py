"""The form of a token: what is one, and what of it is kept."""

from __future__ import annotations

import random
import re

import pytest

from ledger.domain import keys
from ledger.domain.errors import InvalidInput, InvariantViolation


def entropy(seed: int = 1) -> bytes:
    """Return the bytes of a token, the same for the same seed."""
    return random.Random(seed).randbytes(keys.ENTROPY_BYTES)


def test_a_token_has_its_form_and_length_whatever_the_bytes_are() -> None:
    """The smallest and the largest numbers are padded and fit."""
    form = re.compile(r"tbk_(live|test)_[0-9a-z]{13}_[0-9A-Za-z]{49}")
    for made in (bytes(keys.ENTROPY_BYTES), b"\xff" * keys.ENTROPY_BYTES, entropy()):
        for mode in keys.MODES:
            token = keys.mint(mode, made)
            assert form.fullmatch(token)
            assert len(token) == keys.TOKEN_LENGTH
            assert keys.id_of(token) == token.split("_")[2]


def test_different_bytes_make_different_tokens() -> None:
    """No byte of the entropy is thrown away: changing any one changes the token."""
    base = entropy()
    seen = {keys.mint("live", base)}
    for place in range(len(base)):
        changed = bytearray(base)
        changed[place] ^= 1
        seen.add(keys.mint("live", bytes(changed)))
    assert len(seen) == len(base) + 1


@pytest.mark.parametrize("place", range(keys.TOKEN_LENGTH))
def test_one_wrong_character_anywhere_is_seen_without_a_database(place: int) -> None:
    """The checksum covers everything before it."""
    token = keys.mint("live", entropy())
    other = "x" if token[place] != "x" else "y"
    assert keys.id_of(token[:place] + other + token[place + 1 :]) is None


def test_what_is_cut_off_swapped_or_foreign_is_no_token() -> None:
    """Nor is one with a line end, or of another mode."""
    token = keys.mint("live", entropy())
    swapped = token[:30] + token[31] + token[30] + token[32:]
    assert swapped != token
    for text in ("", "tbk_", token[:-1], token + "0", token + "\n", swapped, token.upper()):
        assert keys.id_of(text) is None
    assert keys.id_of(token.replace("live", "test")) is None
    assert keys.id_of(token.replace("live", "prod")) is None


def test_a_token_is_made_only_of_enough_randomness() -> None:
    """Too few bytes, or an unknown mode, is a defect of the caller."""
    with pytest.raises(InvariantViolation, match="random bytes"):
        keys.mint("live", bytes(keys.ENTROPY_BYTES - 1))
    with pytest.raises(InvariantViolation, match="mode"):
        keys.mint("prod", entropy())


def test_a_digest_can_be_made_of_anything_that_was_sent() -> None:
    """Half a surrogate pair too, which no token has."""
    assert keys.digest("\ud800") != keys.digest("\ud801")


def test_networks_are_in_cidr_form() -> None:
    """A bare address is a network of one; bits behind the prefix are a mistake."""
    assert str(keys.read_network("192.0.2.7")) == "192.0.2.7/32"
    assert str(keys.read_network("2001:db8::/32")) == "2001:db8::/32"
    for text in ("192.0.2.7/24", "example.org", "", "10.0.0.0/33"):
        with pytest.raises(InvalidInput) as caught:
            keys.read_network(text)
        assert caught.value.code == "invalid_networks"


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("192.0.3.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_an_address_is_inside_whichever_way_it_is_written(address: str, inside: bool) -> None:
    """IPv4 in IPv6 form is IPv4; what is no address is nowhere."""
    networks = (keys.read_network("192.0.2.0/24"), keys.read_network("2001:db8::/32"))
    assert keys.is_inside(address, networks) is inside
