"""The composition root: the one place that knows every adapter and wires the use cases.

As a library: `open_ledger`. As a command: ``tallybook`` (`main`).
"""

from adapters.bootstrap.command_line import build, main
from adapters.bootstrap.ledger import (
    LEASE_KEY_VARIABLE,
    Tallybook,
    lease_keys,
    open_ledger,
    tune_process,
)
from adapters.bootstrap.server import http_app

__all__ = [
    "LEASE_KEY_VARIABLE",
    "Tallybook",
    "build",
    "http_app",
    "lease_keys",
    "main",
    "open_ledger",
    "tune_process",
]
