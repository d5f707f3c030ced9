"""What both clients are told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from adapters.client.wire import Retry

DEFAULT_URL = "http://127.0.0.1:8787"
URL_VARIABLE = "TALLYBOOK_URL"
KEY_VARIABLE = "TALLYBOOK_KEY"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the server is and how patient to be.

    Attributes:
        url: of the server; the environment's TALLYBOOK_URL, or 127.0.0.1:8787.
        key: token of a key; the environment's TALLYBOOK_KEY when left out.
        tenant: whose ledger, for keys of the platform; of one call it can be said too.
        source: of usage events that are made here.
        timeout_s: for one attempt; connecting may take at most 5 s of it.
        retry: how attempts are repeated.
        spool: file in which waits what cannot be sent; None raises instead.
        spool_fsync: whether entries of the spool survive the loss of power.
        spool_max_bytes: most bytes that wait.
    """

    url: str = field(default_factory=lambda: os.environ.get(URL_VARIABLE, DEFAULT_URL))
    key: str = field(default_factory=lambda: os.environ.get(KEY_VARIABLE, ""), repr=False)
    tenant: str = ""
    source: str = "gateway"
    timeout_s: float = 10.0
    retry: Retry = field(default_factory=Retry)
    spool: Path | str | None = None
    spool_fsync: bool = True
    spool_max_bytes: int = 1024 * 1024 * 1024
