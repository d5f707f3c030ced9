"""Named queries: the statements of ``sql/*.sql``, each under a ``-- name:`` line.

Values go in as parameters; identifiers, where one varies, through `psycopg.sql`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from psycopg.sql import SQL

from ledger.domain.errors import InvariantViolation

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, SQL]:
    """Return the statements of ``sql/<file>.sql`` by name."""
    text = files(__package__).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise InvariantViolation(f"a query of {file}.sql is defined twice")
    # The files ship with the package, so their text is as trusted as code.
    return {name: SQL(body.strip().rstrip(";")) for name, body in zip(names, bodies, strict=True)}
