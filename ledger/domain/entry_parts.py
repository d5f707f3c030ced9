"""What entries of several kinds have in common."""

from __future__ import annotations

import msgspec


class Extra(
    msgspec.Struct,
    gc=False,
    frozen=True,
    omit_defaults=True,
    rename={
        "api_key": "k",
        "conversation": "c",
        "hold": "h",
        "labels": "l",
        "plugin": "g",
        "project": "p",
        "raw": "w",
        "request_id": "r",
        "session": "s",
        "time_defaulted": "t",
        "user": "u",
        "leaf_charges": "x",
        "leaf_costs": "y",
        "fingerprint": "f",
        "credit": "b",
        "owed": "o",
        "leaf_before": "q",
    },
):
    """What an entry has beyond its shape; absent members take no space.

    Attributes:
        leaf_charges: charges by leaf, kept where they depend on the session's history.
        leaf_costs: costs by leaf, likewise.
        raw: provider's usage object as JSON.
        credit: what grants paid of the charge x 10^18, by grant number.
        owed: what required credit did not cover x 10^18.
        leaf_before: by leaf, what a plan's charge held before x 10^6; 0 for a leaf with a rate.
        fingerprint: of the capture that recorded the usage, where that took its key.
        time_defaulted: the producer gave no time and the server's was taken.
    """

    api_key: str = ""
    conversation: str = ""
    hold: str = ""
    labels: dict[str, str] = {}
    plugin: str = ""
    project: str = ""
    raw: bytes = b""
    request_id: str = ""
    session: str = ""
    time_defaulted: bool = False
    user: str = ""
    leaf_charges: tuple[int, ...] = ()
    leaf_costs: tuple[int, ...] = ()
    fingerprint: bytes = b""
    credit: tuple[tuple[int, int], ...] = ()
    owed: int = 0
    leaf_before: tuple[int, ...] = ()
