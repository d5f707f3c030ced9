"""Countries: the codes of ISO 3166-1 alpha-2, which parties of invoices have.

A list and no library: it has a few hundred letters and changes once in years, while the libraries
bring every subdivision and its translations. A test compares it with the list of the IANA, which
comes with the time zones.
"""

from __future__ import annotations

from ledger.domain.errors import InvalidInput

_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO "
    "BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ "
    "DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM "
    "FO "  # codespell:ignore
    "FR GA GB GD GE GF GG GH GI GL GM GN GP "
    "GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG "
    "KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML "
    "MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE "
    "PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL "
    "SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM "
    "US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW "
)
COUNTRIES = frozenset(_CODES.split())
"""Officially assigned codes, as of 2024."""
_MEANT = {"UK": "GB", "EL": "GR", "XI": "GB"}
"""Codes of other lists that people give: who is meant."""


def check_country(code: str, *, pointer: str, error: str) -> None:
    """Check a country's code.

    Args:
        code: as given.
        pointer: to its place in the document.
        error: code of the error.

    Raises:
        InvalidInput: there is no such country.
    """
    if code in COUNTRIES:
        return
    meant = _MEANT.get(code.upper()) or (code.upper() if code.upper() in COUNTRIES else "")
    hint = f"; {meant} is meant?" if meant else ", such as DE"
    raise InvalidInput(
        f"{code[:64]!r} is no country of ISO 3166-1; give its two capital letters{hint}",
        code=error,
        pointer=pointer,
    )
