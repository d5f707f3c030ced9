"""How commands are given the use cases.

A command module has one function ``register(app, open_services)``; it opens the services only
when a command runs, so that ``--help`` needs no database.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ledger.application.services import Services

OpenServices = Callable[[], AbstractContextManager[Services]]
"""Opens the database (starting the embedded one if there is no other) and wires the use cases."""
