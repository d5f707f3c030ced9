"""Databases that tests have used, made as their template is again.

To copy a database takes hundreds of files, to empty one takes none. What cannot be put back with
certainty (another schema, other settings, much data, somebody still connected) is not.
"""

from __future__ import annotations

import json
import time

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

_MANY_ROWS = 5_000
"""Rows that are deleted stay as dead ones, which slow down who comes next."""
_GONE_S = 0.2
"""How long closed connections may take to be gone."""
_OURS = 16384
"""Objects below are PostgreSQL's own."""
_SCHEMA = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
    SELECT format('class %s %s %s %s %s %s %s', oid, relname, relkind, relrowsecurity,
        relforcerowsecurity, relacl, reloptions) FROM pg_class WHERE oid >= {ours}
    UNION ALL SELECT format('column %s %s %s %s %s %s', attrelid, attnum, attname, atttypid,
        attnotnull, attisdropped) FROM pg_attribute WHERE attrelid >= {ours}
    UNION ALL SELECT format('default %s %s', oid, adbin) FROM pg_attrdef
    UNION ALL SELECT format('function %s %s %s %s', oid, proname, md5(prosrc), proacl)
        FROM pg_proc WHERE oid >= {ours}
    UNION ALL SELECT format('trigger %s %s', oid, tgenabled) FROM pg_trigger WHERE oid >= {ours}
    UNION ALL SELECT format('constraint %s %s', oid, convalidated)
        FROM pg_constraint WHERE oid >= {ours}
    UNION ALL SELECT format('policy %s %s', oid, polroles) FROM pg_policy
    UNION ALL SELECT format('rule %s', oid) FROM pg_rewrite WHERE oid >= {ours}
    UNION ALL SELECT format('namespace %s %s %s', oid, nspname, nspacl) FROM pg_namespace
        WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT format('extension %s', oid) FROM pg_extension
    UNION ALL SELECT format('setting %s', setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS lines (line)
"""
_TABLES = """
SELECT relnamespace::regnamespace::text, relname FROM pg_class
WHERE relkind = 'r' AND oid >= 16384 ORDER BY oid
"""
_SEQUENCES = "SELECT schemaname, sequencename FROM pg_sequences ORDER BY 1, 2"
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Emptier:
    """Empties copies of a template.

    Args:
        template_url: of the template, where nobody else is connected.
    """

    def __init__(self, template_url: str) -> None:
        self._schema_query = SQL(_SCHEMA).format(ours=Literal(_OURS))
        with psycopg.connect(template_url, autocommit=True) as connection:
            self._schema = self._schema_of(connection)
            self._tables = [Identifier(*names) for names in connection.execute(_TABLES).fetchall()]
            self._restores = self._restores_of(connection)

    def empty(self, url: str) -> bool:
        """Make a database as the template is; False where it may not be that.

        Args:
            url: of the database.
        """
        with psycopg.connect(url, autocommit=True) as connection:
            if not self._is_left(connection) or self._schema_of(connection) != self._schema:
                return False
            with connection.transaction():
                # Neither guards of rows that never change nor references have a say here.
                connection.execute("SET LOCAL session_replication_role = replica")
                rows = 0
                for table in self._tables:
                    rows += connection.execute(SQL("DELETE FROM {}").format(table)).rowcount
                if rows > _MANY_ROWS:
                    return False
                for restore in self._restores:
                    connection.execute(restore)
        return True

    def _schema_of(self, connection: psycopg.Connection) -> object:
        return connection.execute(self._schema_query).fetchone()

    def _restores_of(self, connection: psycopg.Connection) -> list[Composed]:
        """Return what puts rows and sequences back as the template has them."""
        made = []
        for table in self._tables:
            found = connection.execute(
                SQL("SELECT jsonb_agg(to_jsonb(one)) FROM {} AS one").format(table)
            ).fetchone()
            if found is not None and found[0] is not None:
                made.append(
                    SQL(
                        "INSERT INTO {0} OVERRIDING SYSTEM VALUE"
                        " SELECT * FROM jsonb_populate_recordset(NULL::{0}, {1}::jsonb)"
                    ).format(table, Literal(json.dumps(found[0])))
                )
        for names in connection.execute(_SEQUENCES).fetchall():
            sequence = Identifier(*names)
            found = connection.execute(
                SQL("SELECT last_value, is_called FROM {}").format(sequence)
            ).fetchone()
            if found is not None:
                made.append(
                    SQL("SELECT setval({}::regclass, {}, {})").format(
                        Literal(sequence.as_string()), Literal(found[0]), Literal(found[1])
                    )
                )
        return made

    @staticmethod
    def _is_left(connection: psycopg.Connection) -> bool:
        """Return whether everybody else is gone, or soon is."""
        end = time.monotonic() + _GONE_S
        while connection.execute(_OTHERS).fetchone() != (0,):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True
