"""API keys: the form of a token, what a key is, and when it opens something.

A token is ``tbk_<live|test>_<id>_<secret><checksum>``, always `TOKEN_LENGTH` characters. The id is
no secret; the secret has 256 bits; the checksum lets a scanner, and the server without asking a
database, tell a token from a typing error. Of a token only `digest` is stored. A fast hash will
do: nobody can guess 256 random bits, however fast each guess is. docs/spec/keys.md.
"""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from zlib import crc32

import msgspec

from ledger.domain.errors import InvalidInput, InvariantViolation

MODES = ("live", "test")
"""Where a key belongs; not what it may do."""
ID_BYTES = 8
SECRET_BYTES = 32
ENTROPY_BYTES = ID_BYTES + SECRET_BYTES
"""Random bytes that a token is made of."""
ID_LENGTH = 13
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
TOKEN_LENGTH = 4 + 5 + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
"""Characters of every token."""

ACTIVE = "active"
EXPIRED = "expired"
REVOKED = "revoked"

Network = IPv4Network | IPv6Network

# Base 36 and base 62: digits, then upper, then lower case letters.
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(
    rf"tbk_(live|test)_([0-9a-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}",
    re.ASCII,
)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it stands.

    Attributes:
        id: names the key; no secret.
        mode: one of `MODES`.
        tenant: whose data it opens; None for a key of the platform.
        scopes: what it may do, sorted.
        name: for people.
        note: likewise; may be empty.
        networks: addresses that may use it, in CIDR form; empty for all.
        per_second: sustained requests a second; 0 for no limit.
        burst: most requests at once; 0 where there is no limit.
        digest: of its token.
        issued_at: microseconds since the epoch.
        issued_by: who asked for it.
        expires_at: first instant at which it opens nothing; None for never.
        revoked_at: when it was revoked; None while it is not.
        revoked_by: who did; "" while it is not.
        reason: why.
        predecessor: id of the key that it replaces; "" if it replaces none.
        successor: id of the key that replaces it; "" while none does.
    """

    id: str
    mode: str
    tenant: str | None
    scopes: tuple[str, ...]
    name: str
    note: str
    networks: tuple[str, ...]
    per_second: int
    burst: int
    digest: bytes
    issued_at: int
    issued_by: str
    expires_at: int | None
    revoked_at: int | None = None
    revoked_by: str = ""
    reason: str = ""
    predecessor: str = ""
    successor: str = ""

    def status(self, now: int) -> str:
        """Return ``active``, ``expired`` or ``revoked``; the last outweighs the second."""
        if self.revoked_at is not None:
            return REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return EXPIRED
        return ACTIVE

    def opens(self, token_digest: bytes) -> bool:
        """Tell whether a token is this key's, in a time that does not tell how nearly it is."""
        return compare_digest(self.digest, token_digest)


def mint(mode: str, entropy: bytes) -> str:
    """Return a new token.

    Args:
        mode: one of `MODES`.
        entropy: `ENTROPY_BYTES` bytes from a generator made for secrets.

    Raises:
        InvariantViolation: there are too few bytes, or the mode is none.
    """
    if len(entropy) != ENTROPY_BYTES or mode not in MODES:
        raise InvariantViolation(f"a token needs {ENTROPY_BYTES} random bytes and a mode")
    id = id_from(entropy[:ID_BYTES])
    secret = _digits(entropy[ID_BYTES:], _ALPHABET, SECRET_LENGTH)
    body = f"tbk_{mode}_{id}_{secret}"
    return body + _checksum(body)


def id_from(entropy: bytes) -> str:
    """Return the id that `ID_BYTES` bytes make."""
    return _digits(entropy, _ID_ALPHABET, ID_LENGTH)


def id_of(token: str) -> str | None:
    """Return the id in a token; None if form or checksum are not a token's."""
    match = _TOKEN.fullmatch(token)
    if match is None or _checksum(token[:-CHECKSUM_LENGTH]) != token[-CHECKSUM_LENGTH:]:
        return None
    return match[2]


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token, which is what is stored of it."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_id(text: str) -> bool:
    """Tell whether a text has the form of a key's id."""
    return len(text) == ID_LENGTH and all(one in _ID_ALPHABET for one in text)


def read_network(text: str) -> Network:
    """Return a network in CIDR form; a bare address is a network of one.

    Raises:
        InvalidInput: ``invalid_networks``.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text[:60]!r} is no network; give such as 192.0.2.0/24 or 2001:db8::/32, with no bits"
            " set behind the prefix",
            code="invalid_networks",
        ) from error


def is_inside(address: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an address is in one of some networks.

    An IPv4 address in IPv6 form counts as the IPv4 address. What is no address is in none.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _checksum(body: str) -> str:
    return _digits(crc32(body.encode()).to_bytes(4, "big"), _ALPHABET, CHECKSUM_LENGTH)


def _digits(number: bytes, alphabet: str, length: int) -> str:
    rest = int.from_bytes(number, "big")
    digits = []
    for _ in range(length):
        rest, digit = divmod(rest, len(alphabet))
        digits.append(alphabet[digit])
    return "".join(reversed(digits))
