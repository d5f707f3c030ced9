"""Texts and numbers as an invoice shows them: cleaned, grouped, exact.

Whatever a name holds, it is shown as text and nothing else: control characters and those that
turn the direction of writing go, and words that no column can hold may be broken.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal

from ledger.domain.invoice_parts import ServiceDays
from ledger.domain.money import minor_units, text

WIDEST = 32
"""Small letters whose room a word may take in one piece; in more it gets places to break.

Such a place is a character that whoever copies the word copies too, so few words should have it:
names of models are broken at their hyphens anyway.
"""
_PIECE = 12
_UNGROUPED = 3
"""Characters of a whole number that needs no grouping."""
BREAK = "\u200b"
"""Has no width, and a line may end there."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# C0 and C1 controls, line and paragraph separators: a blank.
_BLANKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What reorders or hides text, byte-order marks, and characters that are none.
_GONE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]")
_JOINT = re.compile(r"(?<=[./_:@,])")
_WORD = re.compile(r"[^\s-]+")


def clean(value: str) -> str:
    """Return a text of one line that shows what it says and can be broken anywhere it must."""
    if value.isascii() and value.isprintable() and all(map(_is_short, value.split(" "))):
        return value  # as most are
    value = value.encode("utf-8", "replace").decode("utf-8")
    value = " ".join(_GONE.sub("", _BLANKS.sub(" ", value)).split())
    return _WORD.sub(lambda found: _breakable(found[0]), value)


def _is_short(word: str) -> bool:
    return 0 < 2 * len(word) <= WIDEST or (len(word) <= WIDEST and word.islower())


def shortened(value: str, length: int) -> str:
    """Return a text as `clean` does, cut to so many characters where there is room for no more."""
    value = clean(value).replace(BREAK, "")
    return value if len(value) <= length else f"{value[: length - 1]}\u2026"


def _breakable(word: str) -> str:
    if 2 * len(word) <= WIDEST:
        return word
    # Two small letters take about the room of a capital.
    if len(word) + sum(letter.isupper() for letter in word) <= WIDEST:
        return word
    return BREAK.join(
        piece[start : start + _PIECE]
        for piece in _JOINT.split(word)
        for start in range(0, len(piece), _PIECE)
    )


def number(value: Decimal, *, decimals: int = 0) -> str:
    """Return a decimal in full, thousands grouped, with at least so many decimals: 1,234.50."""
    whole, _, fraction = text(value).partition(".")
    if len(whole) > _UNGROUPED:
        whole = f"{Decimal(whole):,f}"
    whole = whole.replace("-", "\u2212")
    if len(fraction) < decimals:
        fraction = fraction.ljust(decimals, "0")
    return f"{whole}.{fraction}" if fraction else whole


def amount(value: Decimal, currency: str) -> str:
    """Return an amount with the decimals of its currency, or more where it has more."""
    return number(value, decimals=minor_units(currency))


def day(value: date) -> str:
    """Return a day: 1 Nov 2026."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def days(value: ServiceDays) -> str:
    """Return first and last day, both inclusive as people read them: 1 Nov 2026 to 30 Nov 2026."""
    last = value.after_day - timedelta(days=1)
    if last <= value.first_day:
        return day(value.first_day)
    return f"{day(value.first_day)} \u2013 {day(last)}"
