"""Checks of the members of plain documents, each raising `InvalidInput` with code and pointer.

A document is a mapping of str to plain values: str, int, bool, `Decimal`, list, mapping and aware
datetime, as JSON (with numbers read as int or `Decimal`) or Python gives them. A float is never
read: it is not what somebody wrote. The code of a bad member is ``invalid_`` and the name of the
document's own member, whatever is wrong inside it; the pointer says where inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS, STANDARD_METERS
from ledger.domain.money import AMOUNT_DECIMALS, decimals_of, minor_units, to_scaled
from ledger.domain.periods import EARLIEST_US, LATEST_US, to_us
from ledger.domain.usage import MAX_LABELS, MAX_TEXT, escape_pointer, read_quantities

AMOUNT_LIMIT = 10**18
"""Amounts and quantities are below this number of units."""
MAX_PATTERNS = 100
"""Most patterns of each list of a filter."""

Scaled = tuple[dict[str, str], tuple[int, ...], int]
"""Canonical quantities, the same as integers, and their decimals."""
Check = Callable[[object, str], Any]
"""Reads a value at a JSON pointer; the pointer's first token names the member."""

_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)
_PLAIN = re.compile(r"([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)


def fail(pointer: str, message: str) -> NoReturn:
    """Raise that the value at a pointer is wrong.

    Raises:
        InvalidInput: ``invalid_<first token of the pointer>``, always.
    """
    member = pointer[1:].partition("/")[0]
    raise InvalidInput(f"{pointer}: {message}", code=f"invalid_{member}", pointer=pointer)


def shown(value: object) -> str:
    """Return a value for a message: short, whatever it is."""
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"a value of type {type(value).__name__}"


def token(name: object) -> str:
    """Return a member's name as a token of a JSON pointer that can be encoded as UTF-8."""
    text = name if isinstance(name, str) else type(name).__name__
    return escape_pointer(text).encode("utf-8", "replace").decode()


def read_members(
    document: object,
    checks: Mapping[str, Check],
    *,
    required: Collection[str] = (),
    pointer: str = "",
) -> dict[str, Any]:
    """Return those members that a document has, each as its check returns it.

    Args:
        document: what was sent.
        checks: by name of the member, in the order in which they are looked at.
        required: names that may not be missing.
        pointer: to the document, where it is part of another.

    Raises:
        InvalidInput: ``unknown_member``; ``invalid_<member>`` for a bad or missing one;
            ``invalid_document`` for what is no mapping.
    """
    if not isinstance(document, Mapping):
        if pointer:
            fail(pointer, f"give an object, not {shown(document)}")
        raise InvalidInput(
            f"give an object, not {shown(document)}", code="invalid_document", pointer=""
        )
    for name in document:
        if name not in checks:
            raise InvalidInput(
                f"there is no member {shown(name)} here; there are {', '.join(checks)}",
                code="unknown_member",
                pointer=f"{pointer}/{token(name)}",
            )
    values = {}
    for name, check in checks.items():
        at = f"{pointer}/{name}"
        if name in document:
            values[name] = check(document[name], at)
        elif name in required:
            fail(at, "is missing")
    return values


def text(value: object, pointer: str) -> str:
    """Return text of at most 256 characters without control characters; "" is text."""
    if not isinstance(value, str):
        fail(pointer, f"give text, not {shown(value)}")
    if len(value) > MAX_TEXT:
        fail(pointer, f"has {len(value)} characters; at most {MAX_TEXT} are possible")
    if not value.isprintable():
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
            fail(pointer, "holds control characters")
        if any(0xD800 <= ord(c) < 0xE000 for c in value):
            fail(pointer, "holds half of a surrogate pair, which is no character")
    return value if type(value) is str else str.__str__(value)


def name(value: object, pointer: str) -> str:
    """Return an id or a name: text that is not empty."""
    found = text(value, pointer)
    if not found:
        fail(pointer, "is empty; give 1 to 256 characters")
    return found


def flag(value: object, pointer: str) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        fail(pointer, f"give true or false, not {shown(value)}")
    return value


def choice(*possible: str) -> Check:
    """Return a check that takes one of these words and returns that very object.

    msgspec leaves a default out of what it writes by identity, so equal words must be one object.
    """
    words = {word: word for word in possible}

    def check(value: object, pointer: str) -> str:
        word = words.get(value) if isinstance(value, str) else None
        if word is None:
            fail(pointer, f"give {' or '.join(possible)}, not {shown(value)}")
        return word

    return check


def whole(low: int, high: int) -> Check:
    """Return a check that takes an integer from ``low`` to ``high``."""

    def check(value: object, pointer: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            fail(pointer, f"give a whole number from {low} to {high}")
        return value

    return check


def is_plain(text: str) -> bool:
    """Tell whether a text is a plain decimal without a sign: digits, or digits, a point, digits."""
    return _PLAIN.fullmatch(text) is not None


def scaled(value: object, pointer: str, decimals: int) -> int:
    """Return a number >= 0 and below 10^18 x 10^decimals.

    Args:
        value: int, `Decimal`, or plain decimal text: digits, or digits, a point and digits.
        pointer: to it.
        decimals: most decimals that it may have; trailing zeros do not count.

    Raises:
        InvalidInput: it is something else, negative, too large or too precise.
    """
    if type(value) is int:
        if 0 <= value < AMOUNT_LIMIT:
            return int(value * 10**decimals)
        fail(pointer, "give a number from 0 to below 10^18")
    if isinstance(value, str):
        match = _PLAIN.fullmatch(value)
        if match is None:
            fail(pointer, f"{shown(value)} is not plain decimal text, such as 0.25")
        rest = (match[2] or "").rstrip("0")
        if len(rest) > decimals:
            fail(pointer, f"has more than {decimals} decimals, the most that are kept here")
        number = int(match[1] + rest.ljust(decimals, "0"))
        if number >= AMOUNT_LIMIT * 10**decimals:
            fail(pointer, "give a number from 0 to below 10^18")
        return number
    if not isinstance(value, Decimal):
        fail(pointer, f"give a whole number or decimal text, not {shown(value)}")
    if not value.is_finite() or not 0 <= value < AMOUNT_LIMIT:
        fail(pointer, "give a number from 0 to below 10^18")
    if decimals_of(value) > decimals:
        fail(pointer, f"has more than {decimals} decimals, the most that are kept here")
    return to_scaled(value, decimals) if value else 0


def money(value: object, pointer: str) -> int:
    """Return an amount of money x 10^18."""
    return scaled(value, pointer, AMOUNT_DECIMALS)


def quantity(value: object, pointer: str) -> int:
    """Return a quantity x 10^6."""
    return scaled(value, pointer, QUANTITY_DECIMALS)


def seconds(low: int, high: int) -> Check:
    """Return a check that takes ``low`` to ``high`` seconds and returns microseconds."""

    def check(value: object, pointer: str) -> int:
        number = scaled(value, pointer, 6)
        if not low * 1_000_000 <= number <= high * 1_000_000:
            fail(pointer, f"give {low} to {high} seconds")
        return number

    return check


def instant(value: object, pointer: str) -> int:
    """Return an instant from 2000 to before 2100 as microseconds since the epoch.

    Args:
        value: RFC 3339 text with an offset, or an aware datetime.
        pointer: to it.
    """
    try:
        at = msgspec.convert(value, datetime) if isinstance(value, str) else value
    except msgspec.ValidationError:
        at = None
    if not isinstance(at, datetime) or at.utcoffset() is None:
        fail(pointer, "give a time as in RFC 3339 with an offset, such as 2026-11-03T12:00:00Z")
    found = to_us(at)
    if not EARLIEST_US <= found < LATEST_US:
        fail(pointer, "is not between the years 2000 and 2100")
    return found


def day(value: object, pointer: str) -> date:
    """Return a day of the years 2000 to 2099; text as YYYY-MM-DD."""
    try:
        found = date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        found = None
    if found is None or not _FIRST_DAY <= found <= _LAST_DAY:
        fail(pointer, "give a day as 2026-11-01, from 2000 to 2099")
    return found


def currency(value: object, pointer: str) -> str:
    """Return an ISO 4217 code; "" is one that is not given."""
    found = text(value, pointer)
    if found:
        try:
            minor_units(found)
        except InvalidInput as error:
            fail(pointer, error.message)
    return found


def labels(value: object, pointer: str) -> dict[str, str]:
    """Return labels sorted by name."""
    if not isinstance(value, Mapping):
        fail(pointer, f"give an object of texts, not {shown(value)}")
    if len(value) > MAX_LABELS:
        fail(pointer, f"has {len(value)} labels; at most {MAX_LABELS} are possible")
    found = {}
    for key, content in value.items():
        at = f"{pointer}/{token(key)}"
        found[name(key, at)] = text(content, at)
    return dict(sorted(found.items()))


def names(most: int) -> Check:
    """Return a check that takes a list of at most ``most`` names and returns each once, sorted."""

    def check(value: object, pointer: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            fail(pointer, f"give a list of names, not {shown(value)}")
        if len(value) > most:
            fail(pointer, f"has {len(value)} names; at most {most} are possible")
        found = {name(one, f"{pointer}/{place}") for place, one in enumerate(value)}
        return tuple(sorted(found))

    return check


def patterns(most: int = MAX_PATTERNS, *, meters: bool = False) -> Check:
    """Return a check that takes names of which each may end in ``*``.

    Args:
        most: patterns of the list.
        meters: each must match a meter that exists.
    """
    listed = names(most)

    def check(value: object, pointer: str) -> tuple[str, ...]:
        found: tuple[str, ...] = listed(value, pointer)
        for one in found:
            if "*" in one[:-1]:
                fail(pointer, f"{shown(one)} has a * that is not its last character")
            if meters and not has_meter(one):
                fail(pointer, f"no meter is {shown(one)}; docs/spec/metering.md lists them")
        return found

    return check


def has_meter(pattern: str) -> bool:
    """Tell whether a meter exists that is this or, for a ``*`` at the end, starts so."""
    if not pattern.endswith("*"):
        return pattern in STANDARD_METERS
    return any(meter.startswith(pattern[:-1]) for meter in STANDARD_METERS)


def quantities(value: object, pointer: str) -> Scaled:
    """Return quantities in canonical form and as integers; at least one."""
    if not isinstance(value, Mapping):
        fail(pointer, f"give an object of meters and numbers, not {shown(value)}")
    numbers: dict[str, int | Decimal] = {}
    for meter, number in value.items():
        at = f"{pointer}/{token(meter)}"
        if not isinstance(meter, str):
            fail(at, "the name of a meter is text")
        if isinstance(number, str):
            if len(number) > MAX_TEXT or _PLAIN.fullmatch(number) is None:
                fail(at, f"{shown(number)} is not plain decimal text, such as 0.25")
            numbers[meter] = Decimal(number)
        elif type(number) is int or isinstance(number, Decimal):
            numbers[meter] = number
        else:
            fail(at, f"give a whole number or decimal text, not {shown(number)}")
    try:
        return read_quantities(numbers, pointer=pointer)
    except InvalidInput as error:
        raise remapped(error) from None


def remapped(error: InvalidInput) -> InvalidInput:
    """Return an error about quantities under the code of their member, its pointer kept."""
    pointer = error.pointer.encode("utf-8", "replace").decode()
    return InvalidInput(error.message, code="invalid_quantities", pointer=pointer)
